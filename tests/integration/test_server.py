"""The store server: how it comes, serves, and goes."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, ProtocolError, SchemaMismatch, StoreError, UsageError
from pilotmtc.model import PilotDescription, PilotId, Resources, Result, TaskRow, Template
from pilotmtc.protocol.agent import AttachPilot, Batch, Claim, Finish, Heartbeat
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import CheckStore, CompactStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot
from pilotmtc.protocol.client.tasks import GetTasks
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.protocol.frames import (
    MAGIC,
    MAX_FRAME_BYTES,
    FrameDecoder,
    decode_greeting,
    encode_greeting,
    encode_request,
    split_reply,
)
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue
from pilotmtc.states import Cause
from pilotmtc.store import serve
from pilotmtc.store.client.client import StoreClient
from pilotmtc.transport.process import open_process
from tests.serving import Place
from tests.support import small_disk, wait_until

SERVE = [sys.executable, "-I", "-S", serve.__file__]
ECHO = Template(command=("echo", "{x}"), fields=("x",))


def rows(count: int, key: str = "k", offset: int = 0) -> Submit:
    return Submit(
        key=key,
        offset=offset,
        templates=(ECHO,),
        resources=(Resources(),),
        rows=tuple(TaskRow(0, 0, (str(n),)) for n in range(count)),
    )


def claim(pilot: PilotId, number: int, wait_s: float = 0.0) -> Claim:
    return Claim(pilot, number, Resources(cores=4), Resources(cores=1000), 256, wait_s=wait_s)


def attached(client: StoreClient, key: str = "p") -> PilotId:
    pilot = client.call(CreatePilot(key, PilotDescription())).pilots[0].id
    client.call(AttachPilot(pilot, "host", 1, 1, 4))
    return pilot


# -- coming ---------------------------------------------------------------------------------------------------


def test_first_client_starts_the_server_and_the_next_finds_it(place: Place) -> None:
    first = place.client().call(GetStore())
    second = place.client().call(GetStore())
    assert first.pid == second.pid == place.server()
    assert second.clients == 2
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600


def test_server_belongs_to_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_TASK_ID", "17")
    pid = place.client().call(GetStore()).pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert not any(entry.startswith(b"PILOTMTC_TASK_ID") for entry in environment)
    assert f"{serve.MARK}={place.path}".encode() in environment
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)}
    assert opened == {"/dev/null", str(place.socket.with_suffix(".log"))}


def test_many_serves_at_once_end_up_with_one_server(place: Place) -> None:
    clients = [place.client() for _ in range(24)]
    infos = [future.result(timeout=60) for future in [client.send(GetStore()) for client in clients]]
    assert len({info.pid for info in infos}) == 1
    assert place.log.count(" serving ") == 1


def test_stale_socket_is_taken_over(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as dead, serve.within_reach(str(place.socket)) as address:
        dead.bind(address)
    assert place.client().call(GetStore()).path == str(place.path)


def test_server_is_found_from_another_runtime_directory(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = place.client().call(GetStore()).pid
    (tmp_path / "other").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "other"))
    assert place.client().call(GetStore()).pid == pid


def test_second_server_refuses(place: Place) -> None:
    pid = place.client().call(GetStore()).pid
    second = subprocess.run(
        [sys.executable, "-m", "pilotmtc.store.server", str(place.path)],
        capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(serve.__file__).parents[2])},
    )  # fmt: skip
    assert second.returncode == 3
    assert f"process {pid} serves {place.path}" in second.stderr
    assert place.client().call(GetStore()).pid == pid


def test_waiting_serve_is_small(place: Place) -> None:
    place.client().call(GetStore())
    resident = next(line for line in Path(f"/proc/{place.serve()}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(resident.split()[1]) <= 12 * 1024


# -- what the user is told ------------------------------------------------------------------------------------


def test_corrupt_store_is_told_in_clear_words_at_once(place: Place) -> None:
    place.client().call(rows(2000))
    place.clear()
    damaged = bytearray(place.path.read_bytes())
    damaged[100:8192] = b"\xa5" * 8092
    place.path.write_bytes(damaged)
    with pytest.raises(SchemaMismatch, match=r"store\.db.*(damaged|not a)"):
        place.client().call(GetStore())


def test_foreign_file_is_told_in_clear_words_and_left_alone(place: Place) -> None:
    place.path.parent.mkdir()
    place.path.write_text("name,age\nann,7\n")
    with pytest.raises(SchemaMismatch, match="not a pilotmtc store"):
        place.client().call(GetStore())
    assert place.path.read_text() == "name,age\nann,7\n"
    assert [path.name for path in place.path.parent.iterdir()] == ["store.db"]


def test_impossible_place_is_told_in_clear_words(place: Place) -> None:
    place.path.parent.write_text("a file where a directory should be")
    with pytest.raises(ConfigError, match=r"store\.db.*--store"):
        place.client().call(GetStore())


def test_serve_refuses_what_is_no_stream(place: Place) -> None:
    with open(os.devnull, "rb") as nothing:
        done = subprocess.run([*SERVE, str(place.path)], stdin=nothing, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"must be a pipe or a socket" in done.stderr


def test_server_that_hangs_is_told_and_does_not_hang_the_client(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = place.client().call(GetStore()).pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(serve, "_ACK_TIMEOUT_S", 0.2)
    control = serve.connect(str(place.path))
    assert control is not None
    with control, pytest.raises(serve.Refused, match="it hangs, or is overrun"):
        serve.hand_over(control, str(place.path))
    os.kill(pid, signal.SIGCONT)


# -- serving --------------------------------------------------------------------------------------------------


def test_parked_claim_wakes_for_new_work(place: Place) -> None:
    agent, user = place.client(), place.client()
    parked = agent.send(claim(attached(agent), 1, wait_s=60))
    user.call(GetStore())
    assert not parked.done()
    user.call(rows(3))
    assert len(parked.result(timeout=10).tasks) == 3


def test_parked_claim_is_answered_empty_at_its_deadline(place: Place) -> None:
    agent = place.client()
    assert agent.call(claim(attached(agent), 1, wait_s=0.05)) == Batch(1)


def test_parked_claim_wakes_when_a_pause_ends_that_began_while_the_server_slept(place: Place) -> None:
    client = place.client()
    pilot = attached(client)
    again = Template(("false",), max_retries=1, backoff_s=0.1)
    client.call(Submit("k", templates=(again,), resources=(Resources(),), rows=(TaskRow(0, 0, ()),), last=True))
    (first,) = client.call(claim(pilot, 1)).tasks
    client.call(Finish(pilot, (Result(first.task, first.attempt, Cause.EXIT, 1),)))
    (second,) = client.call(claim(pilot, 2, wait_s=7)).tasks  # the server sleeps for 10 s if it may
    assert (second.task, second.attempt) == (first.task, 2)


def test_parked_heartbeat_wakes_for_an_order(place: Place) -> None:
    agent, user = place.client(), place.client()
    pilot = attached(agent)
    seen = agent.call(Heartbeat(pilot)).number
    parked = agent.send(Heartbeat(pilot, seen=seen, wait_s=50))
    user.call(GetStore())
    assert not parked.done()
    user.call(CancelPilot(pilot))
    assert parked.result(timeout=10).kill


def test_parked_watcher_wakes_for_changes(place: Place) -> None:
    watcher, user = place.client(), place.client()
    since = watcher.call(GetChanges()).seq
    parked = watcher.send(GetChanges(since=since, wait_s=60))
    user.call(GetStore())
    assert not parked.done()
    user.call(rows(2))
    assert len(parked.result(timeout=10).changes) == 2


def test_work_parked_for_a_client_that_has_gone_is_not_given_away(place: Place) -> None:
    agent, user = place.client(), place.client()
    pilot = attached(agent)
    agent.send(claim(pilot, 1, wait_s=60))
    agent.call(GetStore())
    agent.close()
    wait_until(lambda: user.call(GetStore()).clients == 1)
    user.call(rows(3))
    assert len(user.call(claim(pilot, 2)).tasks) == 3


def test_failing_request_hurts_no_other_in_the_same_commit(place: Place) -> None:
    client = place.client()
    first, bad, last = client.send(rows(1)), client.send(Heartbeat(PilotId(99))), client.send(rows(1, "k2"))
    assert [first.result(10).received, last.result(10).received] == [1, 1]
    assert bad.exception(10) is not None


def test_long_requests_do_not_hold_up_others(place: Place, tmp_path: Path) -> None:
    client = place.client()
    client.call(rows(3000))
    check, copy = client.send(CheckStore()), client.send(SnapshotStore(str(tmp_path / "copy.db")))
    assert client.call(GetStore()).tasks
    assert check.result(timeout=60).problems == ()
    copy.result(timeout=60)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    client.call(CompactStore())


def test_slow_reader_does_not_hold_up_others(place: Place) -> None:
    client = place.client()
    client.call(rows(4000))
    lazy = open_process([*SERVE, str(place.path)])
    lazy.write(encode_greeting("1"))
    with concurrent.futures.ThreadPoolExecutor(1) as writer:
        # Far more than all buffers hold, of answers that nobody reads: the writer stands still at some point.
        flood = writer.submit(lazy.write, b"".join(encode_request(n, GetTasks(limit=4000)) for n in range(1, 20_000)))
        for n in range(20):
            client.call(rows(1, f"other{n}"), timeout_s=20)
        memory = Path(f"/proc/{place.server()}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 150 * 1024
        lazy.close()
        assert flood.exception(timeout=20) is not None
    wait_until(lambda: client.call(GetStore()).clients == 1)


@pytest.mark.parametrize(
    ("garbage", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "GET / HTTP"),
        (MAGIC + (MAX_FRAME_BYTES + 1).to_bytes(4, "big"), "bytes is announced"),
        (MAGIC + b"\0\0\0\x01\xc1", "does not understand"),
        (encode_greeting("1") + b"\0\0\0\x03abc", "not a request|does not understand"),
    ],
)
def test_garbage_is_answered_in_words_and_hurts_nobody(place: Place, garbage: bytes, words: str) -> None:
    other = place.client()
    other.call(GetStore())
    channel = open_process([*SERVE, str(place.path)])
    channel.write(garbage)
    decoder = FrameDecoder(chatter_bytes=0)
    frames = []
    while data := channel.read(65536):
        decoder.feed(data)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    channel.close()
    decode_greeting(frames[0])
    number, error = split_reply(frames[-1])
    assert number == 0
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError, match=words):
        raise error
    assert other.call(GetStore()).clients == 1


def test_unknown_request_fails_alone(place: Place) -> None:
    channel = open_process([*SERVE, str(place.path)])
    body = b"\x92\x07\x81\xa2op\xa5dance"
    channel.write(encode_greeting("1") + len(body).to_bytes(4, "big") + body + encode_request(8, GetStore()))
    decoder = FrameDecoder(chatter_bytes=0)
    frames: list[bytes] = []
    while len(frames) < 3:
        decoder.feed(channel.read(65536))
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    channel.close()
    answers = dict(split_reply(frame) for frame in frames[1:])
    assert isinstance(answers[7], ProtocolError)
    assert not isinstance(answers[8], Exception)


def test_request_that_makes_no_sense_is_the_callers_error(place: Place) -> None:
    client = place.client()
    client.call(GetStore())
    with pytest.raises(UsageError):
        client.call(Submit(key="x", rows=(TaskRow(5, 5),)))


def test_file_can_be_read_by_other_tools_meanwhile(place: Place) -> None:
    place.client().call(rows(3))
    query = [str(place.path), "select count(*) as n from tasks"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from sqlite_utils.cli import cli; cli(sys.argv[1:])", "query", *query],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"n": 3}]


# -- going ----------------------------------------------------------------------------------------------------


def test_server_leaves_when_nobody_has_come_for_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_SERVER_LINGER_S", "0.1")
    client = place.client()
    pid = client.call(GetStore()).pid
    time.sleep(0.2)
    assert place.server() == pid  # somebody is here
    client.close()
    wait_until(lambda: not Path(f"/proc/{pid}/fd/0").exists() and not place.socket.exists())
    assert sorted(path.name for path in place.path.parent.iterdir()) == ["store.db"]


def test_clients_that_come_while_the_server_leaves_are_served(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_SERVER_LINGER_S", "0.001")
    for n in range(15):
        client = place.client()
        assert client.call(rows(1, offset=n)).received == n + 1
        client.close()


def test_terminated_server_has_answered_and_leaves_nothing(place: Place) -> None:
    client = place.client()
    futures = [client.send(rows(100, f"k{n}")) for n in range(20)]
    futures[0].result(timeout=10)
    place.kill(signal.SIGTERM)
    assert [future.result(timeout=30).received for future in futures] == [100] * 20
    assert " left" in place.log


def test_removed_socket_appears_again(place: Place) -> None:
    client = place.client()
    pid = client.call(GetStore()).pid
    place.socket.unlink()
    wait_until(place.socket.exists, timeout=20)
    assert place.client().call(GetStore()).pid == pid


@pytest.mark.parametrize("how", ["removed", "moved", "moved with its log", "replaced"])
def test_nothing_is_acknowledged_into_a_file_that_is_no_longer_the_store(place: Place, how: str) -> None:
    client = place.client()
    pid = client.call(rows(10)).received and place.server()
    other = place.path.parent / "other.db"
    client.call(SnapshotStore(str(other)))
    moved = place.path.parent / "moved.db"
    if how == "removed":
        place.path.unlink()
    elif how == "replaced":
        os.link(place.path, moved)
        other.replace(place.path)
    else:
        place.path.rename(moved)
    if how == "moved with its log":
        for part in ("-wal", "-shm"):
            Path(f"{place.path}{part}").rename(f"{moved}{part}")
    with pytest.raises(StoreError, match=r"store\.db was moved, removed or replaced under its server.*put that back"):
        client.call(rows(5, "later"))
    wait_until(lambda: place.server() != pid)
    assert "Traceback" not in place.log
    info = place.client().call(GetStore())
    assert sum(info.tasks.values()) == (10 if how == "replaced" else 0)
    if how != "removed":
        with contextlib.closing(sqlite3.connect(moved)) as db:
            assert db.execute("SELECT count(*) FROM tasks").fetchone() == (10,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_removed_log_of_the_store_costs_nothing(place: Place) -> None:
    client = place.client()
    pid = client.call(rows(10)).received and place.server()
    for part in ("-wal", "-shm"):
        Path(f"{place.path}{part}").unlink()
    with pytest.raises(StoreError, match=r"store\.db-wal, .* was removed under its server"):
        client.call(rows(5, "later"))
    wait_until(lambda: place.server() != pid)
    client.call(rows(5, "later"))
    assert sum(client.call(GetStore()).tasks.values()) == 15


def test_store_that_is_idle_is_left_when_it_is_moved(place: Place) -> None:
    place.client().call(rows(10))
    pid = place.server()
    moved = place.path.parent / "moved.db"
    place.path.rename(moved)
    wait_until(lambda: place.server() != pid, 20)
    assert not Path(f"{place.path}-wal").exists()
    with contextlib.closing(sqlite3.connect(moved)) as db:
        assert db.execute("SELECT count(*) FROM tasks").fetchone() == (10,)


def test_log_without_its_store_is_not_thrown_away(place: Place) -> None:
    place.client().call(rows(10))
    place.kill()
    moved = place.path.parent / "moved.db"
    place.path.rename(moved)
    place.close_clients()
    with pytest.raises(ConfigError, match=r"store\.db is not there, but the end of its contents.*put the store back"):
        place.client().call(GetStore())
    moved.rename(place.path)
    assert sum(place.client().call(GetStore()).tasks.values()) == 10


def test_removed_store_is_not_served_any_longer(place: Place) -> None:
    old = place.client()
    pid = old.call(rows(1)).received and place.server()
    for path in place.path.parent.iterdir():
        path.unlink()
    info = place.client().call(GetStore())
    assert info.pid != pid
    assert not info.tasks


# -- values ---------------------------------------------------------------------------------------------------


def test_parts_of_many_values_may_be_under_way_at_once(place: Place) -> None:
    clients = [place.client(), place.client()]
    datas = [os.urandom(5 * PART_BYTES + 1) for _ in range(3)]
    datas[2] = datas[0]
    under_way = []
    for number, data in enumerate(datas):
        digest = hashlib.sha256(data).hexdigest()
        under_way += [
            clients[number % 2].send(PutValue(digest, at, len(data), data[at : at + PART_BYTES]))
            for at in range(0, len(data), PART_BYTES)
        ]
    for future in under_way:
        future.result(60)
    for data in datas:
        digest = hashlib.sha256(data).hexdigest()
        assert clients[0].call(PutValue(digest, 0, len(data), b"")).received == len(data)
        parts = [clients[1].send(GetValue(digest, at)) for at in range(0, len(data), PART_BYTES)]
        assert b"".join(part.result(60).data for part in parts) == data


def test_full_disk_keeps_nothing_of_a_value(place: Place) -> None:
    client = place.client()
    client.call(GetStore())
    datas = [os.urandom(2 * PART_BYTES + PART_BYTES // 2) for _ in range(2)]
    parts = [
        PutValue(hashlib.sha256(data).hexdigest(), at, len(data), data[at : at + PART_BYTES])
        for at in range(0, len(datas[0]), PART_BYTES)
        for data in datas
    ]
    with small_disk(Path(f"{place.path}.d"), "4m") as disk:
        for part in parts[:4]:
            client.call(part)
        with pytest.raises(StoreError, match=r"no space left for a value in .*: nothing of it was kept; free some"):
            client.call(parts[4])
        assert client.call(parts[5]).received == len(datas[1])
        assert client.call(replace(parts[4], data=b"")).received == 0
        with pytest.raises(StoreError, match="no space left"):
            client.call(parts[0])
        (left,) = [path for path in disk.rglob("*") if path.is_file()]
        assert left.read_bytes() == datas[1]
        assert client.call(CheckStore()).problems == ()
        place.kill()
