"""A task from near."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from pilotmtc.model import TaskId
from pilotmtc.session.explain import explain
from pilotmtc.tui.base import Base
from pilotmtc.wire.views import Explain


class TaskScreen(Base):
    """A task from near."""

    BINDINGS = [Binding("escape", "app.pop_screen", "Back")]

    def __init__(self, task: int) -> None:
        super().__init__()
        self._number = TaskId(task)

    def body(self) -> ComposeResult:
        """Make the text."""
        yield Static(id="why", markup=False)

    @property
    def place(self) -> str:
        """What the first line says of where one is."""
        return f"task {self._number}"

    def on_board(self) -> None:
        """Look again."""
        self.begin(self._load())

    async def _load(self) -> None:
        found = await self.mtc.gateway.ask(Explain(self._number))
        self.query_one("#why", Static).update("\n".join(explain(found)))
