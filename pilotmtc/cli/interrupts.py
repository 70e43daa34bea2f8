"""Ctrl-C interrupts a command once, and does not disturb its end."""

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        # It may come between the opening of a file and the line that would close it; the process's end does.
        warnings.simplefilter("ignore", ResourceWarning)
        raise KeyboardInterrupt


def end() -> None:
    """Ignore Ctrl-C from now on: it would still kill Python while that exits."""
    global _enough  # noqa: PLW0603
    _enough = True
    # Block it first: Python complains about a received signal that no longer has a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Stops:
    """Signals to a command that runs tasks: Ctrl-C drains, a second one and SIGTERM cancel, a third one interrupts.

    Parameters
    ----------
    drain, cancel
        Are called by the handler, and so must not wait for anything.

    Attributes
    ----------
    signals
        How often Ctrl-C was pressed.
    terminated
        Whether there was a SIGTERM.
    """

    def __init__(self, drain: Callable[[], None], cancel: Callable[[], None]) -> None:
        self.signals = 0
        self.terminated = False
        self._drain = drain
        self._cancel = cancel
        self._told = 0

    def news(self) -> str:
        """Return what is to be said since the last call; empty if nothing is."""
        if self._told >= self.signals:
            return ""
        self._told = self.signals
        if self.signals == 1:
            return "pilotmtc: stopping when the running tasks have finished; Ctrl-C again kills them"
        return "pilotmtc: killing the running tasks"

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle these signals."""
        before = signal.signal(signal.SIGINT, self._interrupted), signal.signal(signal.SIGTERM, self._terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals == 1:
            self._drain()
        elif self.signals == 2:
            self._cancel()
        else:
            interrupt()

    def _terminated(self, _number: int, _frame: FrameType | None) -> None:
        self.terminated = True
        self._cancel()
