"""Slow requests, which a thread performs beside the server's loop."""

import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from pilotmtc.errors import PilotMTCError, StoreError
from pilotmtc.protocol.base import TIME_LIMIT_S, Done, Reply
from pilotmtc.protocol.client.maintenance import CheckStore, GetKeys
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.server.background import BackgroundThread
from pilotmtc.store.server.long_poll import Ticket
from pilotmtc.store.server.peer import Peer

Replies = list[tuple[int, Reply | PilotMTCError | None]]


class Side:
    """A thread for slow requests, and what they wait for."""

    def __init__(self) -> None:
        self.thread = BackgroundThread()
        self.disk = threading.Event()  # set when the disk answers
        self.begun = threading.Event()
        self.over = threading.Event()

    def submit(self, number: int, request: AnyRequest, do: Callable[[], Reply]) -> None:
        nobody = cast(Peer, None)  # it is only handed through
        self.thread.submit(Ticket(nobody, number, request, 0.0), do)

    def hang(self) -> Reply:
        """Do what hangs until the disk answers."""
        self.begun.set()
        assert self.disk.wait(60)
        self.over.set()
        return Done()

    def replies(self) -> Replies:
        """Wait for replies, and return them with the numbers of their requests."""
        assert select.select([self.thread], [], [], 60)[0]
        return [(ticket.number, reply) for ticket, reply in self.thread.done()]


@pytest.fixture
def side() -> Iterator[Side]:
    made = Side()
    yield made
    made.disk.set()
    made.thread.close()


def test_request_that_hangs_is_given_up_and_the_next_ones_go_on(side: Side) -> None:
    side.submit(1, GetKeys(), side.hang)
    side.submit(2, GetKeys(), Done)
    assert side.begun.wait(60)
    hanging = side.thread._thread
    assert hanging is not None
    side.thread.expire(time.monotonic())
    assert not select.select([side.thread], [], [], 0)[0]
    side.thread.expire(time.monotonic() + TIME_LIMIT_S)
    found: Replies = []
    while len(found) < 2:
        found += side.replies()
    (number, error), following = found
    assert number == 1
    assert isinstance(error, StoreError)
    assert str(error) == "GetKeys has taken too long: look whether a disk hangs"
    assert following == (2, Done())
    # The disk answers at last: nobody waits for that any more, and the thread ends.
    side.disk.set()
    hanging.join(60)
    assert side.over.is_set()
    assert not hanging.is_alive()
    if select.select([side.thread], [], [], 0)[0]:  # both replies may have been there when the first one was told
        assert side.thread.done() == []


def test_request_that_may_read_everything_has_more_time(side: Side) -> None:
    side.submit(1, CheckStore(), side.hang)
    assert side.begun.wait(60)
    side.thread.expire(time.monotonic() + 10 * TIME_LIMIT_S)
    side.disk.set()
    assert side.replies() == [(1, Done())]
