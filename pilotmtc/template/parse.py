"""Finds placeholders in texts."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from pilotmtc.template.changes import PATHS

NUMBER_OF_ROW = "#"  # a field that is no value of the user's, and the last one
BUILTINS = ("task_id", "attempt", "campaign_id")
PLAIN, DOUBLE, SINGLE = "plain", "double", "single"  # how a placeholder is quoted in a shell line
NUMBER = "number"  # in an arithmetic expression
REFUSED = "refused"  # where no placeholder may be

_NAME = r"[^\W\d]\w*|\d+|"  # an identifier, a position, or nothing
# Formats that can be nothing else, behind names that are not known and behind none.
_FORMAT = r":(?=[^{}]*\d)(?:.?[<>=^])?[-+ ]?\#?\d*[_,]?(?:\.\d+)?[bcdeEfFgGnosxX%]"
_ANY_FORMAT = r":[^{}'\"\n]*"


class Hole(Struct, frozen=True):
    """A placeholder.

    Attributes
    ----------
    name
        Of the parameter, or its position; empty: all values. If it is of another tool, all that is in the braces.
    quoting
        How it is quoted in a shell line; None: it is not in one.
    change
        What `pilotmtc.template.changes.changer` makes of the value.
    """

    name: str
    quoting: str | None = None
    change: str = ""

    def __str__(self) -> str:
        """Return it as users write it, without the braces."""
        return self.name + self.change


@functools.lru_cache(maxsize=256)
def pattern(fields: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for placeholders and doubled braces.

    Groups are ``name``, and behind it ``change``; ``foreign``, what other tools have in braces; ``literal``.
    """
    known = "|".join([*(re.escape(field) for field in fields if field != NUMBER_OF_ROW), *BUILTINS])
    changed = (
        rf"(?:{known}|\d+)(?:{PATHS}|{_ANY_FORMAT})|[^\W\d]\w*(?:{PATHS}|{_FORMAT})|(?:{PATHS}|{_FORMAT})"
        rf"|{NUMBER_OF_ROW}(?:{_ANY_FORMAT})?"
    )
    plain = "|".join([known, _NAME])
    foreign = rf"%|(?:{known})(?:![rsa](?:{_ANY_FORMAT})?|\[[^{{}}\n]*\]|\.\w+)"
    return re.compile(
        rf"(?<!\$)(?:\{{\{{(?P<literal>{plain}|{changed}|{foreign})\}}\}}"
        rf"|(?<!\$\{{)\{{(?:(?P<name>{plain})|(?P<changed>{changed})|(?P<foreign>{foreign}))\}})"
    )


_CHANGED = re.compile(rf"(?P<name>\w*|{NUMBER_OF_ROW})(?P<change>{PATHS}|:.*|)", re.DOTALL)
_CHANGE = re.compile(rf"{PATHS}|:.*", re.DOTALL)


def hole_of(match: re.Match[str], fields: tuple[str, ...], quoting: str | None = None) -> Hole:
    """Return the placeholder in a match of ``pattern(fields)``."""
    text = match["changed"]
    if text is None:
        return Hole(match["foreign"] if match["name"] is None else match["name"], quoting)
    for field in sorted(fields, key=len, reverse=True):  # names may hold anything, such as colons
        if text.startswith(field) and _CHANGE.fullmatch(text, len(field)):
            return Hole(field, quoting, text[len(field) :])
    parts = _CHANGED.fullmatch(text)
    assert parts is not None
    return Hole(parts["name"], quoting, parts["change"])


def own(fields: Sequence[str]) -> list[str]:
    """Return the fields that are values of the user's: ``{}`` stands for these."""
    return [field for field in fields if field != NUMBER_OF_ROW]


def wants_number(texts: Iterable[str], fields: Sequence[str]) -> bool:
    """Return whether a placeholder in `texts` is the number of the row, ``{#}``."""
    return any(
        isinstance(piece, Hole) and piece.name == NUMBER_OF_ROW
        for text in texts
        for piece in split(text, tuple(fields))
    )


def split(text: str, fields: tuple[str, ...]) -> Iterator[str | Hole]:
    """Yield the literal pieces of `text`, which is not a shell line, and the placeholders between them."""
    at = 0
    for match in pattern(fields).finditer(text):
        yield text[at : match.start()]
        yield hole_of(match, fields) if match["literal"] is None else f"{{{match['literal']}}}"
        at = match.end()
    yield text[at:]


def is_name(text: str) -> bool:
    """Return whether `text` can name a parameter, and is not a placeholder of another tool."""
    return re.fullmatch(_NAME, text) is not None


def literal(text: str, fields: Sequence[str] = ()) -> str:
    """Return `text` with braces doubled, so that nothing in it is a placeholder."""
    return pattern(tuple(fields)).sub(lambda match: f"{{{match[0]}}}", text)


def holes(text: str, fields: Sequence[str] = ()) -> list[str | None]:
    """Return the literal pieces of `text`, with None for each placeholder."""
    pieces = split(text, tuple(fields))
    return [None if isinstance(piece, Hole) else piece for piece in pieces if piece]


def placeholders(text: str, fields: Sequence[str] = ()) -> list[str]:
    """Return the names in the placeholders of a text that is not a shell line."""
    return [piece.name for piece in split(text, tuple(fields)) if isinstance(piece, Hole)]


def wants_values(words: Sequence[str]) -> bool:
    """Return whether `words` contain a placeholder for a task's value."""
    pieces = (piece for word in words for piece in split(word, ()))
    return any(isinstance(piece, Hole) and piece.name not in BUILTINS for piece in pieces)
