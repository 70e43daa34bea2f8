"""Decides how a pilot ends from what its scheduler reports. Pure."""

from typing import NamedTuple

from pilotmtc.protocol.records import JobReport
from pilotmtc.states import PILOT_FINAL, Cause, JobState, PilotState

_WALLTIME = ("TIMEOUT", "DEADLINE", "WALLTIME", "TIME LIMIT")
LIVING = frozenset({JobState.PENDING, JobState.RUNNING})
# A scheduler may need a moment to show a job that was just submitted.
SETTLED_S = 30.0
_CANCELED = "its job was canceled by somebody else"
NOT_HEARD = "no heartbeat"  # a pilot that has ended only for this reason may come back


class End(NamedTuple):
    """How a pilot ends, and the cause for its running tasks; None: it follows from the pilot's state."""

    state: PilotState
    reason: str
    cause: Cause | None = None


class Decision(NamedTuple):
    """What follows from a report: how the pilot ends, if it does, and whether to ask about it again."""

    end: End | None
    watch: bool


def judge(state: PilotState, report: JobReport, *, kill: bool, waited_s: float) -> Decision:
    """Return what follows from a scheduler's report on the job of a pilot in `state`.

    While a pilot's lease is valid, its agent counts more than the scheduler: schedulers forget jobs, and give up nodes
    that still work. When the lease has expired, `end_of_silent` decides.

    Parameters
    ----------
    kill
        Whether the pilot has been canceled.
    waited_s
        Time since the job was submitted.
    """
    if report.state is JobState.GONE and waited_s < SETTLED_S and not kill and state not in PILOT_FINAL:
        return Decision(None, watch=True)
    over = report.state not in LIVING
    if state in (PilotState.NEW, PilotState.PENDING) and over:
        return Decision(_end_unstarted(report, kill=kill), watch=False)
    if state in (PilotState.ACTIVE, PilotState.DRAINING):
        return Decision(None, watch=True)
    return Decision(None, watch=not over)


def why_waiting(report: JobReport) -> str:
    """Return why a pilot waits although its job runs: for its agent, which may have written a reason."""
    words = "its job runs, its agent is on its way"
    return f"{words}; its output ends with: {report.log.splitlines()[-1]}" if report.log else words


def end_of_silent(job: JobState | None, native_state: str, reason: str, *, kill: bool) -> End:
    """Return how a pilot with an expired lease ends; the other arguments are its scheduler's last report."""
    if kill:
        return End(PilotState.CANCELED, "canceled; no heartbeat")
    if job is None or job in LIVING:  # perhaps only the connection is broken, and the pilot will come back
        return End(PilotState.FAILED, NOT_HEARD)
    cause, said = cause_of(native_state, reason), _said(native_state, reason)
    if job is JobState.CANCELED:
        return End(PilotState.CANCELED, f"{_CANCELED} ({said})", cause)
    if cause is Cause.WALLTIME:
        return End(PilotState.DONE, f"walltime ({said})", cause)
    return End(PilotState.FAILED, f"{NOT_HEARD}, and its job is over ({said})", cause)


def cause_of(*words: str) -> Cause:
    """Return the cause for the tasks of a job that has ended, from the scheduler's words."""
    said = " ".join(words).upper()
    if any(word in said for word in _WALLTIME):
        return Cause.WALLTIME
    return Cause.PREEMPTED if "PREEMPT" in said else Cause.PILOT_LOST


def _said(native_state: str, reason: str) -> str:
    return ": ".join(filter(None, (native_state, reason))) or "unknown"


def _end_unstarted(report: JobReport, *, kill: bool) -> End:
    """Return how a pilot ends whose job has ended before its agent attached."""
    said = _said(report.native_state, report.reason)
    if kill:
        return End(PilotState.CANCELED, "canceled before it started")
    match report.state:
        case JobState.REJECTED:
            asked = bool(report.native_state)
            return End(PilotState.FAILED, f"the scheduler refused it: {report.reason}" if asked else report.reason)
        case JobState.CANCELED:
            return End(PilotState.CANCELED, f"{_CANCELED} ({said})")
        case JobState.GONE:
            words = f"the scheduler does not know its job {report.batch or ''}".rstrip() + " any more"
        case _:
            code = f" with exit code {report.exit_code}" if report.exit_code else ""
            words = f"its job ended{code} ({said}), and its agent never reached the store"
    return End(PilotState.FAILED, f"{words}; its output ends with: {report.log}" if report.log else words)
