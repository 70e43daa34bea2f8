"""Requests that wait for their answers (long polls), and what wakes them. Pure: time is an argument."""

import heapq
import math
from collections.abc import Iterable
from typing import Generic, TypeVar

from pilotmtc.model import PilotId
from pilotmtc.protocol.base import WaitsFor
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.live.wakeups import Wakeup

P = TypeVar("P")  # the client that waits


class Ticket(Generic[P]):
    """A request that may wait: its client, its number, and its deadline."""

    __slots__ = ("deadline", "number", "peer", "pilot", "request", "waits_for")

    def __init__(self, peer: P, number: int, request: AnyRequest, now: float) -> None:
        self.peer = peer
        self.number = number
        self.request = request
        self.waits_for = request.handling.waits_for
        self.pilot: PilotId | None = getattr(request, request.handling.pilot_field, None)
        wait_s = getattr(request, "wait_s", 0.0)
        # NaN does not wait.
        self.deadline = now + min(wait_s, request.handling.longest_wait_s) if wait_s > 0 else -math.inf


class LongPolls(Generic[P]):
    """Requests that wait for their answers.

    Performing them again has a cost, which must stay small even if many wait, or if something changes all the time. So
    two rounds of the same kind are separated by a pause in proportion to the cost of the last round, up to
    `MAX_PAUSE_S`.
    """

    MAX_PAUSE_S = 0.015

    def __init__(self) -> None:
        self._claims: dict[Ticket[P], None] = {}  # in order of arrival, so that none starves
        self._watchers: dict[Ticket[P], None] = {}
        self._beats: dict[PilotId | None, dict[Ticket[P], None]] = {}
        self._deadlines: list[tuple[float, int, Ticket[P]]] = []
        self._entered = 0
        self._claims_at = math.inf  # when to perform them again
        self._watchers_at = math.inf
        self._called: dict[Ticket[P], None] = {}
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._claims) + len(self._watchers) + sum(map(len, self._beats.values()))

    def put(self, ticket: Ticket[P]) -> None:
        """Let `ticket` wait."""
        if ticket.waits_for is WaitsFor.ORDERS:
            self._beats.setdefault(ticket.pilot, {})
        self._group(ticket)[ticket] = None
        self._entered += 1
        heapq.heappush(self._deadlines, (ticket.deadline, self._entered, ticket))

    def drop(self, peer: P) -> None:
        """Forget the requests of `peer`."""
        for ticket in self._tickets():
            if ticket.peer is peer:
                self._remove(ticket)

    def tell(self, wakeup: Wakeup, now: float) -> None:
        """Note what to wake; `take` returns the tickets to try again."""
        if wakeup.ready and self._claims:
            self._claims_at = min(self._claims_at, max(now, self._quiet_until))
        if wakeup.changed and self._watchers:
            self._watchers_at = min(self._watchers_at, max(now, self._quiet_until))
        for pilot in wakeup.orders:
            self._called.update(self._beats.get(pilot, {}))

    def join(self, wakeup: Wakeup, now: float) -> list[Ticket[P]]:
        """Return the tickets to try in the transaction that will wake them, and remove them."""
        if now < self._quiet_until:
            return []
        taken = list(self._claims) if wakeup.ready else []
        if wakeup.changed:
            taken += [ticket for ticket in self._watchers if isinstance(ticket.request, GetChanges)]
        for ticket in taken:
            self._remove(ticket)
        return taken

    def spent(self, seconds: float, now: float) -> None:
        """Note how long it took to perform the tickets that `take` has returned."""
        self._quiet_until = now + min(2 * seconds, self.MAX_PAUSE_S)

    def take(self, now: float) -> list[Ticket[P]]:
        """Return the tickets to try again now, and remove them."""
        taken: dict[Ticket[P], None] = dict(self._called)
        self._called.clear()
        if now >= self._claims_at:
            taken.update(self._claims)
            self._claims_at = math.inf
        if now >= self._watchers_at:
            taken.update(self._watchers)
            self._watchers_at = math.inf
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, ticket = heapq.heappop(self._deadlines)
            if ticket in self._group(ticket):
                taken[ticket] = None
        for ticket in taken:
            self._remove(ticket)
        self._tidy()
        return list(taken)

    def next_at(self) -> float:
        """Return when `take` will return tickets; infinity if none wait."""
        if self._called:
            return -math.inf
        deadline = self._deadlines[0][0] if self._deadlines else math.inf
        return min(self._claims_at, self._watchers_at, deadline)

    def _group(self, ticket: Ticket[P]) -> dict[Ticket[P], None]:
        if ticket.waits_for is WaitsFor.TASKS:
            return self._claims
        if ticket.waits_for is WaitsFor.ORDERS:
            return self._beats.get(ticket.pilot, {})
        return self._watchers

    def _remove(self, ticket: Ticket[P]) -> None:
        self._group(ticket).pop(ticket, None)
        self._called.pop(ticket, None)
        if ticket.waits_for is WaitsFor.ORDERS and not self._group(ticket):
            self._beats.pop(ticket.pilot, None)

    def _tickets(self) -> list[Ticket[P]]:
        beats: Iterable[Ticket[P]] = (ticket for room in self._beats.values() for ticket in room)
        return [*self._claims, *self._watchers, *beats]

    def _tidy(self) -> None:
        # Answered tickets stay in the heap until their deadlines; there may be many with late deadlines.
        if len(self._deadlines) > 100 + 4 * len(self):
            waiting = set(self._tickets())
            self._deadlines = [entry for entry in self._deadlines if entry[2] in waiting]
            heapq.heapify(self._deadlines)
