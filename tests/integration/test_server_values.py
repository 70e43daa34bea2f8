"""Values at a server whose disk is slow: whoever does not need it goes on."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import cast

import pytest

from pilotmtc.model import PilotDescription
from pilotmtc.protocol.agent import AttachPilot
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import Checked, CheckStore
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilots
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue, ValueStatus
from pilotmtc.states import PilotState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.send_queue import WINDOW_BYTES
from pilotmtc.store.file.value_files import ValueFiles
from pilotmtc.store.requests.handlers import THREAD_HANDLERS, StoreFile
from pilotmtc.store.server.loop import Server
from pilotmtc.store.server.peer import MOST_IN_THREAD
from pilotmtc.store.server.served_file import LEASE_VARIABLE
from tests.serving import Place, serving_here
from tests.support import wait_until

DATA = os.urandom(4 * PART_BYTES)
DIGEST = hashlib.sha256(DATA).hexdigest()
PARTS = [PutValue(DIGEST, at, len(DATA), DATA[at : at + PART_BYTES]) for at in range(0, len(DATA), PART_BYTES)]
_LEASE_S = 1.0


def put_all(client: StoreClient) -> "list[Future[ValueStatus]]":
    """Send all parts at once, as over a link that has shown how fast it is."""
    client._queue.window = WINDOW_BYTES[2]
    return [client.send(part) for part in PARTS]


class Gate:
    """Lets nobody through who writes a value until it is opened; counts those that have come."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.come = 0
        take = ValueFiles.take

        def wait(files: ValueFiles, digest: str, offset: int, size: int, data: bytes) -> int:
            self.come += 1
            assert self.open.wait(60)
            return take(files, digest, offset, size, data)

        patch.setattr(ValueFiles, "take", wait)


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.fixture
def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server of `place`, in a thread of this process."""
    monkeypatch.setenv(LEASE_VARIABLE, str(_LEASE_S))
    with serving_here(place) as server:
        yield server


def test_slow_disk_of_values_holds_up_nobody_else(place: Place, gate: Gate, server: Server) -> None:
    busy, other = place.client(), place.client()
    puts = put_all(busy)
    wait_until(lambda: gate.come == 1)
    assert other.call(GetCampaigns(), 30).campaigns == ()
    small = b"small"
    digest = hashlib.sha256(small).hexdigest()
    assert other.call(PutValue(digest, 0, len(small), small), 30).received == len(small)
    assert other.call(GetValue(digest), 30).data == small
    (peer,) = [peer for peer in server.connections.clients if peer.in_thread]
    wait_until(lambda: peer.in_thread == MOST_IN_THREAD)
    assert other.call(GetCampaigns(), 30).campaigns == ()
    assert (peer.in_thread, [put.done() for put in puts]) == (MOST_IN_THREAD, [False] * len(PARTS))
    gate.open.set()
    assert [put.result(30).received for put in puts] == [(n + 1) * PART_BYTES for n in range(len(PARTS))]
    wait_until(lambda: peer.in_thread == 0)


def test_pilot_that_is_not_listened_to_while_its_values_are_written_is_not_given_up(
    place: Place, gate: Gate, server: Server
) -> None:
    agent, other = place.client(), place.client()
    pilot = agent.call(CreatePilot("p", PilotDescription())).pilots[0].id
    agent.call(AttachPilot(pilot, "host", 1, 1, 4))
    puts = put_all(agent)
    wait_until(lambda: any(peer.in_thread == MOST_IN_THREAD for peer in server.connections.clients))
    until = time.monotonic() + 3 * _LEASE_S
    wait_until(lambda: time.monotonic() > until)
    assert other.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE
    gate.open.set()
    assert [put.result(30).received for put in puts][-1] == len(DATA)


def test_check_that_takes_long_holds_up_no_value(place: Place, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def check(store: StoreFile, request: CheckStore) -> Checked:
        assert over.wait(60)
        return Checked()

    monkeypatch.setitem(cast("dict[object, object]", THREAD_HANDLERS), CheckStore, check)
    client = place.client()
    checked = client.send(CheckStore())
    for part in PARTS:
        received = client.call(part, 30).received
    assert received == len(DATA)
    assert b"".join(client.call(GetValue(DIGEST, at), 30).data for at in range(0, len(DATA), PART_BYTES)) == DATA
    assert not checked.done()
    over.set()
    assert checked.result(30).problems == ()
