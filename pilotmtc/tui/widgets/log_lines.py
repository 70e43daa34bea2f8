"""Lines of outputs that may be large and may grow: found by number, searched, and coloured one by one. Pure."""

import re
from bisect import bisect_right

from rich.ansi import SGR_STYLE_MAP
from rich.style import Style
from rich.text import Text

from pilotmtc.text.plain import plain
from pilotmtc.tui.widgets.cells import even, has_colours

_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_LONGEST = 4_000  # characters of a line that are drawn


class Lines:
    """The lines of some bytes, to which more can be appended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._starts = [0]  # of each line, and of the one that is still to come

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        before = len(self.data)
        self.data += data
        self._starts += [before + match.end() for match in re.finditer(b"\n", data)]

    def __len__(self) -> int:
        return len(self._starts) - (self._starts[-1] == len(self.data))

    def raw(self, number: int) -> bytes:
        """Return a line without its end."""
        end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self.data)
        return bytes(self.data[self._starts[number] : end]).rstrip(b"\r\n")

    def width(self, number: int) -> int:
        """Return about how many cells a line takes, without decoding it."""
        end = self._starts[number + 1] - 1 if number + 1 < len(self._starts) else len(self.data)
        return end - self._starts[number]

    def find(self, wanted: "re.Pattern[bytes]", since: int, *, back: bool = False) -> int | None:
        """Return the number of the next line after `since` with a match, or with `back` of the last one before it."""
        if not back:
            begin = self._starts[since + 1] if since + 1 < len(self._starts) else len(self.data)
            match = wanted.search(self.data, begin)
            return None if match is None else self._line_at(match.start())
        last = None
        for match in wanted.finditer(self.data, 0, self._starts[max(min(since, len(self._starts) - 1), 0)]):
            last = match.start()
        return None if last is None else self._line_at(last)

    def _line_at(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1


class Stream:
    """What is known of a stream of which only the end arrives again and again.

    Attributes
    ----------
    lines
        What has arrived, from the first whole line on.
    size
        How many bytes were written in all.
    """

    def __init__(self) -> None:
        self.lines = Lines()
        self.size = 0
        self.missing = 0  # bytes at the beginning that never arrived

    def take(self, data: bytes, size: int) -> bool:
        """Add the end `data` of a stream of `size` bytes; return False if it is another stream than before."""
        new = size - self.size
        if new < 0:
            return False
        if new and not self.size and len(data) < size:
            data = data[data.find(b"\n") + 1 :]  # the line that is cut off says nothing
            self.missing = size - len(data)
            self.lines.append(data)
        elif new > len(data):
            self.lines.append(b"\n[%d bytes came too fast to be shown]\n" % (new - len(data)))
            self.lines.append(data)
        elif new:
            self.lines.append(data[-new:])
        self.size = size
        return True


def coloured(raw: bytes) -> Text:
    """Return a line as text with the colours that it asks for; other control characters are shown, not obeyed."""
    line = raw.decode("utf-8", "replace").expandtabs()
    text, style = Text(no_wrap=True, end=""), Style()
    for index, part in enumerate(_SGR.split(line[:_LONGEST])):
        if index % 2:
            style = _changed(style, part)
        elif part:
            text.append(even(plain(part)), style=style if has_colours() else None)
    if len(line) > _LONGEST:
        text.append(f"… {len(line) - _LONGEST:,} more characters")
    return text


def _changed(style: Style, codes: str) -> Style:
    numbers = [int(code) for code in codes.split(";") if code.isdecimal()] or [0]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            style = Style()
        elif number in (38, 48):  # a colour of 256, or of all
            kind = numbers.pop(0) if numbers else 0
            parts, numbers = (numbers[:1], numbers[1:]) if kind == 5 else (numbers[:3], numbers[3:])
            if all(0 <= part < 256 for part in parts) and len(parts) in (1, 3):
                name = f"color({parts[0]})" if len(parts) == 1 else f"rgb({parts[0]},{parts[1]},{parts[2]})"
                style += Style.parse(name if number == 38 else f"on {name}")
        elif number in SGR_STYLE_MAP:
            style += Style.parse(SGR_STYLE_MAP[number])
    return style
