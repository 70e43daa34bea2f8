"""The window that lists the keys of a screen."""

from collections.abc import Iterator
from inspect import cleandoc

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Markdown, Static

_EVERYWHERE = (
    ("tab", "Next part; arrows, Page Up and Page Down move in it"),
    ("⏎", "Open what the cursor is on"),
    ("^p", "All commands of this screen, by name"),
)


def own_bindings(screen: Screen[object]) -> Iterator[ActiveBinding]:
    """Yield the active keys of this app, without those of Textual's own widgets."""
    for active in screen.active_bindings.values():
        classes = [each for each in type(active.node).__mro__ if each.__module__.startswith("pilotmtc.")]
        bindings = [one for each in classes for one in each.__dict__.get("BINDINGS", ())]
        actions = {one.action for one in bindings if isinstance(one, Binding)}
        if active.enabled and active.binding.description and active.binding.action in actions:
            yield active


class KeysWindow(ModalScreen[None]):
    """Lists the keys of a screen."""

    BINDINGS = [Binding("escape,question_mark,q", "leave", "Close")]

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__()
        self._words = cleandoc(screen.HELP or "")
        self._keys: dict[str, str] = {}  # keys by their action; the screen's own come first
        for own in sorted(own_bindings(screen), key=lambda one: (one.node is screen.app, one.node is not screen)):
            display = screen.app.get_key_display(own.binding)
            before = self._keys.get(own.binding.description)
            displays = before.split(", ") if before else []
            if display not in displays:  # two keys of the keyboard may be one to the user: + with and without Shift
                self._keys[own.binding.description] = ", ".join([*displays, display])

    def compose(self) -> ComposeResult:
        """Compose the window."""
        table = Table.grid(padding=(0, 2))
        for key, description in (*((key, words) for words, key in self._keys.items()), *_EVERYWHERE):
            table.add_row(key, description)
        with VerticalScroll(classes="dialog keys"):
            yield Markdown(self._words)
            yield Static(table)
            yield Static("Escape closes this.", classes="hint")

    def on_mount(self) -> None:
        """Focus it, so that keys scroll it."""
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        """Close the window."""
        self.dismiss(None)
