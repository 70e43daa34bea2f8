"""What the store's server and its stewards, who ask the schedulers, say to each other."""

from pilotmtc.model import Job, JobReport, PilotId
from pilotmtc.protocol.base import STEWARDS, Changed, Done, Effect, Handling, Reply, Request


class Jobs(Reply, frozen=True):
    """The answer to `GetJobs`. `path` is the store's file on this host."""

    path: str
    jobs: tuple[Job, ...] = ()


class GetJobs(Request[Jobs], frozen=True, tag="jobs"):
    """The pilots that the scheduler at this URL is to be asked about."""

    handling = Handling(said_by=STEWARDS, effect=Effect.READ)

    scheduler: str


class BeginSubmit(Request[Changed], frozen=True, tag="begin_submit"):
    """The pilot is about to be given to its scheduler: whoever dies now may have done so.

    Changes nothing if `submits` is not the number known here, or the pilot is over: it must not be submitted then.
    """

    handling = Handling(said_by=STEWARDS, effect=Effect.DURABLE, repeat_key="submits")

    pilot: PilotId
    submits: int


class ReportJobs(Request[Done], frozen=True, tag="report_jobs"):
    """What the scheduler says. Safe to repeat: it is what is so now.

    Attributes
    ----------
    trouble
        Why it says nothing of the others; empty: they were not asked about.
    troubles
        What went wrong with one pilot alone, whatever is said of it besides.
    """

    handling = Handling(said_by=STEWARDS, effect=Effect.DURABLE)

    scheduler: str
    reports: tuple[JobReport, ...] = ()
    trouble: str = ""
    troubles: dict[PilotId, str] = {}
