"""Readers of single values in campaign files. Each returns the value's meaning, or says what to write instead."""

import datetime
import signal
from collections.abc import Callable
from typing import TypeVar

from pilotmtc.errors import UsageError, shown
from pilotmtc.resources.amounts import LARGEST, LEAST, MOST_NAMED
from pilotmtc.resources.kinds import named
from pilotmtc.template import check_variable
from pilotmtc.units import parse_duration, parse_memory, parse_rate

MEMORY_LARGEST = 2**62
T = TypeVar("T")


class Written(float):
    """A TOML float that remembers how it was written, so that ``1.50`` reaches the task as ``1.50``."""

    written: str

    def __new__(cls, written: str) -> "Written":
        """Return a number that remembers the text `written`."""
        self = super().__new__(cls, written)
        self.written = written
        return self

    def __repr__(self) -> str:
        """Return the number as it was written."""
        return self.written


def text(value: object) -> str:
    """Read a string."""
    if isinstance(value, str):
        return value
    raise UsageError(f"{shown(value)} is not a text: put it in quotes")


def word(value: object) -> str:
    """Read a value of any scalar type as the text that a task gets."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Written):
        return value.written
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    raise UsageError(f"{shown(value)} is not one value: write a text or a number")


def words(value: object) -> tuple[str, ...]:
    """Read a string or an array of strings."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str) or not item:
            raise UsageError(f'{item!r} is not a text: write "a" or ["a", "b"]')
    return tuple(items)


def command(value: object) -> str | tuple[str, ...]:
    """Read a shell line or an argument vector."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return tuple(word(item) for item in value)
    raise UsageError(f'{shown(value)} is no command: write a shell line, or ["program", "argument"]')


def whole(value: object) -> int:
    """Read a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{shown(value)} is not a whole number: write one, without quotes")
    if abs(value) > LARGEST:
        raise UsageError(f"{shown(value)} is too large: give at most {LARGEST}")
    return value


def natural(value: object) -> int:
    """Read a whole number that is not negative."""
    if (number := whole(value)) >= 0:
        return number
    raise UsageError(f"{shown(value)} is negative: give 0 or more")


def positive(value: object) -> int:
    """Read a whole number above 0."""
    if (number := whole(value)) > 0:
        return number
    raise UsageError(f"{shown(value)} is too few: give 1 or more")


def flag(value: object) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    raise UsageError(f"{shown(value)} is neither true nor false: write one of them, without quotes")


def amount(value: object) -> float:
    """Read a number that is finite and not negative."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return float(value)
    raise UsageError(f"{shown(value)} is not an amount: give a number from 0 to {LARGEST}")


def gpus(value: object) -> float:
    """Read a number of GPUs, or a share of one."""
    number = share(value)
    if number <= 1 or number.is_integer():
        return number
    raise UsageError(f"{shown(value)} GPUs cannot be: give a whole number, or a share below 1 of a single GPU")


def share(value: object) -> float:
    """Read an amount of a named resource, which is counted in millionths."""
    number = amount(value)
    if 0 < number < LEAST:
        raise UsageError(f"{shown(value)} is too little: give at least {LEAST:f}, or 0")
    return number


def duration(value: object) -> float:
    """Read a duration: seconds, or a text such as ``"2h"``."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f'{shown(value)} is not a duration: write 90 or "90s", "5m", "2h", "HH:MM:SS"')
    return parse_duration(value) if isinstance(value, str) else amount(value)


def first_signal(value: object) -> str:
    """Read the name of a signal that a process can catch, such as ``"USR1"``; TERM, which is usual, is ""."""
    name = value.strip().upper().removeprefix("SIG") if isinstance(value, str) else ""
    if name in ("KILL", "STOP") or f"SIG{name}" not in signal.Signals.__members__:
        raise UsageError(f"{shown(value)} is not a signal that a task can catch: write TERM, INT, HUP, USR1 or USR2")
    return "" if name == "TERM" else name


def memory(value: object) -> int:
    """Read an amount of memory: bytes, or a text such as ``"2G"``."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            amount_bytes = parse_memory(value)
        except OverflowError:  # hundreds of digits
            amount_bytes = MEMORY_LARGEST
        if amount_bytes < MEMORY_LARGEST:
            return amount_bytes
    raise UsageError(f'{shown(value)} is not an amount of memory: write "512M", "2G" or a whole number of bytes')


def rate(value: object) -> float:
    """Read a rate: ``"30/min"``, or a number a second."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f'{shown(value)} is not a rate: write "5/s", "30/min" or "100/h"')
    return parse_rate(value)


def campaigns(value: object) -> tuple[int | str, ...]:
    """Read a campaign's number or name, or an array of these."""
    found: list[int | str] = []
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str | int) or isinstance(item, bool) or not item:
            raise UsageError(f'{shown(item)} is not a campaign: write its number, or its name as in "scan"')
        found.append(int(item) if isinstance(item, str) and item.isdecimal() and item.isascii() else item)
    return tuple(found)


def texts(value: object) -> dict[str, str]:
    """Read a table of scalars as texts."""
    return _each(value, word)


def variables(value: object) -> dict[str, str]:
    """Read a table of variables."""
    return {check_variable(name): item for name, item in texts(value).items()}


def amounts(value: object) -> dict[str, float]:
    """Read a table of amounts of named resources."""
    return {name: _named_amount(name, item) for name, item in _each(value, lambda item: item).items()}


def _named_amount(name: str, value: object) -> float:
    """Read a number, or a text with a unit if the kind has one."""
    try:
        parse = named(name).parse
        number = parse(value) if parse is not None and isinstance(value, str) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= MOST_NAMED:
            if not 0 < number < LEAST:
                return float(number)
            raise UsageError(f"{shown(value)} is too little: give at least {LEAST:f}, or 0")
        raise UsageError(f"{shown(value)} is not an amount: give a number from 0 to {MOST_NAMED}")
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def axes(value: object) -> dict[str, tuple[str, ...] | str]:
    """Read a table of axes: each a text as `pilotmtc.parameters.axis` reads it, or an array of values."""
    return _each(value, _axis)


def _axis(value: object) -> tuple[str, ...] | str:
    if not isinstance(value, list):
        return word(value)
    if not value:
        raise UsageError("the array is empty: give it values, or leave it out")
    return tuple(word(item) for item in value)


def records(value: object) -> tuple[dict[str, str], ...] | tuple[tuple[str, ...], ...]:
    """Read an array of tables with the same keys; or of values, or arrays of values, that go by position."""
    if not isinstance(value, list) or not value:
        raise UsageError(
            f"{shown(value)} is not an array: write [{{ a = 1, b = 2 }}, {{ a = 3, b = 4 }}], or [1, 2] for "
            "values that {} stands for"
        )
    if not any(isinstance(item, dict) for item in value):
        return _positional(value)
    rows = tuple(texts(item) for item in value)
    for number, row in enumerate(rows, 1):
        if not row:
            raise UsageError(f"row {number} is empty: its keys must name the parameters")
        if odd := sorted(row.keys() ^ rows[0].keys()):
            raise UsageError(f"row {number} and the first differ in {odd[0]!r}: all must have the same keys")
    return rows


def _positional(value: list[object]) -> tuple[tuple[str, ...], ...]:
    rows = tuple(tuple(map(word, item)) if isinstance(item, list) else (word(item),) for item in value)
    for number, row in enumerate(rows, 1):
        if not row:
            raise UsageError(f"row {number} is empty: give it values")
        if len(row) != len(rows[0]):
            raise UsageError(f"row {number} has {len(row)} values, and the first {len(rows[0])}: all must have as many")
    return rows


def _each(value: object, read: Callable[[object], T]) -> dict[str, T]:
    if not isinstance(value, dict):
        raise UsageError(f"{shown(value)} is not a table: write {{ name = ... }}")
    result = {}
    for key, item in value.items():
        try:
            result[key] = read(item)
        except UsageError as error:
            raise UsageError(f"{key}: {error}") from None
    return result
