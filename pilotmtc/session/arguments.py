"""Checks of arguments that callers of the Python API pass: their names and types."""

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pilotmtc.errors import UsageError, near, shown
from pilotmtc.model import CampaignId

T = TypeVar("T")
_OTHER_WORDS = {"timeout": "time_limit", "retry": "retries"}  # from other programs; difflib would suggest worse ones


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `TypeError`, as Python does, for an unknown keyword, and suggest a known one."""
    there = tuple(known)
    for name in given:
        if name in there:
            continue
        meant = _OTHER_WORDS.get(name, "")
        best = meant if meant in there else near(name, there)
        hint = f"did you mean {best!r}?" if best else f"there are {', '.join(there)}"
        raise TypeError(f"unexpected keyword argument {name!r}: {hint}")


def whole(name: str, value: object) -> int:
    """Return `value` as a whole number."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            pass
    raise UsageError(f"{name}={shown(value)} is not a whole number: give one{_bare(value)}")


def campaign_word(name: str, value: object) -> CampaignId | str:
    """Return the id or the name of a campaign; a name may contain ``*`` and ``?``."""
    if not isinstance(value, str):
        return CampaignId(whole(name, value))
    if value.isdecimal() and value.isascii():
        return CampaignId(int(value))
    if not value:
        raise UsageError(f"{name}='' is empty: give a campaign's number or name")
    return value


def campaign_words(name: str, value: object) -> tuple[CampaignId | str, ...]:
    """Return the ids or names of a campaign or of several."""
    return several(name, [value] if isinstance(value, str | int) else value, campaign_word)


def number(name: str, value: object) -> float:
    """Return `value` as a number."""
    if not isinstance(value, bool | str):
        try:
            return float(value)  # type: ignore[arg-type]  # that is the question
        except (TypeError, ValueError, OverflowError):
            pass
    raise UsageError(f"{name}={shown(value)} is not a number: give one{_bare(value)}")


def _bare(value: object) -> str:
    return ", without quotes" if isinstance(value, str) else ""


def seconds(name: str, value: object) -> float | None:
    """Return `value` as a time in seconds; None stays None."""
    found = None if value is None else number(name, value)
    if found is not None and not (math.isfinite(found) and found >= 0):
        raise UsageError(f"{name}={shown(value)} is not a time: give 0 or more seconds")
    return found


def text(name: str, value: object) -> str:
    """Return `value`, which must be a string."""
    if isinstance(value, str):
        return value
    raise UsageError(f"{name}={shown(value)} is not a text: put it in quotes")


def path(name: str, value: object) -> str:
    """Return `value`, a string or a `pathlib.Path`, as a path."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(found, str) and found:
        return found
    raise UsageError(f"{name}={shown(value)} is not a path: give a text or a pathlib.Path")


def word(name: str, value: object) -> str:
    """Return `value`, a string, a number or a path, as the string that a program gets."""
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
    """Return `value`, a string such as ``"2G"`` or ``"5m"``, or a number."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    return number(name, value)


def cell(value: object, *where: object) -> str:
    """Return the value of a parameter as the string that a task gets. None and lists are refused."""
    if isinstance(value, str | int | float):  # most of them
        return str(value)
    if value is None or isinstance(value, bytes | bytearray | list | tuple | set | frozenset | Mapping):
        raise UsageError(
            f"{' '.join(map(str, where))} holds {shown(value)}, which is not one value: give a text or a number"
        )
    return str(value)


def several(name: str, value: object, read: Callable[[str, object], T]) -> tuple[T, ...]:
    """Return the values of a list, each read by `read`. A single string is refused: it would be a list of letters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"{name}={shown(value)} is one value: give a list, as in {name}=[{shown(value)}]")
    return tuple([read(name, item) for item in value])


def by_name(name: str, value: object, read: Callable[[str, object], T]) -> dict[str, T]:
    """Return a mapping of names to values, each read by `read`."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{name}={shown(value)} is not a mapping: give one, as in {name}={{'NAME': ...}}")
    return {text(f"a name in {name}", key): read(f"{name}[{key!r}]", item) for key, item in value.items()}
