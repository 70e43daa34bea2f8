"""JSON objects that tasks print on stdout: programs hand over their results like that."""

import re

import msgspec
from msgspec import Struct

LARGEST_BYTES = 64 << 20  # of a stdout that is read as JSON, which takes several times of it as memory
_SHOWN = 60
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything = msgspec.json.Decoder()


class Printed(Struct, frozen=True):
    """What a task has printed: the keys of its JSON objects, a later line before an earlier one; and what is no object.

    Attributes
    ----------
    values
        JSON, as it was written.
    error
        Names the first line that is no JSON object; empty if all are.
    """

    values: dict[str, msgspec.Raw] = {}
    error: str = ""


def printed(stdout: bytes) -> Printed:
    """Return the JSON in `stdout`: one object, or several, one a line."""
    text = stdout.strip()
    if not text:
        return Printed()
    if b"\n" in text:
        try:
            return Printed(_checked(text))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # it is not one object on several lines
    values: dict[str, msgspec.Raw] = {}
    error = ""
    for number, line in enumerate(stdout.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            values |= _checked(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            error = error or _named(number, line)
    return Printed(values, error)


def _checked(text: bytes) -> dict[str, msgspec.Raw]:
    """Return the object in `text`; what is in it may not be JSON until it is read."""
    found = _object.decode(text)
    values = {}
    for key, raw in found.items():
        value = _anything.decode(raw)
        bytes(raw).decode()  # in texts the decoder above takes what is not UTF-8 for granted
        # On several lines it would break a record, which is on one.
        values[key] = msgspec.Raw(msgspec.json.encode(value) if b"\n" in bytes(raw) else bytes(raw).strip())
    return values


def _named(number: int, line: bytes) -> str:
    text = re.sub(r"\s+", " ", line.decode("utf-8", "replace")).strip()
    shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    try:
        _anything.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return f"line {number} is not JSON: {shown}"
    return f"line {number} is not a JSON object: {shown}"
