"""Leases of pilots: how long their agents may be silent. And the numbers of their newest claims. Pure.

The clock is monotonic, so that no agent is lost when the wall clock jumps.
"""

from collections.abc import Callable
from functools import partial

from pilotmtc.clock import Clock
from pilotmtc.model import PilotId
from pilotmtc.store.live.wakeups import Wakeups

ALARM = 0.5  # of the lease: when this much is left, a pilot's scheduler is asked
_SILENT = 0.25  # of the lease: when this much is left, clients are told that the pilot is silent
_STALL = 0.25  # of the lease: a server that stalled for longer starts all leases again, as if it had been restarted


class Leases:
    """The expiry of each pilot's lease.

    Signs of life stay even if their request is undone; the beginning and end of leases do not.

    Attributes
    ----------
    silent
        Pilots that clients know as silent, since their leases have nearly expired.
    """

    def __init__(self, clock: Clock, lease_s: float, wakeups: Wakeups) -> None:
        self.lease_s = lease_s
        self.silent: frozenset[PilotId] = frozenset()
        self._clock = clock
        self._wakeups = wakeups
        self._expiries: dict[PilotId, float] = {}
        # Not kept on disk: when a server dies, so do the connections on which late copies of claims could come.
        self._claims: dict[PilotId, int] = {}
        self._undo: list[Callable[[], object]] = []

    def __contains__(self, pilot: int) -> bool:
        return pilot in self._expiries

    def renew(self, pilot: PilotId, ago_s: float = 0.0) -> None:
        """Start the pilot's lease, again or for the first time, from the time of its last sign of life."""
        expiry = self._clock.monotonic() - ago_s + self.lease_s
        old = self._expiries.get(pilot)
        if old is None:
            self._undo.append(partial(self._expiries.pop, pilot, None))
        self._expiries[pilot] = expiry if old is None else max(old, expiry)
        if pilot in self.silent and not ago_s:
            self._note_silent(self.silent - {pilot})

    def heard(self, pilot: PilotId, ago_s: float = 0.0) -> None:
        """Renew the pilot's lease if it has one."""
        if pilot in self._expiries:
            self.renew(pilot, ago_s)

    def end(self, pilot: PilotId) -> None:
        """End the pilot's lease, if it has one."""
        expiry = self._expiries.pop(pilot, None)
        if expiry is not None:
            self._undo.append(partial(self._expiries.setdefault, pilot, expiry))

    def expired(self) -> list[PilotId]:
        """Return the pilots whose leases have expired."""
        now = self._clock.monotonic()
        return [pilot for pilot, expiry in self._expiries.items() if expiry <= now]

    def is_alarming(self, pilot: PilotId) -> bool:
        """Return whether the pilot has been silent for long enough to ask its scheduler."""
        alarm = self._clock.monotonic() + ALARM * self.lease_s
        return self._expiries.get(pilot, alarm) < alarm

    def nearly_expired(self) -> frozenset[PilotId]:
        """Return the pilots that are silent now, whether clients know it or not."""
        alarm = self._clock.monotonic() + _SILENT * self.lease_s
        return frozenset([pilot for pilot, expiry in self._expiries.items() if expiry <= alarm])

    def note_silent(self) -> None:
        """Let clients know which pilots are silent now."""
        if (silent := self.nearly_expired()) != self.silent:
            self._note_silent(silent)

    def _note_silent(self, silent: frozenset[PilotId]) -> None:
        self._undo.append(partial(setattr, self, "silent", self.silent))
        self.silent = silent
        self._wakeups.changed()

    def extend(self, stalled_s: float) -> bool:
        """Extend all leases by the time for which the server stalled and could not receive signs of life.

        After a long time all leases start again, as after a restart: agents may have given up their connections, and
        need time to come back. Return whether they start again.
        """
        newest = self._clock.monotonic() + self.lease_s
        again = stalled_s > _STALL * self.lease_s
        for pilot, expiry in self._expiries.items():
            self._expiries[pilot] = newest if again else min(expiry + stalled_s, newest)
        return again

    def deadlines_s(self) -> list[float]:
        """Return the times until pilots become alarming or silent, or until their leases expire."""
        now = self._clock.monotonic()
        left = [expiry - now for expiry in self._expiries.values()]
        marks = [one - part * self.lease_s for part in (ALARM, _SILENT) for one in left if one > part * self.lease_s]
        return left + marks

    def newest_claim(self, pilot: PilotId, default: int) -> int:
        """Return the number of the pilot's newest claim; `default` if there was none."""
        return self._claims.get(pilot, default)

    def note_claim(self, pilot: PilotId, number: int) -> None:
        """Note the number of the pilot's newest claim."""
        old = self._claims.get(pilot)
        self._claims[pilot] = number
        self._undo.append(
            partial(self._claims.pop, pilot, None) if old is None else partial(self._claims.__setitem__, pilot, old)
        )

    def mark(self) -> int:
        """Return the number of changes that can be undone."""
        return len(self._undo)

    def rewind(self, mark: int) -> None:
        """Undo the changes after `mark`, the newest one first."""
        while len(self._undo) > mark:
            self._undo.pop()()

    def commit(self) -> None:
        """Make all changes final."""
        self._undo.clear()
