"""Reads what a report needs from the store, page by page."""

from collections.abc import Sequence

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId
from pilotmtc.protocol.client.history import GetHistory
from pilotmtc.protocol.client.pilots import GetPilots, GetPilotView
from pilotmtc.report.measure.columns import Attempts
from pilotmtc.report.measure.make import Past
from pilotmtc.report.report import Report
from pilotmtc.session.link import StoreLink
from pilotmtc.states import PILOT_FINAL


def read_report(link: StoreLink, campaigns: Sequence[Campaign]) -> Report:
    """Return a report on campaigns."""
    wanted = tuple([campaign.id for campaign in campaigns])
    attempts = Attempts()
    now = _add(link, attempts, wanted)
    used = set(attempts.pilot)
    pilots = link.call(GetPilots()).pilots
    active = [pilot for pilot in pilots if pilot.state not in PILOT_FINAL and pilot.started_at is not None]
    for pilot in active:
        now = max(now, _add_running(link, attempts, pilot, wanted, used))
    used.update(attempts.pilot)
    shared = tuple([pilot.id for pilot in pilots if pilot.id in used and pilot.description.campaign not in wanted])
    if shared:  # their cores ran tasks of other campaigns, too
        _add(link, attempts, wanted, shared)
    there = [pilot for pilot in pilots if pilot.id in used or pilot.description.campaign in wanted]
    return Report(Past(attempts, campaigns, there, now))


def _add(
    link: StoreLink, attempts: Attempts, campaigns: tuple[CampaignId, ...], pilots: tuple[PilotId, ...] = ()
) -> float:
    """Add the recorded attempts; return the time of the store's host."""
    after = 0
    while True:
        page = link.call(GetHistory(campaigns, pilots, after))
        attempts.add(page)
        if not page.next:
            return page.now
        after = page.next


def _add_running(
    link: StoreLink, attempts: Attempts, pilot: Pilot, campaigns: tuple[CampaignId, ...], used: set[int]
) -> float:
    """Add what runs on a pilot, if any of it is of the campaigns or was before."""
    view = link.call(GetPilotView(pilot.id))
    running = [task for task in view.tasks if task.started_at]
    if pilot.id in used or any(task.campaign in campaigns for task in running):
        for task in running:
            attempts.add_running(task, pilot.id, view.now)
    return view.now
