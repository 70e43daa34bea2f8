"""Finding placeholders in a text."""

import functools
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

BUILTINS = ("task_id", "attempt", "campaign_id")
PLAIN, DOUBLE, SINGLE = "plain", "double", "single"  # how a shell line is quoted at a placeholder
NUMBER = "number"  # or that it calculates there
REFUSED = "refused"  # or that none can be there

_NAME = r"[^\W\d]\w*|\d+|"  # an identifier, a position, or nothing
# What other tools have for placeholders: GNU parallel's; Python's formats, of any name if they can be nothing else.
_PARALLEL = r"\.|//?|/\."
_FORMAT = r"[^\W\d]\w*:(?=[^{}]*\d)(?:.?[<>=^])?[-+ ]?\#?\d*[_,]?(?:\.\d+)?[bcdeEfFgGnosxX%]"


class Hole(Struct, frozen=True):
    """A place for a value: what is in the braces, and how the shell line is quoted there (None: not a shell line)."""

    name: str
    quoting: str | None = None


@functools.lru_cache(maxsize=256)
def pattern(fields: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds placeholders (its groups ``name`` and ``foreign``), and doubled ones (``literal``)."""
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
    """Return the placeholder that `pattern` has found."""
    return Hole(match["foreign"] if match["name"] is None else match["name"], quoting)


def split(text: str, fields: tuple[str, ...]) -> Iterator[str | Hole]:
    """Yield the literal pieces of `text`, which is no shell line, and the holes between them."""
    at = 0
    for match in pattern(fields).finditer(text):
        yield text[at : match.start()]
        yield hole_of(match) if match["literal"] is None else f"{{{match['literal']}}}"
        at = match.end()
    yield text[at:]


def is_name(text: str) -> bool:
    """Return whether `text` could name a parameter, and is not what other tools have in braces."""
    return re.fullmatch(_NAME, text) is not None


def literal(text: str, fields: Sequence[str] = ()) -> str:
    """Return `text` so written that nothing in it is a placeholder."""
    return pattern(tuple(fields)).sub(lambda match: f"{{{match[0]}}}", text)


def holes(text: str, fields: Sequence[str] = ()) -> list[str | None]:
    """Return the literal pieces of `text`, and None where a placeholder stands."""
    pieces = split(text, tuple(fields))
    return [None if isinstance(piece, Hole) else piece for piece in pieces if piece]


def placeholders(text: str, fields: Sequence[str] = ()) -> list[str]:
    """Return what stands in the placeholders of a text that is no shell line."""
    return [piece.name for piece in split(text, tuple(fields)) if isinstance(piece, Hole)]


def wants_values(words: Sequence[str]) -> bool:
    """Return whether a placeholder stands in `words` that is not built in."""
    pieces = (piece for word in words for piece in split(word, ()))
    return any(isinstance(piece, Hole) and piece.name not in BUILTINS for piece in pieces)
