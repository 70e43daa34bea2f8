"""Dialogs: a question, a choice, and a form."""

from collections.abc import Mapping, Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

_LABEL = 36  # columns; longer texts are wrapped


class Confirm(ModalScreen[bool]):
    """Says what an action will do, and asks for confirmation."""

    BINDINGS = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, what: str, yes: str = "Yes") -> None:
        super().__init__()
        self._what = what
        self._yes = yes

    def compose(self) -> ComposeResult:
        """Make the window."""
        with VerticalScroll(classes="dialog"):
            yield Static(self._what, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._yes} (y)", id="yes", variant="warning")
                yield Button("No (n)", id="no")

    def on_mount(self) -> None:
        """Focus No, so that Enter alone is harmless."""
        self.query("#no").focus()  # not there if the program ends at this moment

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take a click or Enter as the answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Take a key as the answer."""
        self.dismiss(answer)


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
        for options in self.query(OptionList):
            options.highlighted = list(self._options).index(self._now)
            options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Choose this option."""
        self.dismiss(event.option.id)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


class Form(ModalScreen[list[str] | None]):
    """Asks for texts; the result is None if the user cancels.

    Parameters
    ----------
    title
        The title; may have several lines.
    fields
        ``(label, value)`` of each.
    hidden
        Fields whose text must not be visible.
    hints
        Text that is shown in a field while it is empty.
    first
        The field with the focus.
    """

    BINDINGS = [
        Binding("escape", "leave", "Cancel"),
        Binding("ctrl+s", "accept", "Accept"),
        # With priority, so that what is typed right after them goes to the next field.
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Field before", show=False, priority=True),
    ]

    def __init__(
        self, title: str, fields: Sequence[tuple[str, str]], *, hidden: Sequence[bool] = (), hints: Sequence[str] = (),
        yes: str = "OK", first: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._title = title
        self._fields = fields
        self._hidden = hidden or [False] * len(fields)
        self._hints = hints or [""] * len(fields)
        self._yes = yes
        self._first = first

    def compose(self) -> ComposeResult:
        """Make the window."""
        with VerticalScroll(classes="dialog"):
            yield Static(self._title, markup=False)
            width = min(max(len(label) for label, _ in self._fields), _LABEL)
            for (label, value), hidden, hint in zip(self._fields, self._hidden, self._hints, strict=True):
                with Horizontal(classes="field"):
                    name = Label(label, markup=False)
                    name.styles.width = width + 2
                    yield name
                    yield Input(value, placeholder=hint, password=hidden, compact=True)
            with Horizontal(classes="buttons"):
                yield Button(self._yes, id="yes", variant="primary")
                yield Button("Cancel (esc)", id="no")

    def on_mount(self) -> None:
        """Focus the first field."""
        for field in self.query(Input)[self._first :][:1]:
            field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the next field; after the last one, accept the form."""
        if event.input is self.query(Input).last():
            self.action_accept()
        else:
            self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take a click or Enter as the answer."""
        if event.button.id == "yes":
            self.action_accept()
        else:
            self.dismiss(None)

    def action_accept(self) -> None:
        """Accept the form."""
        self.dismiss([field.value for field in self.query(Input)])

    def action_leave(self) -> None:
        """Cancel."""
        self.dismiss(None)


def field_meant(error: str, values: Mapping[str, str]) -> int:
    """Return the index in `values` of the field that an error names, or whose value it quotes; 0 if there is none."""
    word = error.partition(" ")[0]
    for number, (name, value) in enumerate(values.items()):
        if name == word or (value and repr(value.strip()) in error):
            return number
    return 0
