"""The two streams: stdout is data, stderr is talk."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import msgspec

from pilotmtc.cli.text import Column, table

_encode = msgspec.json.Encoder().encode


def has_colour(stream: TextIO) -> bool:
    """Return whether `stream` may be written to in colour."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def screen_width(stream: TextIO) -> int | None:
    """Return how many columns `stream` has; None if it is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def silence() -> None:
    """Let nothing more reach stdout, whose reader has gone: not even what is buffered, at the very end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def put(lines: Iterable[str]) -> None:
    """Write lines of data."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def put_bytes(blocks: Iterable[bytes]) -> None:
    """Write data as it is."""
    sys.stdout.flush()
    for block in blocks:
        sys.stdout.buffer.write(block)


def put_json(value: object) -> None:
    """Write one object on one line."""
    sys.stdout.flush()
    sys.stdout.buffer.write(_encode(value) + b"\n")


def put_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table that fits."""
    put(table(columns, rows, width=screen_width(sys.stdout), colour=has_colour(sys.stdout)))


def talk(words: str) -> None:
    """Say something that is no data."""
    sys.stdout.flush()
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def talk_bytes(blocks: Iterable[bytes]) -> None:
    """Write to stderr as it is."""
    sys.stdout.flush()
    sys.stderr.flush()
    for block in blocks:
        sys.stderr.buffer.write(block)
    sys.stderr.buffer.flush()
