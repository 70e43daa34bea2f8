"""Following a campaign: its progress, and which tasks have ended."""

import time
from collections.abc import Iterator

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, TaskId
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.session.arguments import whole
from pilotmtc.session.link import StoreLink
from pilotmtc.states import TASK_FINAL, TaskState

_COUNTS_EVERY_S = 0.1
_CROWD = 20  # more changes than that in one answer, and the next may wait until it holds more
_CROWD_PAUSE_S = 0.05


class Step(Struct, frozen=True):
    """What is new.

    Attributes
    ----------
    campaign
        With its counts, a tenth of a second old at the most.
    over
        Tasks that have ended since the last step, and how.
    missed
        More tasks may have ended than `over` holds: the store's server was restarted, or we were slow.
    complete
        All tasks are submitted and have finished, and all of them were in a step.
    trouble
        Why the store cannot keep results just now; empty if it can.
    """

    campaign: Campaign
    over: tuple[tuple[TaskId, TaskState], ...] = ()
    missed: bool = False
    complete: bool = False
    trouble: str = ""


def get_campaign(link: StoreLink, campaign: int) -> Campaign:
    """Return a campaign.

    Raises
    ------
    UsageError
        If there is none of that number.
    """
    return _look(link, campaign)[0]


def _look(link: StoreLink, campaign: int) -> tuple[Campaign, str]:
    """Return a campaign, and why the store cannot keep results."""
    answer = link.call(GetCampaigns(id=CampaignId(whole("campaign", campaign))))
    if not answer.campaigns:
        raise UsageError(f"there is no campaign {campaign} in {link.url}: see pilotmtc status")
    return answer.campaigns[0], answer.trouble


def is_over(campaign: Campaign) -> bool:
    """Return whether all tasks of the campaign are submitted and have finished."""
    return campaign.sealed and unfinished(campaign) == 0


def unfinished(campaign: Campaign) -> int:
    """Return how many tasks of the campaign have not finished."""
    return sum(n for state, n in campaign.counts.items() if state not in TASK_FINAL)


def start_number(link: StoreLink) -> int:
    """Return the number of now: changes after it are those to come."""
    return link.changes(GetChanges(since=0)).seq


def follow(link: StoreLink, campaign: CampaignId, since: int | None = None, wait_s: float = 0.5) -> Iterator[Step]:
    """Yield a step at least every `wait_s` or so, for as long as it is asked for one.

    Parameters
    ----------
    since
        As `start_number` returned it; None is now.
    """
    seq = start_number(link) if since is None else since
    state, trouble = _look(link, campaign)
    looked_at = time.monotonic()
    while True:
        over = is_over(state)
        answer = link.changes(GetChanges(seq, campaign, wait_s=0.0 if over else wait_s))
        seq = answer.seq
        now = time.monotonic()
        ended = tuple([(task, new) for task, new, _ in answer.changes if new in TASK_FINAL])
        if not over and (not answer.changes or answer.reset or now - looked_at >= _COUNTS_EVERY_S):
            state, trouble = _look(link, campaign)
            looked_at = now
        elif over and not answer.changes:
            again = get_campaign(link, campaign)  # somebody may have retried tasks meanwhile
            over = is_over(again)
            state = again
        yield Step(state, ended, answer.reset, over and not answer.changes, trouble)
        if len(answer.changes) > _CROWD:
            time.sleep(max(0.0, now + _CROWD_PAUSE_S - time.monotonic()))
