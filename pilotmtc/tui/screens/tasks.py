"""The screen with the table of tasks, which is loaded page by page."""

import asyncio
from functools import partial

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.events import Resize
from textual.geometry import Size
from textual.timer import Timer
from textual.widgets import Input, Static

from pilotmtc.errors import UsageError
from pilotmtc.model import Task
from pilotmtc.session import Session
from pilotmtc.session.look.filter import FilterError, parse_filter, pointed, with_states
from pilotmtc.states import TaskState
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import shorten
from pilotmtc.tui.actions.tasks import CANCEL, EDIT, RETRY
from pilotmtc.tui.screens.task_list import LiveTasks
from pilotmtc.tui.widgets.chips import CHIPS, StateChips
from pilotmtc.tui.widgets.filter_input import FilterBox
from pilotmtc.tui.widgets.preview import Preview
from pilotmtc.tui.widgets.tables.listing import ORDERS, known_counts
from pilotmtc.tui.widgets.tables.task_table import TaskTable
from pilotmtc.tui.widgets.windows.dialogs import Choice

_WIDE, _TALL = 140, 36  # from this size on, there is room for the preview
_RESTS_S = 0.15  # so long the cursor rests before its task is read
_PREVIEW_EVERY_S = 2.0


class TasksScreen(LiveTasks):
    """The tasks of a filter, in a table."""

    HELP = """
    # Tasks

    **/** edits the filter: `state:failed tag:night exit:137 mass>3`; **Tab** completes it. **Space** marks tasks;
    **r**, **c**, **e** and **y** then act on all marked tasks, and **R**, **C**, **E** on all that the filter finds.
    **Enter** opens a task. **1** to **6** show the tasks of one state, or again all. **v** shows the task under the
    cursor in a pane.
    """
    BINDINGS = [
        # With priority, so that what is typed right after it goes to the filter, and not to the keys below.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("f", "follow", "Follow"),
        Binding("space", "mark", "Mark", key_display="␣"),
        Binding("a", "mark_all", "Mark all shown, or none", show=False),
        Binding("R", "retry_all", "Retry all that the filter finds", show=False),
        Binding("C", "cancel_all", "Cancel all that the filter finds", show=False),
        Binding("E", "edit_all", "Edit all that the filter finds", show=False),
        Binding("v", "preview", "Preview", show=False),
        *[Binding(str(key), f"state({key})", f"Only {name}", show=False) for key, (name, _) in enumerate(CHIPS, 1)],
        Binding("f5", "again", "Look again from the beginning", show=False),
    ]

    _previewed: tuple[Task, bool] | None = None  # the task in the pane, and whether all of it is there
    _resting: Timer | None = None
    _preview_wanted: bool | None = None  # None: if there is room

    def body(self) -> ComposeResult:
        """Compose the filter and the table."""
        with Horizontal(id="filter-line"):
            yield FilterBox(self._filter, id="filter")
            yield Static(id="found", markup=False)
        yield StateChips(id="chips")
        with Container(id="tasks-and-preview"):
            yield TaskTable(id="tasks")
            yield Preview(id="preview")

    def on_mount(self) -> None:
        """Begin."""
        self._arrange(self.app.size)  # before the layout, which would otherwise be done twice
        self._table.focus()
        self.set_interval(1.0, self._tick)
        self.set_interval(_PREVIEW_EVERY_S, self._preview_again)
        try:
            parse_filter(self._filter)
        except FilterError as error:
            self.notify(pointed(self._filter, error), title="No filter", severity="error", markup=False)
            self._filter = ""
        self._restart("id")
        if self._write:
            self.call_after_refresh(self.action_filter)

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return shorten(f"tasks {plain(self._filter)}".strip(), max(self.size.width - 34, 20))

    def chosen(self) -> list[Task]:
        """Return the marked tasks or, if there are none, the task under the cursor."""
        if self._marked:
            return [self._marked[id_] for id_ in sorted(self._marked)]
        current = self._current
        return [] if current is None else [current]

    # -- states and preview -----------------------------------------------------------------------------------

    def on_resize(self, event: Resize) -> None:
        """Show the preview where there is room."""
        self._arrange(event.size)

    def _arrange(self, size: Size) -> None:
        beside = size.width >= _WIDE
        shown = beside or size.height >= _TALL if self._preview_wanted is None else self._preview_wanted
        self.set_class(shown, "-preview")
        self.set_class(beside, "-beside")
        self._table.shape(size.width * 3 // 5 if shown and beside else size.width)
        self._previewed = None
        self._preview_soon()

    def _show_found(self) -> None:
        super()._show_found()
        filter_ = (self._coming or self._listing).filter
        states = None if filter_.states is None else frozenset(filter_.states)
        self.query_one(StateChips).show(known_counts(filter_, self.board), states)

    def on_board(self) -> None:
        """Show the numbers of the states, too."""
        self._show_found()
        super().on_board()

    def on_data_table_row_highlighted(self) -> None:
        """Show the task under the cursor in the pane, once the cursor rests."""
        self._preview_soon()

    def _preview_soon(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_RESTS_S, self._preview_again)

    def _preview_again(self) -> None:
        """Show what the cursor is on, unless it is there."""
        if not self.has_class("-preview") or not self.is_current or self._coming is not None:
            return
        task = self._current
        whole = task is not None and task.state is not TaskState.RUNNING
        if task is not None and self._previewed != (task, True):
            self._previewed = task, whole
            self.begin(partial(self._preview, task), "preview")

    async def _preview(self, task: Task) -> None:
        try:
            (_, reasons), written = await asyncio.gather(
                self.mtc.gateway.do(lambda session: session.explain(task.id)), self.written(task)
            )
        except UsageError as error:  # it was deleted
            reasons, written = [str(error)], None
        self.query_one(Preview).show(task, reasons, written)

    def action_preview(self) -> None:
        """Show the pane with the task under the cursor, or hide it."""
        self._preview_wanted = not self.has_class("-preview")
        self._arrange(self.size)
        self._draw()

    def action_state(self, number: int) -> None:
        """Show the tasks of one state; of all states if it is that one already."""
        _, states = CHIPS[number - 1]
        now = (self._coming or self._listing).filter.states
        again = now is not None and frozenset(now) == frozenset(states)
        self._filter = with_states(self._filter, () if again else states)
        self.query_one("#filter", FilterBox).show(self._filter)
        self._marked.clear()
        self.show_status()
        self._again()

    # -- keys -------------------------------------------------------------------------------------------------

    def on_data_table_row_selected(self, event: TaskTable.RowSelected) -> None:
        """Open the task under the cursor."""
        if (task := self._current) is not None:
            self.mtc.open_task(task.id)

    def on_data_table_header_selected(self, event: TaskTable.HeaderSelected) -> None:
        """Sort by the clicked column; a second click on the id reverses the order."""
        order = self._table.order_of(event.column_index)
        if order:
            self._sort("newest" if order == "id" == self._listing.order else order)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let a slash be typed in text fields."""
        return action != "filter" or not isinstance(self.focused, Input)

    def action_filter(self) -> None:
        """Edit the filter."""
        self.query_one("#filter", FilterBox).begin()
        self.begin(self._learn_words, "words")

    async def _learn_words(self) -> None:
        words = await self.mtc.gateway.do(Session.vocabulary)
        self.query_one("#filter", FilterBox).vocabulary = replace(
            words, campaigns=tuple(sorted(self.board.campaigns, reverse=True)), pilots=tuple(self.board.pilots)
        )

    def on_filter_box_applied(self, event: FilterBox.Applied) -> None:
        """Show the tasks of the filter."""
        self._table.focus()
        self._filter = event.text.strip()
        self._marked.clear()
        self.show_status()
        self._again()

    def on_filter_box_left(self) -> None:
        """Go back to the tasks."""
        self._table.focus()

    def _again(self) -> None:
        if self._follows:
            self.changed()
        else:
            self._restart(self._listing.order)

    def action_again(self) -> None:
        """Load everything again."""
        self._again()

    def action_sort(self) -> None:
        """Choose the order."""

        def chosen(order: str | None) -> None:
            if order is not None:
                self._sort(order)

        now = self._listing.order
        self.app.push_screen(
            Choice("Sort tasks:", {key: words[0].upper() + words[1:] for key, words in ORDERS.items()}, now), chosen
        )

    def _sort(self, order: str) -> None:
        self._follows = False
        self._restart(order)

    def action_follow(self) -> None:
        """Follow the newest tasks, or stop following."""
        self._follows = not self._follows
        if self._follows:
            self._table.move_cursor(row=0)
            self.changed()
        else:
            self._restart("newest")
        self._show_found()

    def action_first(self) -> None:
        """Go to the beginning."""
        if self._listing.above:
            self._restart(self._listing.order)
        else:
            self._table.move_cursor(row=0)

    def action_last(self) -> None:
        """Go to the end, by reversing the order if the end is not loaded."""
        listing = self._listing
        if listing.below and not listing.by_value and not self._follows:
            self._restart("id" if listing.order == "newest" else "newest")
        else:
            self._table.move_cursor(row=max(self._table.row_count - 1, 0))

    def action_mark(self) -> None:
        """Mark or unmark the task under the cursor, and go to the next one."""
        task = self._current
        if task is None:
            return
        if self._marked.pop(task.id, None) is None:
            self._marked[task.id] = task
        self._redraw([task])
        self._table.action_cursor_down()
        self._show_found()

    def action_mark_all(self) -> None:
        """Mark all loaded tasks; if they are all marked, unmark them."""
        rows = self._listing.rows
        if rows.keys() <= self._marked.keys():
            self._marked.clear()
        else:
            self._marked.update(rows)
        self._draw()

    def action_retry_all(self) -> None:
        """Retry all tasks of the filter."""
        self._begin_operation(RETRY, self._filter)

    def action_cancel_all(self) -> None:
        """Cancel all tasks of the filter."""
        self._begin_operation(CANCEL, self._filter)

    def action_edit_all(self) -> None:
        """Change all tasks of the filter."""
        self._begin_operation(EDIT, self._filter)

    def action_back(self) -> None:
        """Remove all marks; if there are none, go back."""
        if self._marked:
            self._marked.clear()
            self._draw()
        else:
            super().action_back()
