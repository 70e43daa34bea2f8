"""Python values as JSON, where JSON can say them."""

import json
from typing import Any


def as_json(value: object) -> bytes | None:
    """Return a value as JSON: numbers, texts, truth values, None, and lists and mappings of them. None if it is more.

    NaN and infinities are more, and so are mappings with other keys than texts; tuples become arrays, numpy's scalars
    numbers.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_scalar)
        return None if _has_other_keys(value) else text.encode()
    except (TypeError, ValueError, RecursionError):  # also of letters that UTF-8 does not have
        return None


def _scalar(value: Any) -> object:
    """Return one of numpy's numbers as Python's."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(value, "dtype"):
        found = value.item()
        if isinstance(found, bool | int | float | str):
            return found
    raise TypeError


def _has_other_keys(value: object) -> bool:
    """Return whether a mapping in `value`, which has no circles, has keys that would become texts."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            if not all(isinstance(key, str) for key in found):
                return True
            left.extend(found.values())
        elif isinstance(found, list | tuple):
            left.extend(found)
    return False
