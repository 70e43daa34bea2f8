"""What is loaded of a filter's tasks, page by page, and how it stays what the filter and the order say."""

import math
import time
from functools import partial

from textual.widgets import Static

from pilotmtc.errors import UsageError
from pilotmtc.model import Task, TaskId
from pilotmtc.protocol.records import Filter
from pilotmtc.session.look.filter import parse_filter
from pilotmtc.states import TaskState
from pilotmtc.tui.actions.tasks import TaskActions
from pilotmtc.tui.widgets.filter_input import FilterBox
from pilotmtc.tui.widgets.tables.listing import HELD, ORDERS, PAGE, Listing, known_count
from pilotmtc.tui.widgets.tables.task_table import TaskTable

_NEAR = 100  # this near to an end of the loaded rows, the next page is fetched
_PAUSE_S = 1.0  # between two refreshes of visible rows
_SHARE = 10  # a slow refresh is followed by a pause of so many times its duration
_DRAW_S = 0.5  # between two drawings while all tasks are read
_FOLLOWED = 100
_LEFT_S = 3.0  # how long tasks that have left the filter stay in sight


class LiveTasks(TaskActions):
    """A screen with a table of tasks, which asks the store for more and for what has changed."""

    def __init__(self, filter_: str, *, write: bool = False) -> None:
        super().__init__()
        self._write = write
        self._filter = filter_
        self._listing = Listing(Filter())  # the shown tasks
        self._coming: Listing | None = None  # the tasks to show next, of which none are loaded yet
        self._shown_filter = ""  # the filter of the shown tasks
        self._paging: Listing | None = None
        self._marked: dict[TaskId, Task] = {}
        self._follows = False
        self._looked_at = 0.0  # when visible rows were last requested, by the monotonic clock
        self._looking = False
        self._pause_s = _PAUSE_S
        self._total = 0  # number of the store's tasks when the end was reached
        self._drawn_at = 0.0
        self._left: dict[TaskId, float] = {}  # tasks that have left the filter: until when they are shown
        self._gone = ""  # why the store knows nothing of these tasks any more
        self._scanned_at = self._scan_s = 0.0  # when all tasks were last read for an order by value; how long it took

    @property
    def _table(self) -> TaskTable:
        return self.query_one("#tasks", TaskTable)

    @property
    def _current(self) -> Task | None:
        """The task under the cursor; None, with a notification, while other tasks are being loaded."""
        if self._coming is not None:
            self.notify("Other tasks are being loaded.", timeout=3)
            return None
        current = self._table.current
        return None if current is None else self._listing.rows.get(TaskId(int(current)))

    # -- paging -----------------------------------------------------------------------------------------------

    def _restart(self, order: str) -> None:
        self._left.clear()
        self._gone = ""
        self._coming = Listing(parse_filter(self._filter), order)
        self._page(self._coming, up=False)
        self._show_found()

    def _page(self, listing: Listing, *, up: bool) -> None:
        self._paging = listing
        self.begin(partial(self._fetch, listing, up=up), "page")

    async def _fetch(self, listing: Listing, *, up: bool) -> None:
        """Load one page, or all pages if the order is by value."""
        first, keep, got = not listing.rows, bool(listing.rows), 0
        began = time.monotonic()
        total = sum(self.board.tasks.values())
        try:
            while True:
                page = await self.mtc.gateway.do(listing.page_before() if up else listing.next_page())
                if up:
                    listing.take_before(page)
                else:
                    listing.take_next(page, self.now)
                got += len(page.tasks)
                over = not page.next or (not listing.by_value and got >= PAGE)
                if over or time.monotonic() - self._drawn_at >= _DRAW_S:
                    self._arrive(listing)
                    self._draw(to_top=first, keep=keep)
                    keep = True
                    first = first and listing.by_value  # the largest values may come last
                if over:
                    break
            if not listing.below:
                self._total = total
            if listing.by_value:
                self._scanned_at, self._scan_s = time.monotonic(), time.monotonic() - began
        except UsageError as error:
            if self._coming is listing:
                self._refuse(error)
            else:
                self._lose(error)
        finally:
            if self._paging is listing:
                self._paging = None
                self._show_found()
        self.call_after_refresh(self._page_if_near)

    def _arrive(self, listing: Listing) -> None:
        """Show `listing` if it is still the expected one."""
        if self._coming is listing:
            self._coming, self._listing, self._shown_filter = None, listing, self._filter

    def _refuse(self, error: UsageError) -> None:
        """Go back to the filter of the shown tasks, and show the other filter's error where it was typed."""
        self._coming, self._filter = None, self._shown_filter
        self.query_one("#filter", FilterBox).refuse(str(error), self._shown_filter)
        self.show_status()

    def _lose(self, error: UsageError) -> None:
        """Say once that the store has no such tasks any more, and keep those that are shown in sight."""
        campaign = self._listing.filter.campaign
        self._gone = f"campaign {campaign} was deleted" if isinstance(campaign, int) else str(error)
        self.notify(f"{self._gone[0].upper()}{self._gone[1:]}.", severity="warning", markup=False)
        self._left = dict.fromkeys(self._listing.rows, math.inf)
        self._draw()

    def _page_if_near(self) -> None:
        listing, table = self._listing, self._table
        if self._gone:
            return
        if listing.by_value and self._coming is None and self._paging is not listing:
            near = table.cursor_row + _NEAR >= len(listing.rows)
            if near and listing.below == 0 and len(listing.rows) >= listing.top and listing.top < HELD:
                self.begin(partial(self._scan, min(2 * listing.top, HELD)), "page")
            return
        if self._coming is not None or self._paging is listing or listing.by_value or self._follows:
            return
        top = int(table.scroll_offset.y)
        at_end = top + table.size.height + _NEAR >= len(listing.rows)
        if at_end and (listing.below or (listing.order == "id" and sum(self.board.tasks.values()) > self._total)):
            self._page(listing, up=False)
        elif listing.above and top < _NEAR:
            self._page(listing, up=True)

    def on_task_table_moved(self) -> None:
        """Load more if visible rows are near an end of the loaded ones."""
        self._page_if_near()

    # -- drawing ----------------------------------------------------------------------------------------------

    def _draw(self, *, to_top: bool = False, keep: bool = False) -> None:
        """Show the loaded tasks; with `keep`, existing rows need not be drawn again."""
        table, now = self._table, self.now
        self._drawn_at = time.monotonic()
        kept = table.shown if keep else {}
        held = {str(task.id): task for task in self._listing.rows.values()}
        table.show({key: kept.get(key) or table.row(task, now, self._marked, self._left) for key, task in held.items()})
        if to_top and table.row_count and not self._follows:
            table.move_cursor(row=0)
        self._show_found()

    def _redraw(self, tasks: list[Task]) -> None:
        now = self.now
        for task in tasks:
            self._table.update_row(str(task.id), self._table.row(task, now, self._marked, self._left))

    def _show_found(self) -> None:
        listing = self._coming or self._listing
        if self._gone:
            self.query_one("#found", Static).update(self._gone)
            return
        count = len(listing.rows) if listing.whole else known_count(listing.filter, self.board)
        parts = [f"{count:,} task{'s' * (count != 1)}" if count is not None else f"{len(listing.rows):,} shown of more"]
        if listing.by_value and not listing.whole and count is not None:
            parts = [f"{len(listing.rows):,} of {count:,} tasks"]
        total = sum(self.board.tasks.values())
        if listing is self._coming:
            parts = ["looking"]
        if self._paging is listing and (not listing.rows or listing.by_value) and listing.below > 0 and total:
            done = listing.looked_at if listing.order != "newest" else total - listing.looked_at
            parts = [f"looking: {min(max(done / total, 0.0), 0.99):.0%}"]
        parts.append("following" if self._follows else ORDERS[listing.order])
        if self._marked:
            parts.insert(0, f"● {len(self._marked):,} marked")
        self.query_one("#found", Static).update(" · ".join(parts))

    def on_task_table_resized(self, event: TaskTable.Resized) -> None:
        """Show as many columns as there is room for."""
        if self._table.shape(event.width):
            self._draw()

    def _tick(self) -> None:
        """Update the times of running tasks, without a request."""
        rows = self._listing.rows
        gone = [id_ for id_, until in self._left.items() if until <= time.monotonic()]
        for id_ in gone:
            del self._left[id_]
            rows.pop(id_, None)
        if gone:
            self._draw(keep=True)
        running = [rows[id_] for key in self._table.in_sight if (id_ := TaskId(int(key))) in rows]
        self._redraw([task for task in running if task.state is TaskState.RUNNING])

    # -- news -------------------------------------------------------------------------------------------------

    def on_board(self) -> None:
        """Refresh visible rows, but not too often."""
        if self._looking or self._gone:
            return
        self._looking = True
        self.set_timer(max(self._looked_at + self._pause_s - time.monotonic(), 0.001), self._look_now)

    def _look_now(self) -> None:
        self.begin(self._look, "look")

    async def _look(self) -> None:
        began = self._looked_at = time.monotonic()
        try:
            await (self._follow() if self._follows else self._refresh())
        except UsageError as error:
            if self._filter == self._shown_filter:
                self._lose(error)
            else:
                self._refuse(error)
        finally:
            self._pause_s = max(_PAUSE_S, _SHARE * (time.monotonic() - began))
            self._looking = False

    async def _refresh(self) -> None:
        """Ask again for what is in sight: for its ids, or if tasks come and go, for what the filter finds there."""
        listing = self._listing
        ids = tuple([TaskId(int(key)) for key in self._table.in_sight if TaskId(int(key)) in listing.rows])
        if listing.by_value and time.monotonic() - self._scanned_at >= _SHARE * self._scan_s and not self._paging:
            await self._scan(listing.top)
        elif not ids and (listing.by_value or listing.below):
            pass  # they are being loaded
        elif listing.by_value or (listing.steady and ids):
            await self._look_at(listing, ids)
        else:
            await self._look_from(listing, ids)
        self._show_found()
        self._page_if_near()

    async def _look_at(self, listing: Listing, ids: tuple[TaskId, ...]) -> None:
        page = await self.mtc.gateway.do(lambda session: session.task_page(ids=ids, limit=len(ids)))
        if listing is self._listing:
            self._redraw(listing.take_fresh(page.tasks))
        self._marked.update((task.id, task) for task in page.tasks if task.id in self._marked)
        if len(page.tasks) < len(ids) and listing is self._listing:  # some were deleted
            await (self._scan(listing.top) if listing.by_value else self._look_from(listing, ids))

    async def _look_from(self, listing: Listing, ids: tuple[TaskId, ...]) -> None:
        """Show tasks that have come into the filter, and for some seconds those that have left it."""
        if ids:
            start, query = listing.window(ids[0], max(len(ids), self._table.size.height))
        else:
            start, query = 0, listing.next_page()
        page = await self.mtc.gateway.do(query)
        if listing is not self._listing:
            return
        before = list(listing.rows)
        left = tuple(listing.take_window(start, page))
        for id_ in [one for one in self._left if one not in left]:
            del self._left[id_]
        until = time.monotonic() + _LEFT_S
        for id_ in left:
            self._left.setdefault(id_, until)
        if left:
            gone = await self.mtc.gateway.do(lambda session: session.task_page(ids=left, limit=len(left)))
            if listing is not self._listing:
                return
            listing.take_fresh(gone.tasks)
        self._marked.update((id_, listing.rows[id_]) for id_ in self._marked if id_ in listing.rows)
        if list(listing.rows) == before:
            self._redraw(list(listing.rows.values()))
        else:
            self._draw()

    async def _scan(self, top: int) -> None:
        """Read all tasks again for an order by value, and then show those with the largest values now."""
        before, began = self._listing, time.monotonic()
        fresh = Listing(before.filter, before.order, top)
        while fresh.below:
            fresh.take_next(await self.mtc.gateway.do(fresh.next_page()), self.now)
        self._scanned_at, self._scan_s = time.monotonic(), time.monotonic() - began
        if self._listing is before and self._coming is None:
            self._listing = fresh
            self._draw()

    def on_task_table_at_end(self) -> None:
        """Say where the table ends if it is not the end of all tasks."""
        listing = self._listing
        if listing.by_value and not listing.whole and len(listing.rows) >= HELD:
            self.notify(f"These are the first {len(listing.rows):,}, {ORDERS[listing.order]}: / narrows the filter.")

    async def _follow(self) -> None:
        listing = Listing(parse_filter(self._filter), "newest")
        while listing.below and len(listing.rows) < _FOLLOWED:
            listing.take_next(await self.mtc.gateway.do(listing.next_page()))
        if self._follows:
            at_top = self._table.cursor_row == 0
            self._coming, self._listing, self._shown_filter = None, listing, self._filter
            self._draw()
            if at_top:
                self._table.move_cursor(row=0)

    def changed(self) -> None:
        """Look again: something was done."""
        self._pause_s = 0.0
        self.on_board()
