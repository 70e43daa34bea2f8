"""The server with a store beneath it that fails in ways it should not."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pilotmtc.errors import PilotMTCError, StoreError
from pilotmtc.protocol.base import Reply, Request
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetKeys, GetStore
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.server import served_file
from pilotmtc.store.server.loop import Server
from pilotmtc.store.sqlite import SqliteStore
from tests.serving import Place, serving_here
from tests.support import wait_until


class FaultyStore(SqliteStore):
    """Brought down by campaigns of one name; its disk is full when something is due; a check of it takes long."""

    opened = 0
    due_asked = 0
    checked = threading.Event()

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, **settings)
        type(self).opened += 1

    def call_many(self, requests: Sequence[Request[Any]], *join: Any) -> list[Reply | PilotMTCError]:
        if any(isinstance(request, Submit) and request.name == "poison" for request in requests):
            raise ZeroDivisionError("a bug")
        return super().call_many(requests, *join)

    def for_thread(self, request: AnyRequest) -> Callable[[], Reply]:
        do = super().for_thread(request)
        if not isinstance(request, CheckStore):
            return do

        def check() -> Reply:
            assert self.checked.wait(60.0)
            return do()

        return check

    def due(self) -> float:
        type(self).due_asked += 1
        raise StoreError("no space left")


@pytest.fixture
def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(served_file, "SqliteStore", FaultyStore)
    monkeypatch.setattr(FaultyStore, "opened", 0)
    monkeypatch.setattr(FaultyStore, "due_asked", 0)
    with serving_here(place) as server:
        yield server


def test_request_that_brings_out_a_bug_fails_alone(place: Place, server: Server) -> None:
    client = place.client()
    futures = [client.send(Submit(f"k{n}", name="poison" if n == 5 else "good")) for n in range(10)]
    with pytest.raises(StoreError, match=r"a fault in pilotmtc itself: ZeroDivisionError: a bug; please report"):
        futures[5].result(timeout=10)
    assert len({future.result(timeout=10).campaign for future in futures[:5] + futures[6:]}) == 9
    assert len(client.call(GetCampaigns()).campaigns) == 9
    assert FaultyStore.opened == 2


def test_full_disk_when_something_is_due_does_not_end_the_server(place: Place, server: Server) -> None:
    client = place.client()
    wait_until(lambda: FaultyStore.due_asked >= 2)
    assert client.call(GetStore()).clients == 1


def test_check_that_takes_long_holds_up_nothing_else(place: Place, server: Server) -> None:
    FaultyStore.checked.clear()
    client = place.client()
    check = client.send(CheckStore())
    try:
        assert client.call(GetKeys(), 30.0).keys == ()
        assert not check.done()
    finally:
        FaultyStore.checked.set()
    assert check.result(timeout=30).problems == ()
