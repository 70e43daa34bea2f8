"""Requests of clients that follow what happens."""

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId, TaskId
from pilotmtc.protocol.base import GUESTS, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.states import TaskState


class Changes(Reply, frozen=True):
    """The answer to `GetChanges`: transitions ``(task, state, attempt)`` in order.

    `reset`: the server does not know (it was restarted, or the client is too far behind). Read counts and tasks anew,
    and continue from `seq`.
    """

    seq: int
    changes: tuple[tuple[TaskId, TaskState, int], ...] = ()
    reset: bool = False


class GetChanges(Request[Changes], frozen=True, tag="changes"):
    """Get what has changed since `since`. The server waits up to `wait_s` for a change.

    Clients start with ``since=0``. The answer is `reset`, with the number to continue from.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES, bulky_reply=True)

    since: int = 0
    campaign: CampaignId | None = None
    limit: int = 10_000
    wait_s: float = 0.0

    def worth_sending(self, reply: Changes) -> bool:
        """Return whether anything has changed."""
        return bool(reply.changes) or reply.reset


class Overview(Reply, frozen=True):
    """The answer to `GetOverview`.

    Attributes
    ----------
    now
        The store host's clock; `since_at` is when counting began.
    series
        It has no steps if nothing is new: nothing has ended, and the cores are as before.
    whole
        It replaces all earlier answers.
    pilots, campaigns
        Those that have changed: pilots that are active or ended lately, campaigns that are new or not finished.
    failures
        Groups among the newest FAILED tasks, `looked_at` of them; largest first. None: as before.
    silent
        All active pilots that have been silent for too long.
    """

    seq: int
    now: float
    since_at: float
    series: Series
    whole: bool = False
    pilots: tuple[Pilot, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    pilot_paces: tuple[Pace, ...] = ()
    campaign_paces: tuple[Pace, ...] = ()
    tasks: dict[TaskState, int] = {}
    failures: tuple[FailureGroup, ...] | None = None
    looked_at: int = 0
    silent: tuple[PilotId, ...] = ()


class GetOverview(Request[Overview], frozen=True, tag="overview"):
    """Get what a user wants to see at a glance, from the server's memory and a few small queries.

    Attributes
    ----------
    since
        ``Overview.seq`` of the last answer, to which this one adds; 0 gets all. The server waits up to `wait_s` for
        something new.
    span_s
        How far back the series goes.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES, bulky_reply=True)

    since: int = 0
    span_s: float = 600.0
    wait_s: float = 0.0

    def worth_sending(self, reply: Overview) -> bool:
        """Return whether it is newer than the last one."""
        return reply.seq != self.since
