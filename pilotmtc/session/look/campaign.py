"""What is seen of a campaign from near: what runs, what has ended last, how long its tasks take. Bounded queries."""

import math

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.model import CampaignId, Task, TaskId
from pilotmtc.protocol.records import Filter
from pilotmtc.report.measure.distribution import distribution
from pilotmtc.report.records import Distribution
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign
from pilotmtc.session.look.grid import Grid, read_grid
from pilotmtc.session.look.pages import get_page
from pilotmtc.states import TASK_HELD, TaskState

_ROWS = 12  # tasks that run, and that have ended last
_RECENT = 500  # ended tasks that are looked at
_PROBES = 64
_RAN = (TaskState.DONE, TaskState.FAILED, TaskState.CANCELED)
_PAGES = 4  # each takes a store about 0.02 s, more if many tasks are found
_SIGMAS = 2.0
_P10_TO_P90 = 2.56  # standard deviations between them, if values are distributed normally


class CampaignView(Struct, frozen=True):
    """A campaign from near.

    Attributes
    ----------
    running
        Some of the tasks that run, the longest first.
    ended
        Some of the tasks that have ended, the last first.
    durations_s
        Durations of those of the looked-at tasks that are DONE.
    grid
        Its tasks over two of its parameters, if that was asked for and there are two such.
    """

    running: tuple[Task, ...] = ()
    ended: tuple[Task, ...] = ()
    durations_s: Distribution = Distribution()
    grid: Grid | None = None


def read_campaign(link: StoreLink, campaign: CampaignId, *, grid: bool = False) -> CampaignView:
    """Return a campaign from near, by reading at most about `_RECENT` tasks."""
    mine = Filter(campaign=campaign)
    counts = get_campaign(link, campaign).counts
    running: tuple[Task, ...] = ()
    if TaskState.RUNNING in counts:
        wish = replace(mine, states=(TaskState.RUNNING,))
        running = get_page(link, wish, size=_ROWS, largest="elapsed_s").tasks
    found: list[Task] = []
    if any(state in counts for state in _RAN):
        after = _border(link, mine, held=any(state in counts for state in TASK_HELD))
        for _ in range(_PAGES):
            page = get_page(
                link, replace(mine, states=_RAN), after=after, size=_RECENT - len(found), newest=True
            )  # fmt: skip
            found += page.tasks
            after = page.next
            if not after or len(found) >= _RECENT:
                break
    recorded = [(task.last.recorded_at, task.id, task) for task in found if task.last is not None]
    return CampaignView(
        running,
        tuple([task for *_, task in sorted(recorded, reverse=True)[:_ROWS]]),
        distribution(
            task.last.elapsed_s
            for task in found
            if task.state is TaskState.DONE and task.last is not None and not task.last.known_from
        ),
        read_grid(link, campaign) if grid else None,
    )


def _border(link: StoreLink, mine: Filter, *, held: bool) -> int:
    """Return the id below which those tasks probably are that have ended last; 0: all of them.

    Tasks start about in order of their ids. So it is that of the newest one which a pilot holds; if there is none, it
    is looked for in some tasks that are spread evenly, because a million tasks cannot be searched.
    """
    if held:
        newest = get_page(link, replace(mine, states=tuple(TASK_HELD)), size=1, newest=True).tasks
        return newest[0].id + 1 if newest else 0
    ends = [*get_page(link, mine, size=1).tasks, *get_page(link, mine, size=1, newest=True).tasks]
    if len(ends) < 2:
        return 0
    low, high = ends[0].id, ends[1].id
    probes = tuple(sorted({TaskId(low + (high - low) * at // _PROBES) for at in range(_PROBES + 1)}))
    over = [task.id for task in get_page(link, replace(mine, ids=probes)).tasks if task.state in _RAN]
    return next((id_ + 1 for id_ in probes if over and id_ > over[-1]), 0)


def eta_between(eta_s: float, left: int, durations_s: Distribution) -> tuple[float, float] | None:
    """Return between which times a campaign will probably end that needs `eta_s` for the `left` tasks.

    It is as uncertain as the mean of the durations that were measured and the sum of those to come; the last tasks may
    end later than the others by the time that one takes. None: too little was measured.
    """
    if durations_s.count < 2 or durations_s.mean <= 0 or left < 1:
        return None
    spread = (durations_s.p90 - durations_s.p10) / _P10_TO_P90 / durations_s.mean
    error = _SIGMAS * spread * math.sqrt(1 / durations_s.count + 1 / left)
    return eta_s * max(1 - error, 0.0), eta_s * (1 + error) + durations_s.p90
