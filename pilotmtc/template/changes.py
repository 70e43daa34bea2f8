"""What may follow a placeholder's name: ``{x.}`` is the value without its extension, ``{x:03d}`` the value formatted.

The parts of a path are GNU parallel's, the formats are Python's.
"""

import math
import os
import re
from collections.abc import Callable

from pilotmtc.errors import UsageError

PATHS = r"\.|//?|/\."
_SPEC = re.compile(
    r"(?:(?P<fill>[^{}])?(?P<align>[<>=^]))?(?P<sign>[-+ ]?)(?P<alternate>\#?)(?P<zero>0?)"
    r"(?P<width>\d*)(?P<grouping>[_,]?)(?P<precision>(?:\.\d+)?)(?P<kind>[bdoxXeEfFgG%s]?)"
)
_MOST = 1000
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGITS = 4000  # Python refuses to read longer integers


def as_number(text: str) -> int | float | str:
    """Return the whole number, or else the decimal one, that `text` is written as; or `text` itself.

    So ``3`` and ``007`` are whole numbers, ``-2.50`` and ``1e-3`` decimal ones; ``nan`` and ``1_000`` are texts.
    """
    if _INTEGER.fullmatch(text) and len(text) < _DIGITS:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def changer(name: str, change: str) -> Callable[[str], str]:
    """Return the function that makes of a value what the placeholder ``{name + change}`` stands for.

    It raises `UsageError` for a value that cannot be formatted like that.

    Raises
    ------
    UsageError
        If `change` is neither a part of a path nor a format.
    """
    if change in _PARTS:
        return _PARTS[change]
    match = _SPEC.fullmatch(change, 1) if change.startswith(":") else None
    if match is None:
        raise UsageError(
            f"{{{name}{change}}}: {change!r} is neither a part of a path ({', '.join(_PARTS)}) nor a format: write "
            "one as :03d, :.2f or :>8"
        )
    spec, kind = change[1:], match["kind"]
    if any(len(digits) > 4 or int(digits or 0) > _MOST for digits in (match["width"], match["precision"][1:])):
        raise UsageError(f"{{{name}{change}}} makes a text of more than {_MOST} characters: ask for less")
    numeric = match["align"] == "=" or any(match[part] for part in ("sign", "alternate", "zero", "grouping"))
    text = kind == "s" or not (kind or numeric or match["precision"])
    make = _Format(name, spec, whole=kind != "" and kind in "bdoxX", decimal=bool(kind or match["precision"]))
    try:
        format("", spec) if text else make("1")
    except ValueError as error:
        raise UsageError(f"{{{name}{change}}}: {error}: look at Python's format specifications") from error
    return (lambda value: format(value, spec)) if text else make


class _Format:
    """Formats values that are numbers: only whole ones, or all of them as decimal numbers, or each as it is."""

    def __init__(self, name: str, spec: str, *, whole: bool, decimal: bool) -> None:
        self._name = name
        self._spec = spec
        self._whole = whole
        self._decimal = decimal

    def __call__(self, value: str) -> str:
        number = as_number(value)
        try:
            if isinstance(number, int) and (self._whole or not self._decimal):
                return format(number, self._spec)
            if isinstance(number, int | float) and not self._whole and math.isfinite(number):
                return format(float(number), self._spec)
        except OverflowError:  # of hundreds of digits
            pass
        what = "whole numbers" if self._whole else "numbers"
        raise UsageError(
            f"{value[:60]!r} cannot be the value of {{{self._name}:{self._spec}}}, which is for {what}: "
            f"write {{{self._name}}} to have it as it is"
        )


def _directory(path: str) -> str:
    """Return what ``dirname`` prints."""
    rest = path.rstrip("/")
    return (os.path.dirname(rest) or ".") if rest or not path else "/"


def _without_extension(path: str) -> str:
    return os.path.splitext(path)[0]


_PARTS: dict[str, Callable[[str], str]] = {
    ".": _without_extension,
    "/": lambda path: path.rpartition("/")[2],
    "//": _directory,
    "/.": lambda path: _without_extension(path.rpartition("/")[2]),
}
