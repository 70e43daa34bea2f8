"""A session's pilots."""

import time
from collections.abc import Iterator, Mapping

from pilotmtc import pilots
from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Pilot, PilotDescription, PilotId
from pilotmtc.session.follow import get_campaign
from pilotmtc.session.link import Link
from pilotmtc.session.tasks import check_amounts
from pilotmtc.states import PILOT_FINAL
from pilotmtc.units import parse_duration, parse_memory
from pilotmtc.wire.messages import CancelPilot, Changed, DrainPilot, GetPilots

_LOOK_S = 0.1
_MOST = 100_000  # cores or GPUs of one machine


class Pilots:
    """The pilots of a store. Iterating over it gives those that are not over, newest first."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __iter__(self) -> Iterator[Pilot]:
        """Return an iterator over the pilots that are not over."""
        return iter(self.list())

    def list(self, *, ended: bool = False) -> tuple[Pilot, ...]:
        """Return pilots, newest first; those that are over only if `ended`."""
        return self._link.call(GetPilots(live=not ended)).pilots

    def get(self, pilot: int) -> Pilot:
        """Return a pilot.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        found = self._link.call(GetPilots(id=PilotId(pilot))).pilots
        if not found:
            raise UsageError(f"there is no pilot {pilot} in {self._link.url}: see pilotmtc pilot list --all")
        return found[0]

    def submit(
        self,
        *,
        cores: int = 0,
        gpus: int = 0,
        memory: str | int = 0,
        resources: Mapping[str, float] | None = None,
        walltime: str | float = 0.0,
        idle: str | float = 0.0,
        campaign: int | None = None,
        pin: bool = True,
        wait_s: float = 10.0,
    ) -> Pilot:
        """Start a pilot on this machine, in the background, and return its record.

        Parameters
        ----------
        cores, gpus, memory, resources
            What it has for tasks; 0 cores and 0 memory are all of the machine.
        walltime, idle
            It ends after so long (``"2h"`` or seconds), or after so long without a task; 0 is never.
        campaign
            It takes tasks of this one only.
        pin
            Whether tasks are bound to their cores.
        wait_s
            How long to wait for it to become active.

        Raises
        ------
        ConfigError
            If it dies at once; the text quotes its log.
        """
        if campaign is not None:
            get_campaign(self._link, campaign)
        description = describe(
            cores=cores, gpus=gpus, memory=memory, resources=resources, walltime=walltime, idle=idle,
            campaign=campaign, pin=pin,
        )  # fmt: skip
        return pilots.start_local(self._link.store, self._link.url, description, wait_s)

    def drain(self, pilot: int) -> Changed:
        """Let a pilot finish what it runs and leave."""
        return self._link.call(DrainPilot(self.get(pilot).id))

    def cancel(self, pilot: int) -> Changed:
        """End a pilot now: its tasks are killed and go back to be run by another."""
        return self._link.call(CancelPilot(self.get(pilot).id))

    def wait(self, pilot: int, timeout_s: float | None = None) -> Pilot:
        """Return a pilot once it is over.

        Raises
        ------
        TimeoutError
            If it is not over within `timeout_s`.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self.get(pilot)
            if found.state in PILOT_FINAL:
                return found
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"pilot {pilot} is still {found.state.name} after {timeout_s:g} s")
            time.sleep(_LOOK_S)


def describe(
    *,
    cores: int = 0,
    gpus: int = 0,
    memory: str | int = 0,
    resources: Mapping[str, float] | None = None,
    walltime: str | float = 0.0,
    idle: str | float = 0.0,
    campaign: int | None = None,
    pin: bool = True,
) -> PilotDescription:
    """Return the description of a local pilot, after looking at it.

    Raises
    ------
    UsageError
        If a value cannot be.
    """
    if not (0 <= cores <= _MOST and 0 <= gpus <= _MOST):
        raise UsageError(f"a pilot with {cores} cores and {gpus} GPUs cannot be: give 0 to {_MOST}")
    check_amounts("a pilot cannot have", resources or {})
    return PilotDescription(
        cores=cores,
        gpus=gpus,
        memory_bytes=parse_memory(memory),
        named={name: float(amount) for name, amount in (resources or {}).items()},
        walltime_s=parse_duration(walltime),
        idle_s=parse_duration(idle),
        campaign=None if campaign is None else CampaignId(campaign),
        pin=pin,
    )
