"""The agent's requests to the store: they are sent without waiting, and repeated if the store fails for the moment."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, cast

from pilotmtc.agent.spool import Segment
from pilotmtc.protocol.agent import (
    AttachPilot,
    Claim,
    EndPilot,
    Finish,
    Heartbeat,
    Release,
    ReportOutput,
    Started,
)
from pilotmtc.protocol.base import R, Reply, Request
from pilotmtc.protocol.values import GetValue, PutValue


class Sender(Protocol):
    """The client of the store: it never blocks, and repeats lost requests."""

    def send(self, request: Request[R]) -> "Future[R]":
        """Send `request`; return a future for the answer."""
        ...


AgentRequest = (
    AttachPilot | Claim | EndPilot | Finish | GetValue | Heartbeat | PutValue | ReportOutput | Release | Started
)


class Exchange:
    """A request to the store, with its answer once that has come."""

    __slots__ = ("answered_at", "future", "request", "segment", "sent_at")

    def __init__(self, request: AgentRequest, segment: Segment | None, sent_at: float) -> None:
        self.request = request
        self.segment = segment
        self.sent_at = sent_at
        self.answered_at = 0.0
        self.future: Future[Reply] | None = None


class StoreRequests:
    """Sends requests, and keeps the answers until they are taken.

    Parameters
    ----------
    link
        The store.
    arrived
        Called in a thread of the client when there is an answer.
    """

    def __init__(self, link: Sender, arrived: Callable[[Exchange], None]) -> None:
        self._link = link
        self._arrived = arrived
        self._answered: deque[Exchange] = deque()
        self._later: list[tuple[float, Exchange]] = []

    def send(self, request: AgentRequest, segment: Segment | None = None) -> None:
        """Send a request; `segment` is the part of the spool with its results."""
        self._send(Exchange(request, segment, time.monotonic()))

    def answer(self) -> Exchange | None:
        """Return the next request with an answer; None if there is none."""
        return self._answered.popleft() if self._answered else None

    def repeat(self, exchange: Exchange, at: float) -> None:
        """Send a request again at the time `at`."""
        self._later.append((at, exchange))

    def forget_claims(self) -> None:
        """Do not repeat claims, because the pilot's state has changed."""
        self._later = [entry for entry in self._later if not isinstance(entry[1].request, Claim)]

    def poll(self, now: float) -> None:
        """Send requests again that are due."""
        due = [exchange for at, exchange in self._later if at <= now]
        if due:
            self._later = [entry for entry in self._later if entry[0] > now]
            for exchange in due:
                self._send(exchange)

    def _send(self, exchange: Exchange) -> None:
        exchange.sent_at = time.monotonic()

        def done(future: "Future[Reply]") -> None:  # in the client's thread
            exchange.future = future
            exchange.answered_at = time.monotonic()
            self._answered.append(exchange)
            self._arrived(exchange)

        self._link.send(cast("Request[Reply]", exchange.request)).add_done_callback(done)
