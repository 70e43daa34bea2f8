"""`Pilots`: the pilots of a session's store."""

import time
from collections.abc import Iterator
from typing import Unpack

from pilotmtc import pilots
from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Pilot, PilotDescription, PilotId
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.pilots import (
    CancelPilot,
    DrainPilot,
    GetPilotFile,
    GetPilots,
    GetPilotView,
    GetSpans,
    HoldPilot,
    PilotFile,
    PilotView,
    Spans,
)
from pilotmtc.session.arguments import seconds, whole
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign, is_finished
from pilotmtc.session.submit.pilot import PilotOptions, describe
from pilotmtc.sites import LOCAL
from pilotmtc.states import PILOT_FINAL

_LOOK_S = 0.1


class Pilots:
    """The pilots of a store. Iteration gives the active ones, newest first."""

    def __init__(self, link: StoreLink, site: str = LOCAL) -> None:
        self._link = link
        self._site = site

    def __iter__(self) -> Iterator[Pilot]:
        """Return an iterator over the active pilots."""
        return iter(self.list())

    def list(self, *, ended: bool = False) -> tuple[Pilot, ...]:
        """Return the active pilots, newest first; with `ended` also those that have ended."""
        return self._link.call(GetPilots(live=not ended)).pilots

    def get(self, pilot: int) -> Pilot:
        """Return a pilot.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        found = self._link.call(GetPilots(id=_pilot_id(pilot))).pilots
        if not found:
            raise self._unknown(pilot)
        return found[0]

    def inspect(self, pilot: int) -> PilotView:
        """Return everything about a pilot: its record, nodes, running tasks, events and pace.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        found = self._link.call(GetPilotView(_pilot_id(pilot)))
        if found.pilot is None:
            raise self._unknown(pilot)
        return found

    def spans(self, pilot: int, *, before: int = 0, since: int = 0) -> Spans:
        """Return a page of a pilot's attempts: when and where they ran.

        Parameters
        ----------
        before
            ``Spans.next`` of the last page: return the page with older tasks.
        since
            ``Spans.seq`` of the last answer: return attempts that have ended since then.
        """
        return self._link.call(GetSpans(_pilot_id(pilot), before, since=since))

    def file(self, pilot: int, name: str, limit: int = 65_536) -> PilotFile:
        """Return the last `limit` bytes of a file in a pilot's directory: ``agent.log`` or ``job.sh``."""
        return self._link.call(GetPilotFile(_pilot_id(pilot), name, limit))

    def describe(self, **options: Unpack[PilotOptions]) -> PilotDescription:
        """Return the description that `submit` would make from the same options."""
        if not options.get("site") and not options.get("scheduler"):
            options["site"] = self._site
        return describe(remote=self._link.url.startswith("ssh://"), **options)

    def submit(self, *, wait_s: float | None = None, **options: Unpack[PilotOptions]) -> Pilot:
        """Start a pilot, on this machine or through a scheduler, in the background, and return its record.

        Parameters
        ----------
        wait_s
            How long to wait for it to become active, or for the scheduler to accept it; None: some seconds.
        **options
            See `PilotOptions`. If several campaigns have a name, it is that of the only one that is not finished.

        Raises
        ------
        ConfigError
            If it dies at once; the text quotes its log.
        SubmitRejected
            If the scheduler refuses.
        """
        campaign = options.get("campaign")
        if campaign is not None:
            options["campaign"] = self._campaign(campaign)
        return pilots.start(self._link.store, self._link.url, self.describe(**options), wait_s)

    def _campaign(self, campaign: int | str) -> CampaignId:
        if isinstance(campaign, str):
            live = [
                one
                for one in self._link.call(GetCampaigns()).campaigns
                if one.name == campaign and not is_finished(one)
            ]
            if len(live) == 1:
                return live[0].id
        return get_campaign(self._link, campaign).id

    def drain(self, pilot: int) -> Changed:
        """Let a pilot finish its running tasks, take no new ones, and end."""
        return self._link.call(DrainPilot(self.get(pilot).id))

    def hold(self, pilot: int) -> Changed:
        """Let a pilot take no more tasks until it is released; it ends what it has taken."""
        return self._link.call(HoldPilot(self.get(pilot).id))

    def release(self, pilot: int) -> Changed:
        """Let a pilot take tasks again that was on hold."""
        return self._link.call(HoldPilot(self.get(pilot).id, hold=False))

    def cancel(self, pilot: int) -> Changed:
        """End a pilot now: its tasks are killed, and run again on another pilot."""
        return self._link.call(CancelPilot(self.get(pilot).id))

    def wait(self, pilot: int, timeout_s: float | None = None) -> Pilot:
        """Wait until a pilot has ended; return it.

        Raises
        ------
        TimeoutError
            If it has not ended within `timeout_s`.
        """
        timeout_s = seconds("timeout_s", timeout_s)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self.get(pilot)
            if found.state in PILOT_FINAL:
                return found
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"pilot {pilot} is still {found.state.name} after {timeout_s:g} s")
            time.sleep(_LOOK_S)

    def _unknown(self, pilot: int) -> UsageError:
        return UsageError(f"there is no pilot {pilot} in {self._link.url}: see pilotmtc pilot list --all")


def _pilot_id(pilot: object) -> PilotId:
    return PilotId(whole("pilot", pilot))
