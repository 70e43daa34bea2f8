"""The screen with the table of tasks, which is loaded page by page."""

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from pilotmtc.model import Task
from pilotmtc.session import Session
from pilotmtc.session.look.filter import FilterError, parse_filter, pointed
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import shorten
from pilotmtc.tui.actions.tasks import CANCEL, EDIT, RETRY
from pilotmtc.tui.screens.task_list import LiveTasks
from pilotmtc.tui.widgets.filter_input import FilterBox
from pilotmtc.tui.widgets.tables.listing import ORDERS
from pilotmtc.tui.widgets.tables.task_table import TaskTable
from pilotmtc.tui.widgets.windows.dialogs import Choice


class TasksScreen(LiveTasks):
    """The tasks of a filter, in a table."""

    HELP = """
    # Tasks

    **/** edits the filter: `state:failed tag:night exit:137 mass>3`; **Tab** completes it. **Space** marks tasks;
    **r**, **c**, **e** and **y** then act on all marked tasks, and **R**, **C**, **E** on all that the filter finds.
    **Enter** opens a task.
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
        Binding("f5", "again", "Look again from the beginning", show=False),
    ]

    def body(self) -> ComposeResult:
        """Compose the filter and the table."""
        with Horizontal(id="filter-line"):
            yield FilterBox(self._filter, id="filter")
            yield Static(id="found", markup=False)
        yield TaskTable(id="tasks")

    def on_mount(self) -> None:
        """Begin."""
        self._table.shape(self.app.size.width)  # before the layout, which would otherwise be done twice
        self._table.focus()
        self.set_interval(1.0, self._tick)
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
        self.begin(self._learn_words(), "words")

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
