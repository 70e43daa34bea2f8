"""The window with all notifications so far, the newest first."""

from collections.abc import Sequence
from time import localtime, strftime

from msgspec import Struct
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from pilotmtc.tui.widgets.cells import style

KEPT = 200
_LOOKS = {"error": ("✗", "bold red"), "warning": ("!", "bold yellow")}


class Said(Struct, frozen=True):
    """A notification: when it came (by the clock of this machine), and its words."""

    at: float
    title: str
    text: str
    severity: str


class NoticesWindow(ModalScreen[None]):
    """Lists what was said: notifications leave the screen after some seconds."""

    BINDINGS = [Binding("escape,exclamation_mark,q", "leave", "Close")]

    def __init__(self, said: Sequence[Said]) -> None:
        super().__init__()
        self._said = said

    def compose(self) -> ComposeResult:
        """Compose the window."""
        table = Table.grid(padding=(0, 2))
        for one in reversed(self._said):
            mark, look = _LOOKS.get(one.severity, ("·", ""))
            words = Text(f"{one.title}: {one.text}" if one.title else one.text)
            table.add_row(strftime("%H:%M:%S", localtime(one.at)), Text(mark, style=style(look)), words)
        with VerticalScroll(classes="dialog keys"):
            yield Static("Notices so far, the newest first")
            yield Static(table if self._said else "There were none.", classes="hint")

    def on_mount(self) -> None:
        """Focus it, so that keys scroll it."""
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        """Close the window."""
        self.dismiss(None)
