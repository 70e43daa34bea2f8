"""Tasks in a table that pages from the store."""

from textual.app import ComposeResult
from textual.binding import Binding

from pilotmtc.model import Task
from pilotmtc.session import command_line, describe_end
from pilotmtc.session.filtering import parse_filter
from pilotmtc.tui.base import Base
from pilotmtc.tui.table import Cell, Table
from pilotmtc.tui.words import right, span, task_state
from pilotmtc.wire.messages import GetTasks

_PAGE = 100


class TasksScreen(Base):
    """The tasks that a filter finds."""

    BINDINGS = [Binding("escape", "app.pop_screen", "Back")]

    def __init__(self, filter_: str) -> None:
        super().__init__()
        self._filter = filter_

    def body(self) -> ComposeResult:
        """Make the table."""
        yield Table(("TASK", "STATE", "TRY", "ELAPSED", "COMMAND", "HOW IT ENDED"), id="tasks")

    @property
    def place(self) -> str:
        """What the first line says of where one is."""
        return f"tasks {self._filter}".strip()

    def on_board(self) -> None:
        """Look again."""
        self.begin(self._load())

    async def _load(self) -> None:
        page = await self.mtc.gateway.ask(GetTasks(parse_filter(self._filter), limit=_PAGE))
        self.query_one("#tasks", Table).fill({str(task.id): _row(task) for task in page.tasks})

    def on_data_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open the task that the cursor is on."""
        self.mtc.open_task(int(event.row_key.value or 0))


def _row(task: Task) -> tuple[Cell, ...]:
    return (
        right(str(task.id)), task_state(task.state), right(str(task.attempt)),
        right(span(task.last.elapsed_s) if task.last else ""), command_line(task),
        describe_end(task.last) if task.last else "",
    )  # fmt: skip
