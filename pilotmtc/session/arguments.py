"""What a caller of the Python API has given: its names and its types, looked at before anything is done with it."""

import difflib
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pilotmtc.errors import UsageError, shown

T = TypeVar("T")
_OTHER_WORDS = {"timeout": "time_limit", "retry": "retries"}  # of other programs; difflib finds worse ones


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `TypeError`, as Python does, for a keyword that is not known; say which one may be meant."""
    there = tuple(known)
    for name in given:
        if name in there:
            continue
        close = difflib.get_close_matches(name, there, 1)
        meant = _OTHER_WORDS.get(name, "")
        best = meant if meant in there else close[0] if close else ""
        hint = f"did you mean {best!r}?" if best else f"there are {', '.join(there)}"
        raise TypeError(f"unexpected keyword argument {name!r}: {hint}")


def whole(name: str, value: object) -> int:
    """Return the whole number that `value` is."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            pass
    raise UsageError(f"{name}={shown(value)} is not a whole number: give one{_bare(value)}")


def number(name: str, value: object) -> float:
    """Return the number that `value` is."""
    if not isinstance(value, bool | str):
        try:
            return float(value)  # type: ignore[arg-type]  # that is the question
        except (TypeError, ValueError, OverflowError):
            pass
    raise UsageError(f"{name}={shown(value)} is not a number: give one{_bare(value)}")


def _bare(value: object) -> str:
    return ", without quotes" if isinstance(value, str) else ""


def seconds(name: str, value: object) -> float | None:
    """Return the time that `value` is; None stays None."""
    found = None if value is None else number(name, value)
    if found is not None and not (math.isfinite(found) and found >= 0):
        raise UsageError(f"{name}={shown(value)} is not a time: give 0 or more seconds")
    return found


def text(name: str, value: object) -> str:
    """Return `value`, which must be a text."""
    if isinstance(value, str):
        return value
    raise UsageError(f"{name}={shown(value)} is not a text: put it in quotes")


def path(name: str, value: object) -> str:
    """Return the path that `value` is: a text or a `pathlib.Path`."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(found, str) and found:
        return found
    raise UsageError(f"{name}={shown(value)} is not a path: give a text or a pathlib.Path")


def word(name: str, value: object) -> str:
    """Return `value`, a text, a number or a path, as the text that a program sees."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value
    if not isinstance(value, bool | bytes) and value is not None and hasattr(value, "__float__"):
        return str(value)
    raise UsageError(f"{name}={shown(value)} is not one value: give a text, a number or a path")


def flag(name: str, value: object) -> bool:
    """Return `value`, which must be True or False."""
    if isinstance(value, bool):
        return value
    raise UsageError(f"{name}={shown(value)} is neither True nor False")


def amount(name: str, value: object) -> str | float:
    """Return `value`, a text such as ``"2G"`` or ``"5m"``, or a number."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    return number(name, value)


def cell(value: object, *where: object) -> str:
    """Return the value of a parameter as the text that a task gets. None and lists have none that could be meant."""
    if isinstance(value, str | int | float):  # nearly all
        return str(value)
    if value is None or isinstance(value, bytes | bytearray | list | tuple | set | frozenset | Mapping):
        raise UsageError(
            f"{' '.join(map(str, where))} holds {shown(value)}, which is not one value: give a text or a number"
        )
    return str(value)


def several(name: str, value: object, read: Callable[[str, object], T]) -> tuple[T, ...]:
    """Return the values of a list, each as `read` returns it. One text is no list: it would be one of its letters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"{name}={shown(value)} is one value: give a list, as in {name}=[{shown(value)}]")
    return tuple([read(name, item) for item in value])


def by_name(name: str, value: object, read: Callable[[str, object], T]) -> dict[str, T]:
    """Return a mapping of names to values, each as `read` returns it."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{name}={shown(value)} is not a mapping: give one, as in {name}={{'NAME': ...}}")
    return {text(f"a name in {name}", key): read(f"{name}[{key!r}]", item) for key, item in value.items()}
