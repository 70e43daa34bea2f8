"""The server when its host has nothing left: descriptors, memory, or room for its log."""

import contextlib
import os
import resource
import sys
import threading
from pathlib import Path

from pilotmtc.errors import ChannelClosed
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore
from pilotmtc.protocol.frames import MAX_FRAME_BYTES, encode_greeting, encode_request
from pilotmtc.store import serve
from pilotmtc.store.serve import LOG_LIMIT_BYTES
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.process import open_process
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


def test_messages_that_do_not_come_to_an_end_take_memory_for_two_at_the_most(place: Place) -> None:
    client = place.client()
    pid = client.call(GetStore()).pid
    body = encode_request(1, Submit("large", name="x" * (MAX_FRAME_BYTES - 1000)))
    channels = [open_process([sys.executable, "-I", "-S", serve.__file__, str(place.path)]) for _ in range(8)]

    def say(channel: Channel, data: bytes) -> None:
        with contextlib.suppress(ChannelClosed):
            channel.write(encode_greeting("1") + data)

    talkers = [threading.Thread(target=say, args=(channel, body[:-1])) for channel in channels]
    try:
        for thread in talkers:
            thread.start()
        wait_until(lambda: sum(not thread.is_alive() for thread in talkers) == 2, 40)
        assert client.call(Submit("k", last=True)).sealed  # the others are served
        assert _memory_bytes(pid) < 200 << 20
        done = [channel for channel, thread in zip(channels, talkers, strict=True) if not thread.is_alive()]
        done[0].write(body[-1:])
        # Its room is the next one's.
        wait_until(lambda: sum(not thread.is_alive() for thread in talkers) == 3, 40)
        assert client.call(GetCampaigns(key="large")).campaigns[0].received == 0
    finally:
        for channel in channels:
            channel.close()
        for thread in talkers:
            thread.join(10)
    assert client.call(GetStore()).pid == pid


def _memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
