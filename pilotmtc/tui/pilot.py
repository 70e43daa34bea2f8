"""A pilot from near."""

from textual.app import ComposeResult
from textual.binding import Binding

from pilotmtc.model import PilotId
from pilotmtc.tui.base import Base
from pilotmtc.tui.table import Table
from pilotmtc.tui.words import bar, right
from pilotmtc.wire.views import GetPilotView


class PilotScreen(Base):
    """A pilot from near."""

    BINDINGS = [Binding("escape", "app.pop_screen", "Back")]

    def __init__(self, pilot: int) -> None:
        super().__init__()
        self._number = PilotId(pilot)

    def body(self) -> ComposeResult:
        """Make the table."""
        yield Table(("NODE", "BUSY", "", "LOAD", "NOTE"), id="nodes")

    @property
    def place(self) -> str:
        """What the first line says of where one is."""
        return f"pilot {self._number}"

    def on_board(self) -> None:
        """Look again."""
        self.begin(self._load())

    async def _load(self) -> None:
        view = await self.mtc.gateway.ask(GetPilotView(self._number))
        rows = {
            node.name: (
                node.name, right(f"{node.busy}/{node.cores}"), bar(node.busy / node.cores if node.cores else 0.0, 20),
                right(f"{node.load:.1f}"), node.note,
            )
            for node in view.nodes
        }  # fmt: skip
        self.query_one("#nodes", Table).fill(rows)
