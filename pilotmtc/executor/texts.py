"""Arguments of calls as texts for people: bounded, printable, and without trust in anybody's ``__repr__``."""

import functools
import re
import reprlib
from collections.abc import Mapping, Sequence

MOST = 80  # characters of all arguments
_ONE = 30  # of one
_PLAIN = frozenset({int, float, bool, type(None), complex})
_PLACE = re.compile(r" at 0x[0-9a-f]+(?=>)")  # says nothing to people, and is another in each program
_SIMPLE = re.compile(r"[ -~]*")


class _Short(reprlib.Repr):
    """Shows the beginning of what is long, and of objects that may be large only what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = self.maxdeque = 3
        self.maxstring = self.maxother = _ONE
        self.maxlong = _ONE

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= _ONE else f"<{len(value)} bytes>"

    def repr_PilotFuture(self, value: object, level: int) -> str:  # noqa: N802 -- the name of the type
        return str(getattr(value, "call", "future"))

    def repr_ndarray(self, value: object, level: int) -> str:
        shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
        if not isinstance(shape, tuple):
            return self.repr_instance(value, level)
        if not shape:
            return f"array({value!r})"[:_ONE]
        return f"<{'x'.join(map(str, shape))} {kind}>"

    def repr_instance(self, value: object, level: int) -> str:
        kind = type(value)
        if isinstance(value, float):  # numpy's, say
            return float.__repr__(value)
        if hasattr(kind, "__array__") and hasattr(kind, "shape") and getattr(value, "shape", None):
            return f"<{kind.__name__} {'x'.join(map(str, value.shape))}>"  # type: ignore[attr-defined]  # just looked at
        if hasattr(kind, "__len__") and not isinstance(value, str | bytes | bytearray):
            return f"<{kind.__name__} of {len(value)}>"  # type: ignore[arg-type]  # just looked at
        if isinstance(value, type) or hasattr(value, "__name__"):
            return str(getattr(value, "__name__", ""))
        try:
            text = _PLACE.sub("", repr(value))
        except Exception:  # noqa: BLE001 -- a user's class may raise anything
            return f"<{kind.__name__}>"
        half = (_ONE - 3) // 2
        return text if len(text) <= _ONE else f"{text[:half]}...{text[half + 3 - _ONE :]}"


_short = _Short()


def shown(value: object) -> str:
    """Return one argument as people see it."""
    if type(value) in _PLAIN:
        return repr(value)[:_ONE]
    try:
        text = _short.repr(value)
    except Exception:  # noqa: BLE001 -- what is shown of a call must not keep it from being made
        text = f"<{type(value).__name__}>"
    return text if _SIMPLE.fullmatch(text) else printable(text)


def printable(text: str) -> str:
    """Return `text` with escapes for all that a terminal would not show, or would obey."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])


def arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return the arguments of a call as people see them, as ``3.0, seed=1``."""
    if len(args) == 1 and not kwargs:
        return bounded(shown(args[0]))
    words: list[str] = []
    size = 0
    for name, value in [*((None, value) for value in args), *kwargs.items()]:
        if size > MOST:
            break
        word = shown(value) if name is None else f"{printable(name)}={shown(value)}"
        size += len(word) + 2
        words.append(word)
    return bounded(", ".join(words))


def bounded(text: str) -> str:
    """Return `text`, cut where it is too long."""
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def name_of(function: object) -> str:
    """Return what to call a function, as ``work`` or ``Model.fit``."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    except Exception:  # noqa: BLE001 -- whatever the user's classes raise
        name = None
    if not isinstance(name, str):
        name = type(function).__qualname__
    return printable(name.rpartition("<locals>.")[2])[:60] or "call"
