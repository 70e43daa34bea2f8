"""The pilots of a pool: one of its own is kept going, and those that were added leave with it."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from msgspec import structs

from pilotmtc import pilots
from pilotmtc.errors import PilotMTCError, SchemaMismatch, StoreError, UsageError
from pilotmtc.executor.future import PoolBroken
from pilotmtc.executor.progress import EVERY_S
from pilotmtc.model import CampaignId, Pilot, PilotDescription, TaskId
from pilotmtc.protocol.client.pilots import DrainPilot, GetPilots
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign
from pilotmtc.session.run.own_pilot import NothingFits, OwnPilot
from pilotmtc.states import PILOT_FINAL, PilotState

log = logging.getLogger(__name__)
IDLE_S = 300.0  # without a call, and it leaves; whoever calls again gets another
_LOOK_S = 1.0
_TELL_S = 5.0


class Keeper:
    """Looks after a pool's pilots; `run` is for a thread of its own.

    Parameters
    ----------
    description
        What its own pilots are; ``campaign`` and, if it is 0, ``idle_s`` are set here.
    shared
        Any pilot of the store may have the calls: it starts one of its own only if there is none.
    tick
        Is called from time to time, and told whether it is for the last time.
    unfit
        Is told which tasks can never run, and why.
    ahead
        An agent for the first pilot of its own on this machine, which is there already.
    """

    def __init__(
        self, link: StoreLink, description: PilotDescription, campaign: CampaignId, *, shared: bool,
        unfit: Callable[[list[TaskId], UsageError], None], tick: Callable[[bool], None] | None = None,
        ahead: pilots.AgentAhead | None = None,
    ) -> None:  # fmt: skip
        self._link = link
        self._campaign = campaign
        self._shared = shared
        self._description = structs.replace(description, campaign=campaign, idle_s=description.idle_s or IDLE_S)
        self._unfit = unfit
        self._tick = tick
        self._ahead = ahead
        self._own: OwnPilot | None = None
        self._added: list[Pilot] = []
        self._over = False  # the own one, for now
        self._troubled = False
        self._looked_at = 0.0
        self._hastened = False
        self._wake = threading.Event()
        self._stopped = False

    def add(self, description: PilotDescription, wait_s: float | None = None) -> Pilot:
        """Start another pilot for the pool's calls, and return it; for any thread."""
        description = structs.replace(
            description, campaign=self._campaign, idle_s=description.idle_s or self._description.idle_s
        )
        pilot = pilots.start(self._link.store, self._link.url, description, wait_s)
        self._added.append(pilot)
        return pilot

    @property
    def has_others(self) -> bool:
        """Whether pilots were added to its own."""
        return bool(self._added)

    def hasten(self) -> None:
        """Take note that there are new calls: a pilot that had left is needed again; for any thread."""
        if self._over:
            self._hastened = True
            self._wake.set()

    def stop(self) -> None:
        """Let `run` return; for any thread."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Look after the pilots until `stop`.

        Raises
        ------
        PilotMTCError
            If there is no use in starting another one.
        PoolBroken
            If somebody has ended the last one.
        """
        try:
            there = self._others()
            if there:
                # Pilots that another program has left, whose campaign this is now, leave with it.
                self._added += [pilot for pilot in there if pilot.description.campaign == self._campaign]
            else:
                self._start()
            while not self._stopped:
                self._wake.wait(_LOOK_S if self._tick is None else EVERY_S)
                self._wake.clear()
                if self._stopped:
                    break
                if self._tick is not None:
                    self._tick(False)
                try:
                    self._look()
                except SchemaMismatch:
                    raise
                except NothingFits as error:  # others may come that do
                    self._unfit(error.tasks, UsageError(error.why))
                except StoreError as error:  # it may get better: pilots go on meanwhile
                    if not self._troubled:
                        log.warning("pilots of campaign %d cannot be looked after: %s", self._campaign, error)
                    self._troubled = True
                else:
                    self._troubled = False
        finally:
            if self._tick is not None:
                self._tick(True)
            self._let_go()

    def _start(self) -> None:
        campaign = get_campaign(self._link, self._campaign)
        start = partial(pilots.start, ahead=self._ahead)
        own = OwnPilot(self._link, self._description, submitting=lambda: False, start=start)
        own.start(campaign)
        self._own = own

    def _look(self) -> None:
        own = self._own
        if not self._hastened and time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._hastened = False
        self._looked_at = time.monotonic()
        if own is None:
            if not self._others():
                self._start()
            return
        pilot = own.look()
        self._over = pilot.state in PILOT_FINAL
        if not self._over:
            if pilot.state is PilotState.ACTIVE and not pilot.busy:
                own.check_use(pilot, get_campaign(self._link, self._campaign))
            return
        if pilot.state is PilotState.CANCELED or (pilot.state is PilotState.DONE and pilot.reason == "drained"):
            if not self._others():
                raise PoolBroken(
                    f"somebody has ended pilot {pilot.id}, the last one of this pool; what is left is canceled: a pool "
                    f"with the name of this one and resume=True, or pilotmtc retry --campaign {self._campaign}, goes on"
                )
            return
        if own.follow_up(pilot, get_campaign(self._link, self._campaign)):
            log.warning("pilot %d has died (%s): pilot %d takes its place", pilot.id, pilot.reason, own.pilot.id)

    def _others(self) -> list[Pilot]:
        """Return the pilots for the pool's calls besides its own."""
        mine = None if self._own is None else self._own.pilot.id
        return [
            pilot
            for pilot in self._link.call(GetPilots(live=True)).pilots
            if pilot.id != mine
            and (pilot.description.campaign == self._campaign or (self._shared and pilot.description.campaign is None))
        ]

    def _let_go(self) -> None:
        if self._own is not None:
            self._own.let_go()
        for pilot in self._added:
            try:
                self._link.send(DrainPilot(pilot.id)).result(_TELL_S)
            except (PilotMTCError, TimeoutError) as error:  # it leaves by itself when it is idle
                log.debug("pilot %d was not told to leave: %s", pilot.id, error)
