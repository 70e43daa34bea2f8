"""Ctrl-C interrupts a command once, and does not disturb its end."""

import signal
from types import FrameType

_enough = False


def begin() -> None:
    """Let a Ctrl-C interrupt the command, unless it is ignored, as in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def interrupt(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """Raise `KeyboardInterrupt`, unless it was raised before or the end has begun."""
    global _enough  # noqa: PLW0603 -- the process has only one end
    if not _enough:
        _enough = True
        raise KeyboardInterrupt


def end() -> None:
    """Ignore Ctrl-C from now on: it would still kill Python while that exits."""
    global _enough  # noqa: PLW0603
    _enough = True
    # Block it first: Python complains about a received signal that no longer has a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
