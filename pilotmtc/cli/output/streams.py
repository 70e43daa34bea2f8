"""The two streams: data go to stdout, messages go to stderr."""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pilotmtc.text import terminal
from pilotmtc.text.tables import Column, table

has_colour, screen_width, tell = terminal.has_colour, terminal.screen_width, terminal.tell
_encode = msgspec.json.Encoder().encode


class _Lenient(io.FileIO):
    """A file that silently drops what cannot be written.

    It has no buffer, which after a Ctrl-C might write the same data twice.
    """

    def write(self, data: Any, /) -> int:
        """Write all of `data`, or drop the rest."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        while left:
            try:
                left = left[super().write(left) or size :]
            except OSError:
                break
        return size


def prepare() -> bool:
    """Prepare the standard streams for all commands; return whether stdout was open.

    A stream that the shell has closed (``>&-``) becomes `os.devnull`: no other file may get its number. Messages that
    stderr cannot take are dropped, so that they do not change how a command ends.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 -- as long as the process
    if sys.stderr is None or isinstance(sys.stderr, io.TextIOWrapper):
        stream: Any = _Lenient(2, "w", closefd=False)
        encoding = None if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(stream, encoding, "backslashreplace", line_buffering=True)
    return sys.stdout is not None


def silence() -> None:
    """Write nothing more to stdout, whose reader has gone, not even what is still buffered."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def put(lines: Iterable[str]) -> None:
    """Write lines of data."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def put_bytes(blocks: Iterable[bytes]) -> None:
    """Write data unchanged."""
    sys.stdout.flush()
    for block in blocks:
        sys.stdout.buffer.write(block)


def put_json(value: object) -> None:
    """Write an object as JSON on one line."""
    sys.stdout.flush()
    sys.stdout.buffer.write(_encode(value) + b"\n")


def json_line(shape: Mapping[str, object], texts: Mapping[str, Iterable[str]]) -> Iterator[bytes]:
    """Yield a JSON object on one line, in blocks: `shape`, and `texts` in pieces, because they may be large."""
    yield _encode(shape)[:-1]
    for name, pieces in texts.items():
        yield b"," + _encode(name) + b':"'
        for piece in pieces:
            yield _encode(piece)[1:-1]
        yield b'"'
    yield b"}\n"


def csv_cell(value: object) -> str:
    """Return a value quoted for CSV. Python's own writer may leave a CR unquoted, which readers take for a line end."""
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def put_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table that fits the terminal."""
    put(table(columns, rows, width=screen_width(sys.stdout), colour=has_colour(sys.stdout)))


def warn(words: str) -> None:
    """Write a warning to stderr."""
    tell(f"pilotmtc: warning: {words}")


def report_logs() -> None:
    """Show warnings of our libraries as messages as well; they may quote another host."""
    import logging  # the help does not need it

    class Warnings(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(self.format(record))

    logging.lastResort = Warnings(logging.WARNING)


def write_stderr(blocks: Iterable[bytes]) -> None:
    """Write data to stderr unchanged; raise if that fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(2, "wb", closefd=False) as stream:
        for block in blocks:
            stream.write(block)
