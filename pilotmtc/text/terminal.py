"""What a terminal can show, and messages to whoever sits there."""

import os
import shutil
import sys
from typing import TextIO

from pilotmtc.text.plain import plain_words


def has_colour(stream: TextIO) -> bool:
    """Return whether to write to `stream` in colour."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def screen_width(stream: TextIO) -> int | None:
    """Return the number of columns of `stream`; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def tell(words: str) -> None:
    """Write a message to stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"{plain_words(words)}\n")  # a message may quote a task, a file's name or another host
    sys.stderr.flush()
