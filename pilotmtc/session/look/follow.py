"""Following a campaign: its progress, and which of its tasks have ended."""

import time
from collections.abc import Iterable, Iterator

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, TaskId
from pilotmtc.protocol.client.campaigns import Campaigns, GetCampaigns
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.session.arguments import campaign_word
from pilotmtc.session.link import StoreLink
from pilotmtc.states import TASK_FINAL, TaskState

_COUNTS_EVERY_S = 0.1
_CROWD = 20  # more changes than that in one answer, and the next may wait until it holds more
_CROWD_PAUSE_S = 0.05
_NAMED = 10  # campaigns that an error lists


class Step(Struct, frozen=True):
    """What has happened to a campaign since the step before.

    Attributes
    ----------
    campaign
        The campaign; its counts are at most a tenth of a second old.
    ended
        Tasks that have ended, each with its final state.
    begun
        Tasks that have begun to run.
    missed
        Other tasks may have ended as well: the store's server was restarted, or the caller was slow.
    complete
        All tasks were submitted, have ended, and were in this or an earlier step.
    trouble
        Why the store cannot record results at present; empty if it can.
    """

    campaign: Campaign
    ended: tuple[tuple[TaskId, TaskState], ...] = ()
    missed: bool = False
    complete: bool = False
    trouble: str = ""
    begun: tuple[TaskId, ...] = ()


def get_campaign(link: StoreLink, campaign: int | str) -> Campaign:
    """Return a campaign, given by its id or its name.

    Raises
    ------
    UsageError
        If it does not exist, or if several have the name.
    """
    return _look(link, campaign)[0]


def get_campaigns(link: StoreLink, campaign: int | str) -> tuple[Campaign, ...]:
    """Return the campaign of this id or name, or all whose names match one with ``*`` or ``?``, newest first.

    Raises
    ------
    UsageError
        If there is none, or if several have the name although it has neither.
    """
    return _find(link, campaign).campaigns


def ids_of(link: StoreLink, words: Iterable[int | str]) -> tuple[CampaignId, ...]:
    """Return the ids of campaigns that are given by id or name, as `get_campaigns` finds them."""
    return tuple(dict.fromkeys([one.id for word in words for one in get_campaigns(link, word)]))


def _find(link: StoreLink, campaign: int | str) -> Campaigns:
    word = campaign_word("campaign", campaign)
    answer = link.call(GetCampaigns(name=word) if isinstance(word, str) else GetCampaigns(id=word))
    if not answer.campaigns:
        raise UsageError(f"there is no campaign {campaign} in {link.url}: see pilotmtc status")
    return answer


def _look(link: StoreLink, campaign: int | str) -> tuple[Campaign, str]:
    """Return a campaign, and why the store cannot record results."""
    answer = _find(link, campaign)
    if len(answer.campaigns) > 1:
        some = ", ".join([f"{one.id} ({one.name})" for one in answer.campaigns[:_NAMED]])
        more = "..." if len(answer.campaigns) > _NAMED else ""
        raise UsageError(f"{campaign!r} means {len(answer.campaigns)} campaigns: choose one of {some}{more}")
    return answer.campaigns[0], answer.trouble


def is_finished(campaign: Campaign) -> bool:
    """Return whether all tasks of the campaign have been submitted and have finished."""
    return campaign.sealed and unfinished(campaign) == 0


def unfinished(campaign: Campaign) -> int:
    """Return how many tasks of the campaign have not finished."""
    return sum(n for state, n in campaign.counts.items() if state not in TASK_FINAL)


def start_number(link: StoreLink) -> int:
    """Return the number of the newest change, for `follow` to start from."""
    return link.changes(GetChanges(since=0)).seq


def follow(link: StoreLink, campaign: CampaignId, since: int | None = None, wait_s: float = 0.5) -> Iterator[Step]:
    """Yield steps without end: one whenever something has changed, and at least about every `wait_s`.

    Parameters
    ----------
    since
        What `start_number` returned; None: start now.
    """
    seq = start_number(link) if since is None else since
    state, trouble = _look(link, campaign)
    looked_at = time.monotonic()
    while True:
        finished = is_finished(state)
        answer = link.changes(GetChanges(seq, campaign, wait_s=0.0 if finished else wait_s))
        seq = answer.seq
        now = time.monotonic()
        ended = tuple([(task, new) for task, new, _ in answer.changes if new in TASK_FINAL])
        if not finished and (not answer.changes or answer.reset or now - looked_at >= _COUNTS_EVERY_S):
            state, trouble = _look(link, campaign)
            looked_at = now
        elif finished and not answer.changes:
            state = get_campaign(link, campaign)  # tasks may have been retried meanwhile
            finished = is_finished(state)
        begun = tuple([task for task, new, _ in answer.changes if new is TaskState.RUNNING])
        yield Step(state, ended, answer.reset, finished and not answer.changes, trouble, begun)
        if len(answer.changes) > _CROWD:
            time.sleep(max(0.0, now + _CROWD_PAUSE_S - time.monotonic()))
