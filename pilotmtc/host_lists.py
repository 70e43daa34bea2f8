"""Lists of hosts as schedulers write them, such as SLURM's ``n[1-3,7],login``. Pure."""

import re
from collections.abc import Iterable, Iterator

from pilotmtc.errors import ConfigError

_PART = re.compile(r"[^,\[\]]+|\[[^\]]*\]|,")
_TAIL = re.compile(r"(\d+)$")
_DIGITS = re.compile(r"([0-9]+)")
_MOST = 100_000


def expand(text: str) -> list[str]:
    """Return the names in a list such as ``n[1-3,7],login``.

    Raises
    ------
    ConfigError
        If it is not such a list.
    """
    names: list[str] = []
    current = [""]
    read = 0
    for part in _PART.findall(text.strip()):
        read += len(part)
        if part == ",":
            names += [name for name in current if name]
            current = [""]
        elif part.startswith("["):
            numbers = list(_numbers(part[1:-1], text))
            if len(current) * len(numbers) > _MOST:
                raise ConfigError(f"{text!r} means more than {_MOST} names")
            current = [name + number for name in current for number in numbers]
        else:
            current = [name + part.strip() for name in current]
    if read != len(text.strip()):
        raise ConfigError(f"{text!r} is not a list of hosts: write n1,n2 or n[1-4]")
    return names + [name for name in current if name]


def _numbers(ranges: str, text: str) -> Iterator[str]:
    for part in ranges.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) - int(first) > _MOST:
            raise ConfigError(f"{part!r} in {text!r} is not a range of hosts: write n[1-4,7]")
        for number in range(int(first), int(last if dash else first) + 1):
            yield str(number).zfill(len(first))


def by_number(name: str) -> list[str | int]:
    """Return what sorts names with their numbers as numbers: ``n9`` before ``n10``."""
    return [int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name))]


def fold(names: Iterable[str]) -> str:
    """Return names in the short form, from which `expand` makes the same names in the same order."""
    parts: list[str] = []
    stem = ""
    ranges: list[list[str]] = []  # first and last number of each range, as written
    for name in [*names, ""]:
        found = _TAIL.search(name)
        digits = found[1] if found else ""
        head = name[: len(name) - len(digits)]
        if digits and ranges and head == stem:
            last = ranges[-1][1]
            if digits == str(int(last) + 1).zfill(len(last)):
                ranges[-1][1] = digits
            else:
                ranges.append([digits, digits])
            continue
        if ranges:
            parts.append(_written(stem, ranges))
        stem, ranges = head, [[digits, digits]] if digits else []
        if name and not digits:
            parts.append(name)
    return ",".join(parts)


def _written(stem: str, ranges: list[list[str]]) -> str:
    texts = [first if first == last else f"{first}-{last}" for first, last in ranges]
    return stem + (texts[0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else f"[{','.join(texts)}]")


def counts(text: str) -> list[int]:
    """Return the numbers in a list such as ``12(x3),8``, which is 12, 12, 12, 8."""
    found: list[int] = []
    for part in text.split(","):
        number, _, times = part.partition("(x")
        found += [int(number)] * int(times.rstrip(")") or 1)
    return found
