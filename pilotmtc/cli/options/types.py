"""Types of options, and how options are added to commands."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    AnyParamType = click.ParamType[Any]
else:  # generic only since click 8.2
    AnyParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_MANY_IDS = 1_000_000
_LARGEST_ID = 2**63 - 1


class Number(AnyParamType):
    """A whole number."""

    name = "number"

    def __init__(self, least: int = 0, most: int = 2**31 - 1) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that `value` means."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)
        if not self._least <= number <= self._most:
            self.fail(f"{value} is out of range: give a number from {self._least} to {self._most}", param, ctx)
        return number


ID = Number(1, _LARGEST_ID)


class CampaignWord(AnyParamType):
    """A campaign's number or name."""

    name = "campaign"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return a number as such, and a name as it is."""
        word = str(value)
        if not word.strip():
            self.fail(f"{word!r} is empty: give a campaign's number or name", param, ctx)
        return ID.convert(word, param, ctx) if word.isdecimal() and word.isascii() else word


CAMPAIGN = CampaignWord()


class Ids(AnyParamType):
    """A task's id, or a range of them."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """Return the range that `value` means."""
        first, dash, last = str(value).partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            self.fail(f"{value!r} is not a task id: write 17, or 17-20 for several", param, ctx)
        found = range(int(first), int(last if dash else first) + 1)
        if not found:
            self.fail(f"{value!r} is empty: the smaller id comes first", param, ctx)
        if found.stop > _LARGEST_ID:
            self.fail(f"{value!r}: there are no ids above {_LARGEST_ID}", param, ctx)
        if len(found) > _MANY_IDS:
            self.fail(f"{value!r} is too many ids: use --campaign", param, ctx)
        return found


class Assignment(AnyParamType):
    """``NAME=VALUE``."""

    name = "assignment"

    def __init__(self, what: str, *, number: bool = False) -> None:
        self._what = what
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str | float]:
        """Return name and value."""
        if isinstance(value, tuple):
            return cast("tuple[str, str | float]", value)
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            form = "NAME=NUMBER" if self._number else "NAME=VALUE"
            self.fail(f"{value!r} is not a {self._what}: write {form}", param, ctx)
        if not self._number:
            return name, text
        try:
            return name, float(text)
        except ValueError:
            self.fail(f"{text!r} in {value!r} is not a number: write NAME=NUMBER", param, ctx)


class Checked(AnyParamType):
    """A text that must mean something: `check` raises `UsageError` if it does not."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        from pilotmtc.errors import UsageError

        try:
            self._check(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def assigned(what: str, pairs: "Sequence[tuple[str, T]]") -> dict[str, T]:
    """Return the values by name; each name must be given only once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(f"{what} {twice} is given twice: give it one value", click.get_current_context())
    return found


def add_all(function: F, options: Sequence[Callable[[F], F]]) -> F:
    """Add `options` in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")(function)
