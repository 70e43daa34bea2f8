"""How clients follow what happens."""

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId, TaskId
from pilotmtc.protocol.base import GUESTS, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.states import TaskState


class Changes(Reply, frozen=True):
    """Transitions ``(task, state, attempt)`` in order.

    `reset`: the server cannot say (it was restarted, or the watcher is too far behind): read the counts and tasks
    anew and go on from `seq`.
    """

    seq: int
    changes: tuple[tuple[TaskId, TaskState, int], ...] = ()
    reset: bool = False


class GetChanges(Request[Changes], frozen=True, tag="changes"):
    """What has changed since `since`. The server holds the answer back up to `wait_s` when there is nothing.

    Watchers start with ``since=0``, which answers `reset` and the number to go on from.
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
        Its steps are left out when there is no news: nothing has ended, and the cores are as before.
    whole
        It does not add to an earlier answer: forget that one.
    pilots, campaigns
        Those that have changed: pilots that live or ended lately, campaigns that are new or not over.
    failures
        Groups among the newest FAILED tasks, `looked_at` of them; largest first. None: as before.
    silent
        Live pilots that have not been heard of for too long, all of them.
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
    """What a person wants to see at a glance, from the server's memory and a few small queries.

    Attributes
    ----------
    since
        ``Overview.seq`` of the last answer, which this one adds to; 0 asks for all. The server holds the answer back
        up to `wait_s` while nothing is new.
    span_s
        How much of the past the series should show.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES, bulky_reply=True)

    since: int = 0
    span_s: float = 600.0
    wait_s: float = 0.0

    def worth_sending(self, reply: Overview) -> bool:
        """Return whether it is newer than the last one."""
        return reply.seq != self.since
