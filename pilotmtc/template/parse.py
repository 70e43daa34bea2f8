"""Finding placeholders in a text, and in a shell line how each of them is quoted."""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from pilotmtc.errors import UsageError

BUILTINS = ("task_id", "attempt", "campaign_id")

_NAME = r"[^\W\d]\w*|\d+|"  # an identifier, a position, or nothing
PLAIN, DOUBLE, SINGLE = "plain", "double", "single"  # how a shell line is quoted at a placeholder
_SHELL_TOKENS = {  # what changes the quoting, by where we are
    PLAIN: (
        r"\\.|'|\"|`|\$?\(|\)|\n|(?<![^\s;&|()])\#[^\n]*"
        r"|(?<!<)<<(?P<strip>-?)[ \t]*(?P<end>\\?[^\W\d]\w*|'[^'\n]+'|\"[^\"\n]+\")"
    ),
    DOUBLE: r"\\.|\"|`|\$\(",
    SINGLE: r"'",
}


class Hole(Struct, frozen=True):
    """A place for a value: what is in the braces, and how the shell line is quoted there (None: not a shell line)."""

    name: str
    quoting: str | None = None


def _pattern(fields: tuple[str, ...], tokens: str | None = None) -> re.Pattern[str]:
    names = "|".join([*(re.escape(field) for field in fields), _NAME])
    holes = rf"(?<!\$)(?:\{{\{{(?P<literal>{names})\}}\}}|(?<!\$\{{)\{{(?P<name>{names})\}})"
    return re.compile(f"{holes}|{tokens}" if tokens else holes, re.DOTALL)


def split(text: str, fields: tuple[str, ...], *, shell: bool) -> Iterator[str | Hole]:
    """Yield the literal pieces of `text` and the holes between them."""
    return _split_shell(text, fields) if shell else _split_words(text, fields)


def _split_words(text: str, fields: tuple[str, ...]) -> Iterator[str | Hole]:
    at = 0
    for match in _pattern(fields).finditer(text):
        yield text[at : match.start()]
        yield Hole(match["name"]) if match["name"] is not None else f"{{{match['literal']}}}"
        at = match.end()
    yield text[at:]


def _split_shell(line: str, fields: tuple[str, ...]) -> Iterator[str | Hole]:
    """The same for a shell line, following its quotes, ``$(...)``, comments and here-documents."""
    patterns = {state: _pattern(fields, tokens) for state, tokens in _SHELL_TOKENS.items()}
    stack: list[str] = []  # what is open: ' " ( `
    bodies: list[tuple[str, bool]] = []  # here-documents that start at the next line: their end, tabs stripped
    at = done = 0
    while True:
        state = {'"': DOUBLE, "'": SINGLE}.get(stack[-1] if stack else "", PLAIN)
        match = patterns[state].search(line, at)
        if match is None:
            yield line[done:]
            return
        at = match.end()
        if match["literal"] is not None:
            yield line[done : match.start()]
            yield f"{{{match['literal']}}}"
            done = at
        elif match["name"] is not None:
            if "`" in stack:
                raise UsageError(f"{match[0]} between backquotes cannot be quoted: write $(...) instead")
            yield line[done : match.start()]
            yield Hole(match["name"], state)
            done = at
        elif match[0] == "\n":
            for end, strip in bodies:
                at = _skip_document(line, at, end, strip, fields)
            bodies.clear()
        elif match.groupdict().get("end"):
            bodies.append((match["end"].strip("'\"\\"), match["strip"] == "-"))
        else:
            _follow(stack, match[0])


def _follow(stack: list[str], token: str) -> None:
    """Open or close what `token` opens or closes."""
    top = stack[-1] if stack else ""
    if token in ("'", '"'):
        if top == token:
            stack.pop()
        else:
            stack.append(token)
    elif token == "`":
        if "`" in stack:
            del stack[len(stack) - 1 - stack[::-1].index("`") :]
        else:
            stack.append("`")
    elif token in ("(", "$("):
        stack.append("(")
    elif token == ")" and top == "(":
        stack.pop()


def _skip_document(line: str, at: int, end: str, strip: bool, fields: tuple[str, ...]) -> int:
    """Return where the here-document that begins `at` ends; a placeholder in it is an error."""
    start = at
    while at < len(line):
        stop = line.find("\n", at)
        stop = len(line) if stop < 0 else stop
        row = line[at:stop]
        at = stop + 1
        if (row.lstrip("\t") if strip else row) == end:
            break
    at = min(at, len(line))
    for match in _pattern(fields).finditer(line, start, at):
        if match["name"] is not None and (match["name"] in fields or match["name"] in BUILTINS or not match["name"]):
            raise UsageError(
                f"{match[0]} stands in the here-document <<{end}, where it cannot be quoted: "
                "put the value into env and write the variable there"
            )
    return at


def literal(text: str, fields: Sequence[str] = ()) -> str:
    """Return `text` so written that nothing in it is a placeholder."""
    return _pattern(tuple(fields)).sub(lambda match: f"{{{match[0]}}}", text)


def holes(text: str, fields: Sequence[str] = ()) -> list[str | None]:
    """Return the literal pieces of `text`, and None where a placeholder stands."""
    pieces = split(text, tuple(fields), shell=False)
    return [None if isinstance(piece, Hole) else piece for piece in pieces if piece]


def names(words: Sequence[str], *, shell: bool) -> list[str]:
    """Return what stands in the placeholders of a command, each once, but not what is built in.

    In a shell line what stands between quotes does not count: it may be the braces of another language.
    """
    pieces = [piece for word in words for piece in split(word, (), shell=shell)]
    found = [piece.name for piece in pieces if isinstance(piece, Hole) and piece.quoting in (None, PLAIN)]
    return [name for name in dict.fromkeys(found) if name not in BUILTINS]


def _quote_double(value: str) -> str:
    return re.sub(r'([\\$"`])', r"\\\1", value)


def _quote_single(value: str) -> str:
    return value.replace("'", "'\\''")


QUOTES: dict[str, Callable[[str], str]] = {PLAIN: shlex.quote, DOUBLE: _quote_double, SINGLE: _quote_single}
