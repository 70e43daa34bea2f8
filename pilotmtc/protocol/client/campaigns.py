"""Requests of clients about campaigns."""

from pilotmtc.model import Campaign, CampaignId, Program, Resources, TaskId, TaskRow, Template
from pilotmtc.protocol.base import CLIENTS, Changed, Done, Effect, Handling, Reply, Request
from pilotmtc.protocol.records import Filter

CALLS = "calls-"  # so the keys of campaigns begin that are calls of functions


class Submitted(Reply, frozen=True):
    """The first `received` tasks of the campaign are safe on disk.

    Attributes
    ----------
    first
        The id of the request's first row, also of one that was received before; those of its other rows follow it.
        0 if there are no rows, or if they came in requests that were cut otherwise and have other ids between them.
    """

    campaign: CampaignId
    received: int
    sealed: bool = False
    first: TaskId = TaskId(0)


class Submit(Request[Submitted], frozen=True, tag="submit"):
    """Add tasks to a campaign; the first message creates it.

    Safe to repeat: the client makes the `key`, and the store skips rows that it has received already. A client that is
    not sure may send again from any row up to ``received``.

    Attributes
    ----------
    key
        Made by the client, and unique.
    offset
        Position of the first row in the campaign, from 0.
    templates, resources
        Tables for the rows' indexes.
    last
        Whether these are the last tasks of the campaign.
    own_pilots
        Only pilots of this campaign may take its tasks. The first message decides; see `ShareCampaign`.
    max_running
        At most so many of its tasks are claimed or running at once; 0: no limit. The first message decides; see
        `SetMaxRunning`.
    program
        What was seen of the programs of new templates; None: nothing new.
    memo
        Take tasks as DONE, with the result of an earlier one, if it has run the same.
    start_rate, after
        As in `SetStartRate` and `SetAfterCampaigns`. The first message decides.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    offset: int = 0
    name: str = ""
    templates: tuple[Template, ...] = ()
    resources: tuple[Resources, ...] = ()
    rows: tuple[TaskRow, ...] = ()
    last: bool = False
    own_pilots: bool = False
    max_running: int = 0
    program: Program | None = None
    memo: bool = False
    start_rate: float = 0.0
    after: tuple[CampaignId, ...] = ()


class ReopenCampaign(Request[Submitted], frozen=True, tag="reopen_campaign"):
    """Let more tasks come into a campaign, which may be complete, under another key. Safe to repeat.

    Whoever has the key of before adds nothing any more: of two programs that both take a campaign for theirs, the one
    that came last has it.

    Attributes
    ----------
    key
        Made by the client; never used twice.
    complete_with
        Only if the campaign is complete with so many tasks: nobody else adds to it, or has done so meanwhile.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    campaign: CampaignId
    key: str
    complete_with: int | None = None


class ShareCampaign(Request[Changed], frozen=True, tag="share_campaign"):
    """Let any pilot take the tasks of a campaign that was kept for pilots of its own. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId


class Campaigns(Reply, frozen=True):
    """The answer to `GetCampaigns`.

    Attributes
    ----------
    trouble
        Why the store cannot record results right now, such as a full disk; empty if it can.
    """

    campaigns: tuple[Campaign, ...]
    trouble: str = ""


class GetCampaigns(Request[Campaigns], frozen=True, tag="campaigns"):
    """Get campaigns, newest first; with `id` or `key` only that one, with `name` those of that name.

    A name may contain ``*`` and ``?``. Without them, it is an error if several campaigns have it.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    id: CampaignId | None = None
    key: str | None = None
    name: str | None = None


class DeleteCampaign(Request[Changed], frozen=True, tag="delete_campaign"):
    """Delete a campaign whose tasks have all finished. `key` makes it safe to repeat.

    Its tasks, results, outputs and values are gone then; its number is not used again.

    Attributes
    ----------
    keep_results
        Delete only what its tasks wrote and returned.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    campaign: CampaignId
    keep_results: bool = False

    @property
    def filter(self) -> Filter:
        """All tasks of the campaign."""
        return Filter(campaign=self.campaign)


class HoldCampaign(Request[Changed], frozen=True, tag="hold_campaign"):
    """Put a campaign on hold, so that no pilot takes its tasks, or release it (`hold` False). Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    hold: bool = True


class SetHalt(Request[Done], frozen=True, tag="set_halt"):
    """Put a campaign on hold as soon as enough of its tasks have FAILED; releasing it forgets this. Safe to repeat.

    Attributes
    ----------
    failed
        So many; 0: no such number.
    share
        This part of all its tasks, from 0 to 1, once all have been submitted; 0: no such part.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    failed: int = 0
    share: float = 0.0


class SetMaxRunning(Request[Done], frozen=True, tag="set_max_running"):
    """Let at most `tasks` of a campaign be claimed or running at once, over all pilots; 0: no limit. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    tasks: int


class SetStartRate(Request[Done], frozen=True, tag="set_start_rate"):
    """Give pilots at most so many tasks of a campaign a second, all pilots together; 0: no limit. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    per_s: float


class SetAfterCampaigns(Request[Done], frozen=True, tag="set_after_campaigns"):
    """Let a campaign wait until all tasks of others are DONE: no pilot takes its tasks before. Safe to repeat.

    Attributes
    ----------
    after
        The others: in place of all that it waits for, or with `more` besides those.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    after: tuple[CampaignId, ...]
    more: bool = False


class RenameCampaign(Request[Done], frozen=True, tag="rename_campaign"):
    """Give a campaign another name. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    name: str
