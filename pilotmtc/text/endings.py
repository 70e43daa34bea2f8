"""How attempts ended, in words."""

import signal
from typing import Protocol

from pilotmtc.model import Attempt, Resources
from pilotmtc.states import Cause
from pilotmtc.units import format_duration, format_memory

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
_SENTENCES = {
    Cause.WALLTIME: "its pilot's walltime was over",
    Cause.NODE_LOST: "its node was lost",
    Cause.PILOT_LOST: "its pilot was lost",
    Cause.LAUNCH_ERROR: "it could not be started",
}
_FAILED = {  # singular, plural
    Cause.TIMEOUT: ("over its time limit", "over their time limits"),
    Cause.OOM: ("over its memory limit", "over their memory limits"),
    Cause.WALLTIME: ("at the walltime's end", "at the walltime's end"),
    Cause.PREEMPTED: ("when it was preempted", "when they were preempted"),
    Cause.NODE_LOST: ("with its node", "with their nodes"),
    Cause.PILOT_LOST: ("with its pilot", "with their pilots"),
    Cause.CANCELED: ("when it was canceled", "when they were canceled"),
    Cause.LAUNCH_ERROR: ("before it could start", "before they could start"),
}


class EndedAttempt(Protocol):
    """An attempt that has ended, or its result."""

    @property
    def cause(self) -> Cause | None:
        """Why it ended; None if it never ran."""

    @property
    def exit_code(self) -> int | None:
        """The exit code, if it exited."""

    @property
    def signal(self) -> int | None:
        """The signal that killed it, if one did."""

    @property
    def message(self) -> str | None:
        """An explanation from pilotmtc or the system, if there is one."""

    @property
    def value_text(self) -> str:
        """What a call of a function returned or raised, as a text; empty if it did neither, and for commands."""


def describe_end(last: EndedAttempt) -> str:
    """Return in a few words how an attempt ended: ``exit 3``, ``raised ValueError``, ``over its time limit``."""
    if last.cause is Cause.EXIT and last.value_text:
        return "returned" if last.exit_code == 0 else f"raised {last.value_text.partition(':')[0]}"
    if last.cause is Cause.EXIT:
        return f"exit {last.exit_code}"
    if last.cause is Cause.SIGNAL:
        return f"killed by {signal_name(last.signal or 0)}"
    if last.cause is None:
        return "not run"
    return _ENDS[last.cause]


def end_sentence(last: Attempt, need: Resources) -> str:
    """Return how an attempt ended as a sentence, with the limit that it has exceeded, if any."""
    if last.cause is Cause.EXIT and last.value_text:
        return f"it raised {last.value_text}" if last.exit_code else "it returned"
    if last.cause is Cause.EXIT:
        return f"it exited with code {last.exit_code}"
    if last.cause is Cause.TIMEOUT:
        limit = f" of {format_duration(need.time_limit_s)}" if need.time_limit_s else ""
        return f"it ran for longer than its time limit{limit} and was killed"
    if last.cause is Cause.OOM:
        limit = f" of {format_memory(need.memory_bytes)}" if need.memory_bytes else ""
        return f"it needed more than its memory{limit} and was killed"
    return _SENTENCES.get(last.cause) or f"it was {describe_end(last)}"


def how_failed(cause: Cause, exit_code: int | None, number: int | None, tasks: int) -> str:
    """Return how tasks failed: ``with exit code 3``, ``over their time limits``; `number` is the signal's."""
    if cause is Cause.EXIT:
        return f"with exit code {exit_code}"
    if cause is Cause.SIGNAL:
        return f"by {signal_name(number or 0)}"
    return _FAILED[cause][tasks > 1]


def message_of(last: EndedAttempt) -> str:
    """Return the explanation that `describe_end` leaves out; usually empty."""
    return last.message if last.message and last.message != describe_end(last) else ""


def signal_name(number: int) -> str:
    """Return a signal's name, such as ``SIGSEGV``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
