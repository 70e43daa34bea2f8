"""The tasks of a campaign over two of its parameters: how they ended, and how long they took."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from pilotmtc.model import CampaignId, Task
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign
from pilotmtc.session.look.pages import get_page
from pilotmtc.states import TaskState

COLUMNS, ROWS = 40, 20  # values of the two parameters, at most
_PARTS = 10  # of a campaign that is too large to be read as a whole
_PART = 500  # tasks


class Cell(Struct, frozen=True):
    """The tasks with one pair of values: their states, and the median of the seconds that those which are over took."""

    states: Mapping[TaskState, int]
    elapsed_s: float | None


class Grid(Struct, frozen=True):
    """Tasks over two parameters.

    Attributes
    ----------
    across, down
        Names of the parameters.
    columns, rows
        Their values, in order.
    cells
        By column and row, those with tasks.
    read
        Number of tasks; a large campaign is read in parts that are spread over it.
    """

    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    read: int


def read_grid(link: StoreLink, campaign: CampaignId) -> Grid | None:
    """Return a campaign's tasks over two of its parameters, by reading at most some thousand; see `grid_of`."""
    mine = Filter(campaign=campaign)
    if get_campaign(link, campaign).received <= _PARTS * _PART:
        starts = [0]
        most = _PARTS
    else:
        low, high = (get_page(link, mine, size=1, newest=newest).tasks[0].id for newest in (False, True))
        starts = [low - 1 + (high - low - _PART) * part // (_PARTS - 1) for part in range(_PARTS)]
        most = 1
    found: dict[int, Task] = {}
    for start in starts:
        after = start
        for _ in range(most):
            page = get_page(link, mine, after=after, size=_PART)
            found.update((task.id, task) for task in page.tasks)
            after = page.next
            if not after:
                break
    return grid_of(found.values())


def grid_of(tasks: Iterable[Task]) -> Grid | None:
    """Return tasks over the two parameters with the most values that can be drawn.

    Of tasks with different parameters, those count whose set of names is the most common. None: no two parameters have
    few values, or each value of one goes with only one of the other.
    """
    known = list(tasks)
    values: dict[str, set[str]] = {}
    names = Counter(tuple(task.params) for task in known).most_common(1)
    alike = [task for task in known if tuple(task.params) == names[0][0]]
    for task in alike:
        for name, value in task.params.items():
            values.setdefault(name, set()).add(value)
    fit = sorted((name for name in values if 1 < len(values[name]) <= COLUMNS), key=lambda name: -len(values[name]))
    across = fit[0] if fit else ""
    down = next((name for name in fit[1:] if len(values[name]) <= ROWS), "")
    if not down:
        return None
    states: dict[tuple[str, str], Counter[TaskState]] = {}
    took_s: dict[tuple[str, str], list[float]] = {}
    for task in alike:
        key = task.params[across], task.params[down]
        states.setdefault(key, Counter())[task.state] += 1
        if task.state in (TaskState.DONE, TaskState.FAILED) and task.last is not None:
            took_s.setdefault(key, []).append(task.last.elapsed_s)
    if len(states) <= max(len(values[across]), len(values[down])):
        return None
    cells = {
        key: Cell(dict(counts), statistics.median(took_s[key]) if key in took_s else None)
        for key, counts in states.items()
    }
    return Grid(across, down, _in_order(values[across]), _in_order(values[down]), cells, len(known))


def _in_order(values: Iterable[str]) -> tuple[str, ...]:
    """Return values in the order of their numbers if all are numbers, else as texts."""
    try:
        return tuple(sorted(values, key=float))
    except ValueError:
        return tuple(sorted(values))
