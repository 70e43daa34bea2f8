"""How attempts have ended, in words."""

import signal
from typing import Protocol

from pilotmtc.states import Cause

_ENDS = {
    Cause.TIMEOUT: "over its time limit",
    Cause.OOM: "over its memory limit",
    Cause.WALLTIME: "pilot's walltime over",
    Cause.PREEMPTED: "preempted",
    Cause.NODE_LOST: "node lost",
    Cause.PILOT_LOST: "pilot lost",
    Cause.CANCELED: "canceled",
    Cause.LAUNCH_ERROR: "could not start",
}


class Ended(Protocol):
    """An attempt that is over, or the result that came of it."""

    @property
    def cause(self) -> Cause | None:
        """Why it ended; None if it never ran."""

    @property
    def exit_code(self) -> int | None:
        """Its exit code, if it exited."""

    @property
    def signal(self) -> int | None:
        """The signal that killed it, if one did."""

    @property
    def message(self) -> str | None:
        """What else there is to say."""


def describe_end(last: Ended) -> str:
    """Return in a few words how an attempt ended: ``exit 3``, ``killed by SIGSEGV``, ``time limit``."""
    if last.cause is Cause.EXIT:
        return f"exit {last.exit_code}"
    if last.cause is Cause.SIGNAL:
        return f"killed by {signal_name(last.signal or 0)}"
    if last.cause is None:
        return "not run"
    return _ENDS[last.cause]


def message_of(last: Ended) -> str:
    """Return what there is to say of how an attempt ended besides `describe_end`; nothing, mostly."""
    return last.message if last.message and last.message != describe_end(last) else ""


def signal_name(number: int) -> str:
    """Return a signal's name, such as ``SIGSEGV``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
