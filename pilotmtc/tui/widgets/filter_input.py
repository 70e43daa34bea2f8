"""The input line for filters: it offers completions, and shows where an error is."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from pilotmtc.session.look.filter import FilterError, Vocabulary, completions, parse_filter, pointed

_OFFERED = 12


class _Completer(Suggester):
    def __init__(self, box: "FilterBox") -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._box = box

    async def get_suggestion(self, value: str) -> str | None:
        return next(iter(completions(value, self._box.vocabulary)), None)


class _Line(Input):
    BINDINGS = [
        Binding("enter", "submit", "Apply"),
        Binding("tab", "complete", "Complete", priority=True),
        Binding("escape", "leave", "Back to the tasks"),
    ]

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Say that keys are letters here, also the one with another meaning in Textual."""
        return key == "slash" or super().check_consume_key(key, character)

    def action_complete(self) -> None:
        """Take the first completion; if there is none, go to the next widget."""
        box = self.parent
        assert isinstance(box, FilterBox)
        offered = completions(self.value, box.vocabulary) if self.cursor_position == len(self.value) else []
        if offered:
            self.value = offered[0]
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()

    def action_leave(self) -> None:
        """Cancel."""
        box = self.parent
        assert isinstance(box, FilterBox)
        box.leave()


class FilterBox(Vertical):
    """A filter with its completions and its error.

    Parameters
    ----------
    text
        The filter at the beginning.
    """

    class Applied(Message):
        """A valid filter was entered."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """The line was left without a change."""

    def __init__(self, text: str, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id)
        self.vocabulary = Vocabulary()
        self._applied = text

    def compose(self) -> ComposeResult:
        """Compose the line."""
        yield _Line(
            self._applied, placeholder="/ to filter: state:failed tag:night mass>3", suggester=_Completer(self),
            compact=True, select_on_focus=False,
        )  # fmt: skip
        yield Static(id="filter-words", markup=False)

    def on_mount(self) -> None:
        """Show no completions yet."""
        self._say("")

    def on_focus(self) -> None:
        """Pass the focus to the line."""
        self.begin()

    def begin(self) -> None:
        """Start editing."""
        line = self.query_one(_Line)
        self.screen.set_focus(line)  # at once: with `focus`, keys that are typed meanwhile would go elsewhere
        line.cursor_position = len(line.value)

    def leave(self) -> None:
        """Cancel."""
        self.query_one(_Line).value = self._applied
        self.post_message(self.Left())
        self.call_after_refresh(self._say, "")

    def show(self, text: str) -> None:
        """Show the filter of the shown tasks, which was not typed here."""
        self._applied = text
        self.query_one(_Line).value = text

    def refuse(self, words: str, applied: str) -> None:
        """Let the user correct a filter that the store has refused; `applied` is the filter of the shown tasks."""
        self._applied = applied
        self.begin()
        self._say(words, wrong=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show completions."""
        event.stop()
        if not event.input.has_focus:
            return
        before = max(event.value.rfind(" "), event.value.rfind("\t")) + 1
        offered = [one[before:] for one in completions(event.value, self.vocabulary)]
        more = "  …" if len(offered) > _OFFERED else ""
        self._say("  ".join(offered[:_OFFERED]) + more)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter, or show its error."""
        event.stop()
        try:
            parse_filter(event.value)
        except FilterError as error:
            self._say(pointed(event.value, error), wrong=True)
            return
        self._say("")
        self._applied = event.value
        self.post_message(self.Applied(event.value))

    def _say(self, words: str, *, wrong: bool = False) -> None:
        static = self.query_one("#filter-words", Static)
        static.update(words)
        static.display = bool(words)
        static.set_class(wrong, "-wrong")
