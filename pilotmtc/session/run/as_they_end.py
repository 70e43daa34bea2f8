"""Results of a campaign: those that are there, and then the others as their tasks end."""

import logging
import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from pilotmtc.model import Campaign, CampaignId, TaskId
from pilotmtc.protocol.client.campaigns import CALLS, GetCampaigns
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import follow, get_campaign, start_number, unfinished
from pilotmtc.session.look.results import TaskResult
from pilotmtc.session.run.order import TaskIdSet
from pilotmtc.states import TASK_HELD
from pilotmtc.text.numbers import count

log = logging.getLogger(__name__)
_FETCH = 500
_ABANDONED_S = 5.0  # so long there may be no pilot while a pool starts its first, or one in place of another
_LOOK_S = 1.0


def results_of_campaign(
    link: StoreLink, named: CampaignId | str, select: Filter, fetch: Callable[[Filter], Iterator[TaskResult]],
    *, wait: bool | None,
) -> Iterator[TaskResult]:  # fmt: skip
    """Yield the result of each selected task of a campaign once, until none is left that has not finished.

    Parameters
    ----------
    named
        The campaign, by its number or its name.
    fetch
        Yields the results of tasks that have finished.
    wait
        None: only if they are calls of functions, and only as long as there is a pilot that may make them.
    """
    if wait is None:
        which = GetCampaigns(name=named) if isinstance(named, str) else GetCampaigns(id=named)
        found = link.call(which).campaigns
        if len(found) != 1 or not found[0].key.startswith(CALLS):
            yield from fetch(select)
            return
        campaign = found[0].id
    else:
        campaign = get_campaign(link, named).id  # which says so if there is none
    since = start_number(link)
    seen = TaskIdSet()

    def new(found: Iterator[TaskResult]) -> Iterator[TaskResult]:
        return (result for result in found if seen.add(result.id))

    yield from new(fetch(select))
    cared_for = _CaredFor(link)
    for step in follow(link, campaign, since):
        wanted = [task for task, _ in step.ended if select.ids is None or task in select.ids]
        for at in range(0, len(wanted), _FETCH):
            ids: tuple[TaskId, ...] = tuple(wanted[at : at + _FETCH])
            yield from new(fetch(replace(select, ids=ids)))
        left = unfinished(step.campaign)
        given_up = wait is None and left > 0 and not cared_for(step.campaign)
        if step.missed or not left or given_up:
            yield from new(fetch(select))
        if given_up:
            log.warning("campaign %d has %s left, and no pilot that may make them", campaign, count(left, "call"))
        if given_up or not left:
            return


class _CaredFor:
    """Whether tasks of a campaign run, or pilots are there for it, or were a moment ago."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._looked_at = 0.0
        self._seen_at = time.monotonic()

    def __call__(self, campaign: Campaign) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            if any(campaign.counts.get(state) for state in TASK_HELD) or self._pilots(campaign):
                self._seen_at = now
        return now - self._seen_at < _ABANDONED_S

    def _pilots(self, campaign: Campaign) -> bool:
        mine = (campaign.id,) if campaign.own_pilots else (campaign.id, None)
        return any(pilot.description.campaign in mine for pilot in self._link.call(GetPilots(live=True)).pilots)
