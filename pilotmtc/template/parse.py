"""Finds placeholders in texts."""

import functools
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

BUILTINS = ("task_id", "attempt", "campaign_id")
PLAIN, DOUBLE, SINGLE = "plain", "double", "single"  # how a placeholder is quoted in a shell line
NUMBER = "number"  # in an arithmetic expression
REFUSED = "refused"  # where no placeholder may be

_NAME = r"[^\W\d]\w*|\d+|"  # an identifier, a position, or nothing
# Placeholders of other tools: those of GNU parallel, and Python's formats where they can be nothing else.
_PARALLEL = r"\.|//?|/\."
_FORMAT = r"[^\W\d]\w*:(?=[^{}]*\d)(?:.?[<>=^])?[-+ ]?\#?\d*[_,]?(?:\.\d+)?[bcdeEfFgGnosxX%]"


class Hole(Struct, frozen=True):
    """A placeholder: the text in the braces, and how it is quoted in a shell line (None: not in a shell line)."""

    name: str
    quoting: str | None = None


@functools.lru_cache(maxsize=256)
def pattern(fields: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for placeholders (groups ``name`` and ``foreign``) and doubled braces (``literal``)."""
    known = "|".join([*(re.escape(field) for field in fields), *BUILTINS])
    names = "|".join([*(re.escape(field) for field in fields), _NAME])
    foreign = (
        rf"{_PARALLEL}|\#|%|(?:{known}|\d+)(?:{_PARALLEL}|:[^{{}}'\"\n]*)"
        rf"|(?:{known})(?:![rsa](?::[^{{}}'\"\n]*)?|\[[^{{}}\n]*\]|\.\w+)|{_FORMAT}"
    )
    return re.compile(
        rf"(?<!\$)(?:\{{\{{(?P<literal>{names}|{foreign})\}}\}}"
        rf"|(?<!\$\{{)\{{(?:(?P<name>{names})|(?P<foreign>{foreign}))\}})"
    )


def hole_of(match: re.Match[str], quoting: str | None = None) -> Hole:
    """Return the placeholder in a match of `pattern`."""
    return Hole(match["foreign"] if match["name"] is None else match["name"], quoting)


def split(text: str, fields: tuple[str, ...]) -> Iterator[str | Hole]:
    """Yield the literal pieces of `text`, which is not a shell line, and the placeholders between them."""
    at = 0
    for match in pattern(fields).finditer(text):
        yield text[at : match.start()]
        yield hole_of(match) if match["literal"] is None else f"{{{match['literal']}}}"
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
