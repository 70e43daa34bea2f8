"""When to ask which scheduler. Pure: time is an argument.

Soon after something has happened; less and less often if nothing happens, because many users share a login node.
"""

import math
from collections.abc import Mapping

from pilotmtc.store.requests.pilots.jobs import OpenJobs

FIRST_S = 2.0
LONGEST_S = 60.0
WATCHED_S = 10.0  # while a client looks at pilots
SILENT_S = 5.0  # while an agent is silent
UNTOLD_S = 30.0  # while the scheduler must still be told something
_GROWTH = 1.5


class _Plan:
    __slots__ = ("again", "at", "open", "pause_s", "running")

    def __init__(self, at: float) -> None:
        self.at = at
        self.pause_s = FIRST_S
        self.running = False
        self.again = False  # something has happened during the round
        self.open = OpenJobs()


class PollSchedule:
    """Schedules the rounds with each scheduler that has pilots."""

    def __init__(self) -> None:
        self._plans: dict[str, _Plan] = {}

    @property
    def untold(self) -> bool:
        """Whether a scheduler must still be told something."""
        return any(plan.open.untold for plan in self._plans.values())

    def look(self, found: Mapping[str, OpenJobs], now: float) -> None:
        """Note which schedulers have pilots now."""
        for url in [url for url, plan in self._plans.items() if url not in found and not plan.running]:
            del self._plans[url]
        for url, jobs in found.items():
            plan = self._plans.setdefault(url, _Plan(now))
            plan.open = jobs
            if jobs.silent:
                plan.at = min(plan.at, now + SILENT_S)

    def happened(self, news: Mapping[str, bool], now: float) -> None:
        """Note that pilots of schedulers have changed; True: the scheduler must be told."""
        for url, at_once in news.items():
            if (plan := self._plans.get(url)) is None:
                continue
            plan.pause_s = FIRST_S
            plan.at = min(plan.at, now if at_once else now + FIRST_S)
            plan.again = plan.again or at_once

    def watched(self, now: float) -> None:
        """Note that a client looks at pilots."""
        for plan in self._plans.values():
            plan.pause_s = min(plan.pause_s, WATCHED_S)
            plan.at = min(plan.at, now + WATCHED_S)

    def due(self, now: float) -> list[str]:
        """Return the schedulers to ask now, and start their rounds."""
        found = [url for url, plan in self._plans.items() if plan.at <= now and not plan.running]
        for url in found:
            plan = self._plans[url]
            plan.running = True
            plan.again = False
        return found

    def ended(self, url: str, now: float) -> None:
        """Note that the round with a scheduler has ended."""
        plan = self._plans[url]
        plan.running = False
        plan.at = now if plan.again else now + plan.pause_s
        plan.pause_s = min(plan.pause_s * _GROWTH, UNTOLD_S if plan.open.untold else LONGEST_S)

    def next_at(self) -> float:
        """Return when `due` will return a scheduler; infinity if never."""
        return min((plan.at for plan in self._plans.values() if not plan.running), default=math.inf)
