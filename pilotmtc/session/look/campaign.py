"""What is seen of a campaign from near: what runs, what has ended last, how long its tasks take. Bounded queries."""

import math

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.model import CampaignId, Task
from pilotmtc.protocol.records import Filter
from pilotmtc.report.measure.distribution import distribution
from pilotmtc.report.records import Distribution
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import get_page
from pilotmtc.states import TASK_FINAL, TASK_HELD, TaskState

_ROWS = 12  # tasks that run, and that have ended last
_RECENT = 1000  # ended tasks that are looked at
_PAGES = 8  # each takes a store about 0.02 s, more if many tasks are found
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
    """

    running: tuple[Task, ...] = ()
    ended: tuple[Task, ...] = ()
    durations_s: Distribution = Distribution()


def read_campaign(link: StoreLink, campaign: CampaignId) -> CampaignView:
    """Return a campaign from near, by reading at most about `_RECENT` tasks.

    Tasks start about in order of their ids: those that have ended last are looked for below the newest that runs.
    """
    mine = Filter(campaign=campaign)
    running = get_page(
        link, replace(mine, states=(TaskState.RUNNING,)), size=_ROWS, largest="elapsed_s"
    ).tasks  # fmt: skip
    newest = get_page(link, replace(mine, states=tuple(TASK_HELD)), size=1, newest=True).tasks
    over = replace(mine, states=tuple(TASK_FINAL - {TaskState.SKIPPED}))
    found: list[Task] = []
    after = newest[0].id + 1 if newest else 0
    for _ in range(_PAGES):
        page = get_page(link, over, after=after, size=_RECENT - len(found), newest=True)
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
    )


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
