"""Requests of stewards, which submit pilots to schedulers and ask about them."""

from pilotmtc.model import PilotId
from pilotmtc.protocol.base import USER_AND_STEWARDS, Changed, Done, Effect, Handling, Reply, Request
from pilotmtc.protocol.records import Job, JobReport


class Jobs(Reply, frozen=True):
    """The answer to `GetJobs`. `path` is the store's file on this host."""

    path: str
    jobs: tuple[Job, ...] = ()


class GetJobs(Request[Jobs], frozen=True, tag="jobs"):
    """Get the pilots about which to ask the scheduler at this URL."""

    handling = Handling(said_by=USER_AND_STEWARDS, effect=Effect.READ)

    scheduler: str


class BeginSubmit(Request[Changed], frozen=True, tag="begin_submit"):
    """Record that the pilot is about to be submitted to its scheduler, in case the steward dies meanwhile.

    If `submits` is not the number that the store has, or if the pilot has ended, nothing changes, and the pilot must
    not be submitted.
    """

    handling = Handling(said_by=USER_AND_STEWARDS, effect=Effect.DURABLE, repeat_key="submits")

    pilot: PilotId
    submits: int


class ReportJobs(Request[Done], frozen=True, tag="report_jobs"):
    """Report what the scheduler says about jobs. Safe to repeat: it is their current state.

    Attributes
    ----------
    trouble
        Why the other pilots have no report; empty: the scheduler was not asked about them.
    troubles
        What went wrong with single pilots, in addition to their reports.
    """

    handling = Handling(said_by=USER_AND_STEWARDS, effect=Effect.DURABLE)

    scheduler: str
    reports: tuple[JobReport, ...] = ()
    trouble: str = ""
    troubles: dict[PilotId, str] = {}
