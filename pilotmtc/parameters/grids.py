"""Parameters from grids: named axes of ranges and lists."""

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Context, Decimal

from pilotmtc.errors import UsageError
from pilotmtc.parameters.source import Source, check_fields, combine
from pilotmtc.template import check_text

GRID_VALUES = 10**9

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")
_COUNT = re.compile(r"([+-]?\d+)\.\.([+-]?\d+)")
_DIGITS = 60


def grid(words: Iterable[str]) -> Source:
    """Return the product of axes such as ``mass=1:10:0.5``, ``seed=0..9`` and ``kind=a,b``; the last varies fastest.

    Raises
    ------
    UsageError
        If an axis cannot be read, has no values or too many, or if a name is used twice.
    """
    return combine([axis(word) for word in words])


def axis(word: str) -> Source:
    """Return the values of one axis, ``NAME=VALUES``.

    ``a:b`` and ``a:b:step`` are exact decimal numbers from a to b inclusive; ``a..b`` are whole numbers, padded with
    zeros to the width of a; ``x,y,z`` are these values, each of which may itself be a range.
    """
    name, equals, text = word.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UsageError(f"{word!r} is no axis of a grid: write NAME=1:10:0.5, NAME=0..9 or NAME=a,b,c")
    check_fields([name], f"grid {word!r}")
    check_text(word, "a grid")
    if not text.strip():
        raise UsageError(f"{word!r} gives {name} no values: write {name}=1:10:0.5, {name}=0..9 or {name}=a,b,c")
    shown = word if len(word) <= 100 else f"{word[:97]}..."
    parts = [_part(part.strip(), shown) for part in text.split(",")]
    size = sum(count for count, _ in parts)
    if size > GRID_VALUES:
        raise UsageError(f"{shown!r} gives {name} {size} values: is the step right?")
    return Source((name,), lambda: ((value,) for _, make in parts for value in make()), size=size)


def _part(text: str, word: str) -> tuple[int, Callable[[], Iterator[str]]]:
    """Return the number of values in a part between commas, and a function that makes them."""
    if match := _COUNT.fullmatch(text):
        if max(map(len, match.groups())) > _DIGITS:
            raise UsageError(f"{word!r} needs more than {_DIGITS} digits: use smaller numbers")
        first, last = int(match[1]), int(match[2])
        padded = re.match(r"[+-]?0\d", match[1])
        width = len(match[1]) if padded else 0
        numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        return _length(numbers), lambda: (format(number, f"0{width}d") for number in numbers)
    if match := _RANGE.fullmatch(text):
        if len(text) > 4 * _DIGITS:
            raise UsageError(f"{word!r} needs more than {_DIGITS} digits: use a coarser step")
        return _decimals(Decimal(match[1]), Decimal(match[2]), Decimal(match[3] or 1), word)
    if not text:
        raise UsageError(f"{word!r} has nothing between two commas: leave one out")
    return 1, lambda: iter((text,))


def _decimals(first: Decimal, last: Decimal, step: Decimal, word: str) -> tuple[int, Callable[[], Iterator[str]]]:
    """Do the same for ``first:last:step``, in whole multiples of the smallest decimal place."""
    if not step:
        raise UsageError(f"{word!r} has step 0: give another one, or a single value without colons")
    if last != first and (last > first) != (step > 0):
        way = "down" if last < first else "up"
        raise UsageError(f"{word!r} never gets from {first} to {last}: it goes {way}, so write {first}:{last}:{-step}")
    places = max(-int(number.as_tuple().exponent) for number in (first, last, step))
    if max(places, *(number.adjusted() + places for number in (first, last, step))) > _DIGITS:
        raise UsageError(f"{word!r} needs more than {_DIGITS} digits: use a coarser step")
    start, stop, pace = (int(number.scaleb(places, _WIDE)) for number in (first, last, step))
    numbers = range(start, stop + (1 if pace > 0 else -1), pace)
    return _length(numbers), lambda: (_plain(number, places) for number in numbers)


_WIDE = Context(prec=4 * _DIGITS)


def _length(numbers: range) -> int:
    return abs((numbers.stop - numbers.start + numbers.step - (1 if numbers.step > 0 else -1)) // numbers.step)


def _plain(number: int, places: int) -> str:
    """Return ``number / 10**places`` in the fewest digits."""
    if places <= 0:
        return str(number * 10**-places)
    digits = f"{abs(number):0{places + 1}d}"
    whole = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{whole}" if number < 0 else whole
