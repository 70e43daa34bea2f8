"""Foreign text without control characters, which a terminal would obey. Pure."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OWN_COLOUR = re.compile(r"(\x1b\[(?:[012]|3[1236])m)")


def plain(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return _CONTROL.sub(_escaped, text)


def plain_text(text: str) -> str:
    """Return `text`, perhaps of several lines, without control characters."""
    return "\n".join(plain(line.expandtabs()) for line in text.split("\n"))


def plain_words(text: str) -> str:
    """Return `text`, perhaps of several lines, without control characters except the colours of `paint`."""
    return "\n".join(
        "".join(part if _OWN_COLOUR.fullmatch(part) else plain(part) for part in _OWN_COLOUR.split(line.expandtabs()))
        for line in text.split("\n")
    )


def plain_lines(data: bytes) -> str:
    """Return the lines of `data` without control characters."""
    return "\n".join(plain(line.expandtabs()) for line in data.decode("utf-8", "replace").splitlines())


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or (
        f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    )
