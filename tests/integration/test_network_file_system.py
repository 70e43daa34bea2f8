"""A store on a real shared file system: hosts that mount it over SSHFS, each with caches and locks of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.model import Resources, TaskRow, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore, SnapshotStore
from pilotmtc.states import TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.ownership.filesystem import NETWORK, opening_of
from tests.hosts import RENEW_S, Hosts, as_root
from tests.lab.sshd import Client, Sshd, client, sshd
from tests.support import wait_until

__all__ = ["client", "sshd"]  # fixtures
pytestmark = as_root
_SFTP = "/usr/lib/openssh/sftp-server"
ECHO = Template(command=("echo", "{x}"), fields=("x",))


@pytest.fixture
def hosts(
    sshd: Sshd, client: Client, tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hosts]:
    """Two hosts that mount the same directory of a file server."""
    monkeypatch.setenv("PILOTMTC_SERVER_RENEW_S", str(RENEW_S))
    account = sshd.account
    real = account.home / f"{tmp_path.parent.name}-{os.getpid()}"
    real.mkdir(mode=0o700)
    shutil.chown(real, account.name)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, real)
        mounts = {}
        for name in ("alpha", "beta"):
            mounts[name] = tmp_path / f"mnt-{name}"
            mounts[name].mkdir()
            source = f"{account.name}@127.0.0.1:{real}"
            options = ["-p", str(sshd.port), "-F", str(client.config), "-o", f"sftp_server={_SFTP}"]
            subprocess.run(["sshfs", *options, source, mounts[name]], check=True, timeout=60, env=dict(os.environ))
            stack.callback(unmount, mounts[name])
        made = Hosts(real / "store.db", surroundings, {name: path / "store.db" for name, path in mounts.items()})
        stack.callback(wait_until, lambda: not made.serving(), 30)
        stack.callback(made.close)
        yield made


def unmount(path: Path) -> None:
    subprocess.run(["fusermount3", "-u", "-z", path], check=True, timeout=60)


def submit(client: StoreClient, key: str, count: int, offset: int = 0) -> int:
    rows = tuple(TaskRow(0, 0, (str(n),)) for n in range(count))
    return client.call(Submit(key, offset, templates=(ECHO,), resources=(Resources(),), rows=rows)).received


def test_it_is_found_to_be_shared_and_served_by_one_host(hosts: Hosts, tmp_path: Path) -> None:
    place = opening_of(str(tmp_path / "mnt-alpha" / "store.db"))
    assert (place.mode, place.file_system.type, place.forced) == (NETWORK, "fuse.sshfs", False)
    alpha = hosts.client("alpha")
    info = alpha.call(GetStore())
    beta = hosts.client("beta")
    assert (info.mode, info.file_system, info.owner) == ("network", "fuse.sshfs", "alpha")
    assert beta.call(GetStore()).pid == info.pid
    submit(beta, "k", 3000)
    beta.call(SnapshotStore(str(tmp_path / "copy.db")))
    assert alpha.call(CheckStore()).problems == ()


def test_of_hosts_that_come_at_once_one_gets_it(hosts: Hosts) -> None:
    for turn in range(4):
        clients = [hosts.client(name) for name in ("alpha", "beta", "alpha", "beta")]
        infos = [future.result(60) for future in [client.send(GetStore()) for client in clients]]
        assert len({info.pid for info in infos}) == 1
        assert submit(clients[0], "k", 10, 10 * turn) == 10 * (turn + 1)
        for each in clients:
            each.close()
        wait_until(lambda: hosts.record().state == "released")


def test_store_goes_from_host_to_host_and_nothing_is_missing(hosts: Hosts, tmp_path: Path) -> None:
    received = 0
    for turn in range(6):
        name = ("alpha", "beta")[turn % 2]
        client = hosts.client(name)
        received = submit(client, "k", 2000, received)
        assert received == 4000 * turn + 2000
        for path in tmp_path.glob("mnt-*/store.db*"):
            path.stat()  # somebody looks, and this host keeps for a while what the file is like now
        received = submit(client, "k", 2000, received)
        info = client.call(GetStore())
        assert (info.owner, info.tasks) == (name, {TaskState.READY: received})
        assert client.call(CheckStore()).problems == ()
        client.close()
        wait_until(lambda: hosts.record().state == "released")


def test_sleeping_owner_is_succeeded_although_locks_do_not_reach_the_other_host(hosts: Hosts) -> None:
    alpha = hosts.client("alpha")
    submit(alpha, "k", 2000)
    pid = hosts.owner()[1]
    hosts.stop(pid)
    late = alpha.send(Submit("k", 2000, rows=(TaskRow(0, 0, ("x",)),), templates=(ECHO,), resources=(Resources(),)))
    beta = hosts.client("beta", follows=False)
    assert submit(beta, "k2", 2000) == 2000
    hosts.wake(pid)
    wait_until(lambda: not Path(f"/proc/{pid}/fd/0").exists())
    assert late.result(60).received == 2001
    assert alpha.call(GetStore()).tasks == {TaskState.READY: 4001}
    assert beta.call(CheckStore()).problems == ()


def test_killed_owner_is_succeeded_by_the_other_host(hosts: Hosts) -> None:
    alpha = hosts.client("alpha", follows=False)
    submit(alpha, "k", 2000)
    pid = hosts.owner()[1]
    beta = hosts.client("beta", follows=False)
    alpha.close()
    os.kill(pid, signal.SIGKILL)
    assert submit(beta, "k", 10, 2000) == 2010
    assert beta.call(CheckStore()).problems == ()
