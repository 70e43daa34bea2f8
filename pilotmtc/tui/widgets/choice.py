"""A dialog that offers a choice."""

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class Choice(ModalScreen[str | None]):
    """Asks for one of `options`, which are texts by key; None if none is chosen."""

    BINDINGS = [Binding("escape", "leave", "Cancel")]

    def __init__(self, title: str, options: Mapping[str, str], now: str) -> None:
        super().__init__()
        self._title = title
        self._options = options
        self._now = now

    def compose(self) -> ComposeResult:
        """Compose the dialog."""
        with Vertical(classes="dialog"):
            yield Static(self._title, markup=False)
            yield OptionList(*[Option(words, id=key) for key, words in self._options.items()], markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the present choice."""
        options = self.query_one(OptionList)
        options.highlighted = list(self._options).index(self._now)
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Choose this option."""
        self.dismiss(event.option.id)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
