"""Reading and writing durations, amounts of memory, and rates.

Durations: ``90`` (seconds), ``90s``, ``5m``, ``2h``, ``1d``, ``1h30m``, ``MM:SS``, ``HH:MM:SS``, ``D-HH:MM:SS``
(the last three as SLURM writes them). Memory: ``512`` (bytes), ``512k``, ``2G``, ``1.5GiB``; k, M, G, T are
powers of 1024, as schedulers mean them. Rates: ``5/s``, ``30/min``, ``100/h``.
"""

import math
import re

from pilotmtc.errors import UsageError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d{1,2})(?::(\d{1,2}))?")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_RATE = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d+)?)\s*/\s*(?:1\s*)?(s|sec|m|min|h)")
_PER = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SLOWEST, _FASTEST = 1e-6, 1e6  # a second
_TOO_MUCH = 2.0**53  # larger numbers are not exact in JSON
_TOO_LONG = 1e10  # three centuries
_SHORTEST = 1e-5  # seconds; clocks are not more precise


def parse_duration(text: str | float) -> float:
    """Return the seconds in a duration.

    Raises
    ------
    UsageError
        If it is not a duration, is negative or is longer than three centuries.
    """
    try:
        value = float(text) if isinstance(text, int | float) else _duration(text.strip().lower())
    except OverflowError:  # hundreds of digits
        value = math.inf
    if not 0 <= value <= _TOO_LONG:
        raise UsageError(f"{text!r} is not a duration: write 90, 90s, 5m, 2h, 1h30m, 1d or HH:MM:SS")
    return value


def _duration(word: str) -> float:
    if match := _CLOCK.fullmatch(word):
        days, first, second, third = match.groups()
        if third is None and days is None:  # MM:SS
            return int(first) * 60.0 + int(second)
        hours, minutes, seconds = int(first), int(second), int(third or 0)
        return int(days or 0) * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
    if parts := _PART.findall(word):
        if "".join(number + unit for number, unit in parts) == word:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return math.nan
    try:
        return float(word)
    except ValueError:
        return math.nan


def format_duration(seconds: float) -> str:
    """Return `seconds` for people: ``2.5ms``, ``0.42s``, ``59s``, ``4m05s``, ``2h03m``, ``3d04h``.

    Below ten seconds, two digits are shown; very short times are ``0s``.
    """
    if seconds < _SHORTEST:
        return "0s"
    if seconds < 0.0995:  # more would be rounded to a tenth of a second
        return f"{1000 * seconds:.2g}ms"
    if seconds < 9.95:
        return f"{seconds:.2g}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def parse_memory(text: str | int) -> int:
    """Return the bytes in an amount of memory.

    Raises
    ------
    UsageError
        If it is not an amount of memory.
    """
    if isinstance(text, int):
        if 0 <= text < _TOO_MUCH:
            return text
    elif match := _MEMORY.fullmatch(text.strip()):
        value = float(match[1]) * _FACTOR[match[2].lower()]
        if value < _TOO_MUCH:
            return int(value)
    raise UsageError(f"{text!r} is not an amount of memory: write 512M, 2G, 1.5G or a number of bytes")


def type_memory(amount: int) -> str:
    """Return `amount` bytes in a form that can be typed, with four digits: ``1000``, ``1.5M``, ``23.54G``."""
    value = float(amount)
    for unit in ("", "K", "M", "G"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}T"


def format_memory(amount: int) -> str:
    """Return `amount` bytes for people: ``512B``, ``1.5K``, ``20M``, ``3.0G``."""
    value = float(amount)
    for unit in "BKMG":
        if value < 1024:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 10 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def parse_rate(text: str | float) -> float:
    """Return how many a second ``"30/min"`` is; a bare number is a second, 0 is no rate.

    Raises
    ------
    UsageError
        If it is not a rate.
    """
    value = math.nan
    if isinstance(text, int | float):
        value = float(text) if abs(text) < _TOO_MUCH else math.nan
    elif match := _RATE.fullmatch(text.strip().lower()):
        value = float(match[1]) / _PER[match[2]]
        if value == 0:
            raise UsageError(f"{text!r} would start nothing: write 0 for no limit, or put the campaign on hold")
    elif text.strip() == "0":
        value = 0.0
    if value == 0 or _SLOWEST <= value <= _FASTEST:
        return value
    raise UsageError(f"{text!r} is not a rate: write 5/s, 30/min or 100/h, at most {_FASTEST:,.0f}/s")


def format_rate(per_s: float) -> str:
    """Return a rate as it can be typed: ``5/s``, ``30/min``."""
    for unit in ("s", "min", "h"):
        number = per_s * _PER[unit]
        if number >= 1 and math.isclose(number, round(number), rel_tol=1e-12):
            return f"{round(number)}/{unit}"
    return f"{per_s!r}/s"
