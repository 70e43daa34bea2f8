"""Requests of stewards, which ask the schedulers."""

from pilotmtc.model import Job, JobReport, PilotId
from pilotmtc.protocol.base import STEWARDS, Changed, Done, Effect, Handling, Reply, Request


class Jobs(Reply, frozen=True):
    """The answer to `GetJobs`. `path` is the store's file on this host."""

    path: str
    jobs: tuple[Job, ...] = ()


class GetJobs(Request[Jobs], frozen=True, tag="jobs"):
    """Get the pilots to ask the scheduler at this URL about."""

    handling = Handling(said_by=STEWARDS, effect=Effect.READ)

    scheduler: str


class BeginSubmit(Request[Changed], frozen=True, tag="begin_submit"):
    """Note that the pilot is about to be submitted to its scheduler.

    If the steward dies after that, the job may have been submitted.

    Changes nothing, and the pilot must not be submitted, if `submits` is not the number that the store has, or if the
    pilot has ended.
    """

    handling = Handling(said_by=STEWARDS, effect=Effect.DURABLE, repeat_key="submits")

    pilot: PilotId
    submits: int


class ReportJobs(Request[Done], frozen=True, tag="report_jobs"):
    """Report what the scheduler says. Safe to repeat: it is the current state.

    Attributes
    ----------
    trouble
        Why the other pilots have no report; empty: the scheduler was not asked about them.
    troubles
        What went wrong with one pilot, beside its report.
    """

    handling = Handling(said_by=STEWARDS, effect=Effect.DURABLE)

    scheduler: str
    reports: tuple[JobReport, ...] = ()
    trouble: str = ""
    troubles: dict[PilotId, str] = {}
