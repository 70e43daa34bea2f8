"""The last line: the keys of what has the focus, as many as there is room for."""

from rich.text import Text
from textual.app import RenderResult
from textual.binding import Binding
from textual.events import Click
from textual.widget import Widget

from pilotmtc.tui.widgets.cells import style

_GAP = 2


class KeyBar(Widget, can_focus=False):
    """Shows the keys that are to be known; those of the focused widget come first, `?` is always there."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id)
        self._places: list[tuple[int, int, str]] = []  # where each key is drawn: from, to, the key

    def on_mount(self) -> None:
        """Draw again when other keys are active."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> RenderResult:
        """Draw as many keys as fit in one line; those that are the same everywhere are the first to be left out."""
        active = [one for one in self.screen.active_bindings.values() if one.binding.show and one.enabled]
        own = [one for one in active if one.node is not self.app]
        shown: dict[str, Binding] = {}
        for one in [*own, *(one for one in active if one.node is self.app)]:
            shown.setdefault(one.binding.action, one.binding)
        always = [binding for binding in shown.values() if binding.action == "keys"]
        others = [binding for binding in shown.values() if binding.action != "keys"]
        room = self.size.width - 2 - sum(self._width(binding) for binding in always)
        line = Text(" ", no_wrap=True, overflow="ellipsis")
        self._places = []
        for binding in others:
            if (room := room - self._width(binding)) < 0:
                break
            self._add(line, binding)
        for binding in always:
            self._add(line, binding)
        return line

    def _width(self, binding: Binding) -> int:
        return len(self.app.get_key_display(binding)) + 1 + len(binding.description) + _GAP

    def _add(self, line: Text, binding: Binding) -> None:
        start = line.cell_len
        line.append(self.app.get_key_display(binding), style=style("bold cyan")).append(f" {binding.description}")
        self._places.append((start, line.cell_len, binding.key))
        line.append(" " * _GAP)

    def on_click(self, event: Click) -> None:
        """Do what the key that was clicked does."""
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)
