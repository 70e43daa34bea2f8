"""Tables for terminals, and text that fits a width. Pure."""

import unicodedata
from collections.abc import Sequence

from pilotmtc.text.plain import plain

COLOURS = {
    "DONE": "32", "FAILED": "31", "CANCELED": "33", "SKIPPED": "33", "RUNNING": "36", "CLAIMED": "36", "ACTIVE": "32",
    "DRAINING": "33", "PENDING": "36", "bold": "1", "dim": "2", "red": "31", "green": "32",
}  # fmt: skip
_GAP = "  "
_TEXT_MIN = 8  # columns of text become narrower than this only if nothing else helps


def paint(text: str, colour: str, *, on: bool) -> str:
    """Return `text` in its colour from `COLOURS`, if it has one and `on` is true."""
    code = COLOURS.get(colour)
    text = plain(text)
    return f"\x1b[{code}m{text}\x1b[0m" if on and code and text else text


def width_of(text: str) -> int:
    """Return the number of terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )  # fmt: skip


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; an ellipsis at the end replaces what is cut off."""
    if width_of(text) <= width:
        return text
    if width <= 0:
        return ""
    used = 0
    for at, char in enumerate(text):
        used += width_of(char)
        if used > width - 1:
            return f"{text[:at]}…"
    return text


def shorten_middle(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; an ellipsis in the middle replaces what is cut out."""
    if width_of(text) <= width:
        return text
    tail = ""
    for char in reversed(text):
        if width_of(char + tail) > (width - 1) // 3:
            break
        tail = char + tail
    return shorten(text, width - width_of(tail)) + tail


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` padded with blanks to `width` columns."""
    blanks = " " * max(0, width - width_of(text))
    return blanks + text if right else text + blanks


class Column:
    """A column of a table.

    Parameters
    ----------
    title
        Its heading.
    right
        Whether it is aligned to the right, as numbers are.
    optional
        Whether it is left out if it is empty.
    state
        Whether its words are coloured.
    spare
        If the table is too wide, columns with the highest of these numbers are left out first; 0: never.
    """

    def __init__(
        self, title: str, *, right: bool = False, optional: bool = False, state: bool = False, spare: int = 0
    ) -> None:
        self.title = title
        self.right = right
        self.optional = optional
        self.state = state
        self.spare = spare


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None, colour: bool) -> list[str]:
    """Return the lines of a table, at most `width` columns wide (None: as wide as necessary).

    If it is too wide, the widest columns of text become narrower; then spare columns are left out.
    """
    shown = [at for at, column in enumerate(columns) if not column.optional or any(row[at] for row in rows)]
    clean = [[plain(row[at]) for row in rows] for at in range(len(columns))]
    widths = {at: max([len(columns[at].title), *map(width_of, clean[at])]) for at in shown}
    if width is not None:
        widths = _fit(columns, widths, width)
    lines: list[str] = []
    for number in range(-1, len(rows)):
        cells = []
        for at, room in widths.items():
            column = columns[at]
            text = column.title if number < 0 else clean[at][number]
            short = shorten(text, room)
            blanks = " " * (room - width_of(short))
            short = paint(short, "bold" if number < 0 else text if column.state else "", on=colour)
            cells.append(blanks + short if column.right else short + blanks)
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _fit(columns: Sequence[Column], widths: dict[int, int], width: int) -> dict[int, int]:
    """Return the columns to show, and their widths, so that the table fits."""
    widths = dict(widths)
    text = [at for at in widths if not columns[at].right and not columns[at].state]
    while True:
        narrow = _shrink(widths, text, width, _TEXT_MIN)
        spare = [at for at in widths if columns[at].spare]
        if _total(narrow) <= width or not spare:
            return _shrink(narrow, list(narrow), width, 1)
        drop = max(spare, key=lambda at: (columns[at].spare, at))
        del widths[drop]
        text = [at for at in text if at != drop]


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _shrink(widths: dict[int, int], which: Sequence[int], width: int, least: int) -> dict[int, int]:
    """Return `widths` with the widest of `which` reduced until everything fits, but none below `least`."""
    widths = dict(widths)
    while (excess := _total(widths) - width) > 0:
        most = max((widths[at] for at in which), default=0)
        if most <= least:
            break
        widest = [at for at in which if widths[at] == most]
        second = max([least, *(widths[at] for at in which if widths[at] < most)])
        step = max(1, min(most - second, excess // len(widest)))
        for at in widest:
            if excess > 0:
                widths[at] -= step
                excess -= step
    return widths


def pairs(rows: Sequence[tuple[str, str]], *, colour: bool) -> list[str]:
    """Return lines with titles and their values; empty values are left out."""
    shown = [(title, text) for title, text in rows if text]
    width = max((len(title) for title, _ in shown), default=0)
    return [f"{paint(pad(title, width), 'bold', on=colour)}  {plain(text)}" for title, text in shown]
