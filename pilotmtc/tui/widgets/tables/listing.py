"""`Listing`: the part of a filter's tasks that is loaded, page by page. Pure."""

from collections.abc import Callable, Iterable, Mapping

from pilotmtc.model import Task, TaskId
from pilotmtc.protocol.client.tasks import Tasks
from pilotmtc.protocol.records import Filter
from pilotmtc.session import Session
from pilotmtc.session.look.overview import Board
from pilotmtc.states import TaskState

PAGE = 150
HELD = 750  # more rows are slow to draw: those farthest from the cursor are dropped, and loaded again when needed
TOP = 200  # number of tasks with the largest values at first; more are read when the cursor comes near their end
MORE = 20  # rows after those in sight that are asked for again with them
ORDERS = {
    "id": "in order of id", "newest": "newest first", "recorded_at": "ended last first",
    "elapsed_s": "longest first", "cpu_s": "most CPU time first", "memory_bytes": "most memory first",
    "priority": "highest priority first",
}  # fmt: skip


PageQuery = Callable[[Session], Tasks]


class Listing:
    """The loaded part of a filter's tasks, in one of `ORDERS`.

    In order of ids, it grows at both ends. In order of a value, all tasks are read, page by page, and those with the
    largest values are kept.

    Attributes
    ----------
    rows
        The loaded tasks, in order.
    above, below
        Where the next requests for earlier and later tasks start; 0: there are none.
    looked_at
        The id up to which all tasks were read.
    top
        How many tasks with the largest values are kept.
    """

    def __init__(self, filter_: Filter, order: str = "id", top: int = TOP) -> None:
        self.top = top
        self.filter = filter_
        self.order = order
        self.rows: dict[TaskId, Task] = {}
        self.above = 0
        self.below = -1  # nothing was requested yet
        self.looked_at = 0

    @property
    def by_value(self) -> bool:
        """Whether the order is by a value."""
        return self.order not in ("id", "newest")

    @property
    def whole(self) -> bool:
        """Whether all tasks of the filter are loaded."""
        return not self.above and not self.below and not (self.by_value and len(self.rows) >= self.top)

    def next_page(self) -> PageQuery:
        """Return the request for the next page."""
        if self.by_value:
            return self._ask(max(self.below, 0), self.top, largest=self.order)
        after = self.below if self.below > 0 else 0
        if not self.below and self.rows:  # for tasks that are newer
            after = list(self.rows)[-1]
        return self._ask(after, PAGE, newest=self.order == "newest")

    def take_next(self, page: Tasks, now: float = 0.0) -> None:
        """Add the next page; `now`, the time on the store's host, is needed for running tasks."""
        self.below = self.looked_at = page.next
        if self.by_value:
            merged = sorted((*self.rows.values(), *page.tasks), key=lambda task: (-self._value(task, now), task.id))
            self.rows = {task.id: task for task in merged[: self.top]}
            return
        self.rows.update((task.id, task) for task in page.tasks)
        if len(self.rows) > HELD:
            ids = list(self.rows)
            ids = ids[len(ids) - HELD + 2 * PAGE :]
            self.above = ids[0]
            self.rows = {id_: self.rows[id_] for id_ in ids}

    def page_before(self) -> PageQuery:
        """Return the request for the page before."""
        return self._ask(self.above, PAGE, newest=self.order != "newest")

    def _ask(self, after: int, limit: int, *, newest: bool = False, largest: str = "") -> PageQuery:
        return lambda session: session.task_page(
            after=after, limit=limit, newest=newest, largest=largest, filter=self.filter
        )

    def take_before(self, page: Tasks) -> None:
        """Add the page before."""
        self.above = page.next
        self.rows = {task.id: task for task in reversed(page.tasks)} | self.rows
        if len(self.rows) > HELD:
            ids = list(self.rows)[: HELD - 2 * PAGE]
            self.below = ids[-1]
            self.rows = {id_: self.rows[id_] for id_ in ids}

    @property
    def steady(self) -> bool:
        """Whether tasks stay in the filter once they are in it."""
        return self.filter == Filter(campaign=self.filter.campaign, ids=self.filter.ids)

    def window(self, first: TaskId, count: int) -> tuple[int, PageQuery]:
        """Return where the rows from `first` on begin, and the request for what is there now."""
        ids = list(self.rows)
        at = ids.index(first)
        start = int(ids[at - 1]) if at else self.above
        return start, self._ask(start, count + MORE, newest=self.order == "newest")

    def take_window(self, start: int, page: Tasks) -> list[TaskId]:
        """Add what is new in a window; return the tasks that have left the filter, which stay in `rows`."""
        newest = self.order == "newest"
        fresh = {task.id: task for task in page.tasks}

        def seen(id_: int) -> bool:
            """Say whether the page says all about an id."""
            after_start = not start or (id_ < start if newest else id_ > start)
            return after_start and (not page.next or (id_ >= page.next if newest else id_ <= page.next))

        left = [id_ for id_ in self.rows if seen(id_) and id_ not in fresh]
        last = next(reversed(self.rows), None)
        if self.below and last is not None:  # what comes after the loaded rows is loaded when it is needed
            fresh = {id_: task for id_, task in fresh.items() if (id_ >= last if newest else id_ <= last)}
        elif page.next and (last is None or (page.next <= last if newest else page.next >= last)):
            self.below = page.next  # there is more than fits into the page
        merged = {**self.rows, **fresh}
        self.rows = {id_: merged[id_] for id_ in sorted(merged, reverse=newest)}
        return left

    def take_fresh(self, tasks: Iterable[Task]) -> list[Task]:
        """Replace loaded tasks by newer records; return those that have changed."""
        changed = [task for task in tasks if task.id in self.rows and self.rows[task.id] != task]
        self.rows.update((task.id, task) for task in changed)
        return changed

    def _value(self, task: Task, now: float) -> float:
        """Return the value by which a task is sorted; tasks without a value come last, as in the store."""
        if self.order == "priority":
            return task.priority
        if self.order == "elapsed_s" and task.state is TaskState.RUNNING and task.started_at is not None:
            return now - task.started_at
        return float(getattr(task.last, self.order)) if task.last else -1.0


def known_counts(filter_: Filter, board: Board) -> Mapping[TaskState, int] | None:
    """Return how many tasks are in which state, of those that a filter finds in any state, if the board knows it."""
    if filter_ != Filter(campaign=filter_.campaign, states=filter_.states):
        return None
    if filter_.campaign is None:
        return board.tasks
    if isinstance(filter_.campaign, tuple) or filter_.campaign not in board.campaigns:
        return None
    return board.campaigns[filter_.campaign].counts


def known_count(filter_: Filter, board: Board) -> int | None:
    """Return the number of a filter's tasks if the board knows it."""
    counts = known_counts(filter_, board)
    if counts is None:
        return None
    return sum(n for state, n in counts.items() if filter_.states is None or state in filter_.states)
