"""The line that a filter is written into: it completes, and says what is wrong and where."""

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
        """Say that the keys are letters here: Textual does not know it of this one, which does something else there."""
        return key == "slash" or super().check_consume_key(key, character)

    def action_complete(self) -> None:
        """Take the first completion; go on if there is none."""
        box = self.parent
        assert isinstance(box, FilterBox)
        offered = completions(self.value, box.vocabulary) if self.cursor_position == len(self.value) else []
        if offered:
            self.value = offered[0]
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()

    def action_leave(self) -> None:
        """Give up what was written."""
        box = self.parent
        assert isinstance(box, FilterBox)
        box.leave()


class FilterBox(Vertical):
    """A filter, what it could go on to be, and what is wrong with it.

    Parameters
    ----------
    text
        The filter to begin with.
    """

    class Applied(Message):
        """A filter that means something was entered."""

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
        """Make the line."""
        yield _Line(
            self._applied, placeholder="/ to filter: state:failed tag:night mass>3", suggester=_Completer(self),
            compact=True, select_on_focus=False,
        )  # fmt: skip
        yield Static(id="filter-words", markup=False)

    def on_mount(self) -> None:
        """Say nothing yet."""
        self._say("")

    def on_focus(self) -> None:
        """Let the line have it."""
        self.begin()

    def begin(self) -> None:
        """Let a filter be written."""
        line = self.query_one(_Line)
        self.screen.set_focus(line)  # at once: `focus` would let keys typed meanwhile go elsewhere
        line.cursor_position = len(line.value)

    def leave(self) -> None:
        """Give up what was written."""
        self.query_one(_Line).value = self._applied
        self.post_message(self.Left())
        self.call_after_refresh(self._say, "")

    def refuse(self, words: str, applied: str) -> None:
        """Let it be corrected after all: the store says that it means nothing. `applied` is what is shown instead."""
        self._applied = applied
        self.begin()
        self._say(words, wrong=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Offer what it could go on to be."""
        event.stop()
        if not event.input.has_focus:
            return
        before = max(event.value.rfind(" "), event.value.rfind("\t")) + 1
        offered = [one[before:] for one in completions(event.value, self.vocabulary)]
        more = "  …" if len(offered) > _OFFERED else ""
        self._say("  ".join(offered[:_OFFERED]) + more)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, or say why not."""
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
