"""The server when its host has nothing left: descriptors, or room for its log."""

import os
import resource
from pathlib import Path

from pilotmtc.store.serve import LOG_LIMIT_BYTES
from pilotmtc.wire.messages import CheckStore, GetStore, Submit
from tests.serving import Place
from tests.support import wait_until


def test_server_without_descriptors_serves_those_who_are_there_and_later_the_others(place: Place) -> None:
    client = place.client()
    pid = client.call(GetStore()).pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    client.call(CheckStore())
    left = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
    # The first that is free now may be taken, and no other.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (left, before[1]))
    try:
        others = [place.client() for _ in range(4)]
        futures = [other.send(GetStore()) for other in others]
        wait_until(lambda: "nobody can be let in for now" in place.log or "was refused" in place.log, 20)
        wait_until(lambda: "the server cannot look after itself" in place.log, 20)
        assert client.call(Submit("k", last=True)).sealed
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert {future.result(timeout=40).pid for future in futures} == {pid}
    assert client.call(Submit("k", last=True)).sealed


def test_log_is_begun_anew_when_it_has_grown_large(place: Place) -> None:
    client = place.client()
    pid = client.call(GetStore()).pid
    log = place.socket.with_suffix(".log")
    with log.open("ab") as file:
        file.write(b"much\n" * (LOG_LIMIT_BYTES // 5 + 1))
    old = Path(f"{log}.1")
    wait_until(lambda: old.exists() and log.exists() and log.stat().st_size < 1000, 20)
    assert "much" in old.read_text()
    place.client().call(GetStore())
    assert "client 2 has come" in place.log
    assert client.call(GetStore()).pid == pid
