"""The line for commands such as ``:task 812``, and what they mean."""

from collections.abc import Callable, Mapping

from msgspec import Struct
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from pilotmtc.errors import UsageError

_WORDS = {
    "overview": ("o", "pilots", "campaigns"), "tasks": ("t",), "task": (), "pilot": ("p",), "campaign": ("c",),
    "quit": ("q",),
}  # fmt: skip
_HINT = "task 812, tasks state:failed, campaign scan, pilot 3, overview, quit"


class Command(Struct, frozen=True):
    """What is to be done: one of the words above, and what it is about."""

    verb: str
    number: int = 0
    text: str = ""


def parse_command(line: str, campaigns: Mapping[int, str]) -> Command:
    """Return the command in a line; `campaigns` are names by number, of which the beginning may be given.

    Raises
    ------
    UsageError
        If there is no such command, or it does not say about what.
    """
    word, _, rest = line.strip().removeprefix(":").partition(" ")
    rest = rest.strip()
    verb = next((name for name, others in _WORDS.items() if word.lower() in (name, *others)), "")
    if word.isdecimal() and not rest:
        verb, rest = "task", word
    if not verb:
        raise UsageError(f"{word!r} is no command: there are {_HINT}")
    if verb in ("task", "pilot"):
        if not rest.isdecimal():
            raise UsageError(f"{word} {rest!r}: give its number, such as {verb} 12")
        return Command(verb, int(rest))
    if verb == "campaign":
        return Command(verb, _campaign(rest, campaigns))
    return Command(verb, text=rest)


def _campaign(text: str, campaigns: Mapping[int, str]) -> int:
    if text.isdecimal() and int(text) in campaigns:
        return int(text)
    wanted = text.lower()
    begins: Callable[[str], bool] = lambda name: name.startswith(wanted)  # noqa: E731 -- one of three
    for fits in (wanted.__eq__, begins, lambda name: wanted in name):
        found = [number for number, name in campaigns.items() if text and fits(name.lower())]
        if found:
            return max(found)  # the newest of that name
    raise UsageError(f"there is no campaign {text!r}: give its number, or the beginning of its name")


class CommandLine(ModalScreen[str | None]):
    """Asks for a command."""

    BINDINGS = [Binding("escape", "leave", "Cancel")]

    def compose(self) -> ComposeResult:
        """Compose the line."""
        with Horizontal(id="command-line"):
            yield Label(":")
            yield Input(placeholder=_HINT, compact=True)

    def on_mount(self) -> None:
        """Write at once."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the command."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Take none."""
        self.dismiss(None)
