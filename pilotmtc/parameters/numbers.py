"""Values that are written as text, as the numbers that they are."""

import re

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
