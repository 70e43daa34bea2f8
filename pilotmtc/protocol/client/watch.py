"""Requests of clients that follow events."""

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId, TaskId
from pilotmtc.protocol.base import CLIENTS, Done, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.client.tasks import ReturnedCall
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.states import TaskState

_FAR = 50_000  # changes, of which the server keeps twice as many


class Changes(Reply, frozen=True):
    """The answer to `GetChanges`: changes of tasks' states, ``(task, state, attempt)``, in order.

    `reset`: the server does not know all of them (it was restarted, or the client is too far behind). Read counts and
    tasks again, and continue from `seq`.

    `returned`: how those of the tasks have ended that are over, if that was asked for, as far as there was room.
    """

    seq: int
    changes: tuple[tuple[TaskId, TaskState, int], ...] = ()
    reset: bool = False
    returned: tuple[ReturnedCall, ...] = ()


class GetChanges(Request[Changes], frozen=True, tag="changes"):
    """Get the changes after number `since`. The server waits up to `wait_s` for a change.

    Clients start with ``since=0``; the answer then has `reset` and the number to continue from.

    Attributes
    ----------
    states
        Only changes to one of these states; empty: all changes.
    returned
        Answer with what calls have returned, too, which saves a `GetReturned` for most of them.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES, bulky_reply=True)

    since: int = 0
    campaign: CampaignId | None = None
    limit: int = 10_000
    wait_s: float = 0.0
    states: tuple[TaskState, ...] = ()
    returned: bool = False

    def worth_sending(self, reply: Changes) -> bool:
        """Return whether anything has changed, or so much of others' that the client must not stay behind."""
        return bool(reply.changes) or reply.reset or reply.seq - self.since > _FAR


class Overview(Reply, frozen=True):
    """The answer to `GetOverview`.

    Attributes
    ----------
    now
        The time on the store's host; `since_at` is when counting began.
    series
        It is empty if nothing is new: no task has ended, and the cores are as before.
    whole
        Whether it replaces all earlier answers.
    pilots, campaigns
        Those that have changed: pilots that are active or have recently ended; campaigns that are new or not finished.
    failures
        The newest `looked_at` FAILED tasks in groups, largest first. None: as before.
    silent
        All active pilots that have been silent for too long.
    seen
        What was marked with `MarkSeen`. None: as before.
    held
        How many READY tasks of a campaign are on hold by themselves, as far as has been counted.
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
    seen: dict[str, float] | None = None
    held: dict[CampaignId, int] = {}


class GetOverview(Request[Overview], frozen=True, tag="overview"):
    """Get an overview of the store, from the server's memory and a few small queries.

    Attributes
    ----------
    since
        ``Overview.seq`` of the last answer, which the new one updates; 0: get everything. The server waits up to
        `wait_s` for something new.
    span_s
        How far back the series goes.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES, bulky_reply=True)

    since: int = 0
    span_s: float = 600.0
    wait_s: float = 0.0

    def worth_sending(self, reply: Overview) -> bool:
        """Return whether the overview is newer than the last one."""
        return reply.seq != self.since


class MarkSeen(Request[Done], frozen=True, tag="mark_seen"):
    """Mark what needs attention as seen by the user, until there is more of it.

    Attributes
    ----------
    marks
        How much there is of each, by `Notice.key`; None: it is new again.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.WRITE)

    marks: dict[str, float | None]
