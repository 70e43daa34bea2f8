"""Two hosts that want the same store on a shared file system, and owners that die, sleep and wake."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import StoreMoved
from pilotmtc.model import PilotDescription, PilotId, Resources, Result, TaskRow, Template
from pilotmtc.protocol.agent import AttachPilot, Claim, Finish
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.frames import FrameDecoder, decode_greeting
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.client.client import StoreClient
from tests.hosts import RENEW_S, Hosts, as_root, shared_store
from tests.support import wait_until

pytestmark = as_root
ECHO = Template(command=("echo", "{x}"), fields=("x",))


@pytest.fixture
def hosts(tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Hosts with one store between them."""
    with shared_store(tmp_path, surroundings, monkeypatch) as hosts:
        yield hosts


def submit(client: StoreClient, key: str, count: int, offset: int = 0) -> int:
    rows = tuple(TaskRow(0, 0, (str(n),)) for n in range(count))
    request = Submit(key, offset, templates=(ECHO,), resources=(Resources(),), rows=rows)
    return client.call(request).received


def ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}/fd/0").exists()


def inode(hosts: Hosts) -> int:
    return hosts.store.stat().st_ino


# -- who has it ---------------------------------------------------------------------------------------------------


def test_other_host_is_told_who_has_the_store(hosts: Hosts) -> None:
    assert hosts.client("alpha").call(GetStore()).owner == "alpha"
    channel = hosts.channel("beta")
    decoder = FrameDecoder()
    while (frame := decoder.next_frame()) is None:
        decoder.feed(channel.read(65536))
    channel.close()
    with pytest.raises(StoreMoved) as caught:
        decode_greeting(frame)
    assert caught.value.host == "alpha"


def test_clients_of_both_hosts_end_up_at_the_same_server(hosts: Hosts) -> None:
    alpha, beta = hosts.client("alpha"), hosts.client("beta")
    first = alpha.call(GetStore())
    assert beta.call(GetStore()).pid == first.pid
    assert submit(beta, "k", 5) == 5
    assert alpha.call(GetStore()).tasks == {TaskState.READY: 5}


def test_of_hosts_that_come_at_once_one_gets_it(hosts: Hosts) -> None:
    clients = [hosts.client(name) for name in ("alpha", "beta", "gamma", "delta") for _ in range(2)]
    infos = [future.result(60) for future in [client.send(GetStore()) for client in clients]]
    assert len({info.pid for info in infos}) == 1
    assert sum(hosts.log(name).count(" serving ") for name in ("alpha", "beta", "gamma", "delta")) == 1


def test_file_cannot_be_opened_by_another_program_and_has_no_shared_memory(hosts: Hosts, tmp_path: Path) -> None:
    client = hosts.client("alpha")
    submit(client, "k", 50)
    with contextlib.closing(sqlite3.connect(hosts.store, timeout=0.1)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT count(*) FROM task")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM task")
    assert not Path(f"{hosts.store}-shm").exists()
    assert client.call(CheckStore()).problems == ()


def test_store_is_copied_and_checked_while_others_work(hosts: Hosts, tmp_path: Path) -> None:
    client, user = hosts.client("alpha"), hosts.client("beta")
    for n in range(20):
        submit(client, "k", 1000, 1000 * n)
    copies = [user.send(SnapshotStore(str(tmp_path / f"copy{n}.db"))) for n in range(3)]
    check = user.send(CheckStore())
    received = 20_000
    while not check.done():
        received = submit(client, "k", 10, received)
    assert received > 20_000
    assert check.result(0).problems == ()
    for n, copy in enumerate(copies):
        copy.result(0)
        with contextlib.closing(sqlite3.connect(tmp_path / f"copy{n}.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ((told, there),) = connection.execute("SELECT (SELECT sum(n) FROM tally), (SELECT count(*) FROM task)")
            assert told == there >= 20_000
    assert not list(hosts.store.parent.glob("*.check-*"))


# -- hand-over ----------------------------------------------------------------------------------------------------


def test_next_host_gets_the_store_at_once_when_the_owner_has_left(hosts: Hosts) -> None:
    alpha = hosts.client("alpha")
    submit(alpha, "k", 7)
    number, before = hosts.record().token, inode(hosts)
    alpha.close()
    wait_until(lambda: hosts.record().state == "released")
    beta = hosts.client("beta")
    info = beta.call(GetStore())
    assert (info.owner, info.tasks) == ("beta", {TaskState.READY: 7})
    assert hosts.record().token != number
    assert inode(hosts) == before  # nobody else can have it open: no need of a copy


def test_killed_owner_is_followed_at_once_on_its_own_host(hosts: Hosts) -> None:
    client = hosts.client("alpha")
    submit(client, "k", 7)
    before = inode(hosts)
    os.kill(hosts.owner()[1], signal.SIGKILL)
    assert client.call(GetStore()).tasks == {TaskState.READY: 7}
    assert inode(hosts) == before
    assert "watched" not in hosts.log("alpha")


def test_killed_owner_is_followed_by_another_host_after_silence(hosts: Hosts, caplog: pytest.LogCaptureFixture) -> None:
    alpha = hosts.client("alpha", follows=False)
    submit(alpha, "k", 7)
    before, pid = inode(hosts), hosts.owner()[1]
    beta = hosts.client("beta", follows=False)
    future = beta.send(GetStore())
    alpha.close()
    os.kill(pid, signal.SIGKILL)
    info = future.result(60)
    assert (info.owner, info.tasks) == ("beta", {TaskState.READY: 7})
    assert inode(hosts) != before
    assert "not been heard of" in caplog.text  # who waits is told why
    assert beta.call(CheckStore()).problems == ()
    assert sorted(path.name for path in hosts.store.parent.iterdir()) == ["store.db", "store.db-wal", "store.db.owner"]


# -- an owner that sleeps -----------------------------------------------------------------------------------------


def test_owner_that_slept_past_its_lease_writes_nothing_and_leaves(hosts: Hosts) -> None:
    alpha = hosts.client("alpha")
    submit(alpha, "k", 10)
    pid = hosts.owner()[1]
    hosts.stop(pid)
    late = alpha.send(Submit("k", 10, rows=(TaskRow(0, 0, ("late",)),), templates=(ECHO,), resources=(Resources(),)))
    beta = hosts.client("beta", follows=False)
    assert submit(beta, "k2", 10) == 10
    assert hosts.owner()[0] == "beta"
    hosts.wake(pid)
    wait_until(lambda: ended(pid))
    assert "no longer the highest: leaving at once" in hosts.log("alpha")
    # What was sent to the sleeper is done by its successor, once.
    assert late.result(60).received == 11
    assert beta.call(GetStore()).tasks == {TaskState.READY: 21}
    assert alpha.call(GetStore()).pid == beta.call(GetStore()).pid
    assert beta.call(CheckStore()).problems == ()


def test_owner_that_slept_without_a_successor_goes_on(hosts: Hosts) -> None:
    alpha = hosts.client("alpha")
    submit(alpha, "k", 10)
    pid = hosts.owner()[1]
    hosts.stop(pid)
    time.sleep(8 * RENEW_S)
    hosts.wake(pid)
    assert submit(alpha, "k", 10, 10) == 20
    assert hosts.owner() == ("alpha", pid)


def test_owners_that_sleep_in_the_middle_of_anything_do_no_harm(hosts: Hosts) -> None:
    """Results are sent without a pause while owner after owner is stopped at a random moment, and woken later."""
    dice = random.Random(7)
    beta = hosts.client("beta", patience_s=120)
    count = 6000
    submit(beta, "k", count)
    pilot: PilotId = beta.call(CreatePilot("p", PilotDescription())).pilots[0].id
    recorded, done = [0], threading.Event()

    def work() -> None:
        beta.call(AttachPilot(pilot, "host", 1, 1, 64))
        number = 0
        while recorded[0] < count:
            number += 1
            batch = beta.call(Claim(pilot, number, Resources(), Resources(cores=40), 40, wait_s=1.0))
            results = tuple(Result(one.task, one.attempt, Cause.EXIT, 0) for one in batch.tasks)
            answer = beta.call(Finish(pilot, results))
            assert answer.stale == 0
            recorded[0] += answer.recorded + answer.again
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    changes = 0
    while not done.is_set() and changes < 5:
        time.sleep(dice.uniform(0.05, 0.4))
        name, pid = hosts.owner()
        hosts.stop(pid)
        other = next(each for each in ("alpha", "beta", "gamma") if each != name)
        hosts.client(other, follows=False, patience_s=120).call(GetStore())
        time.sleep(dice.choice((0, 2 * RENEW_S, 8 * RENEW_S)))
        hosts.wake(pid)
        wait_until(lambda pid=pid: ended(pid))  # type: ignore[misc]
        changes += 1
    worker.join(100)
    assert done.is_set()
    assert changes
    assert beta.call(GetStore()).tasks == {TaskState.DONE: count}
    assert beta.call(CheckStore()).problems == ()
