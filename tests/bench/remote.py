"""Speed, size and traffic of a store behind a real sshd on the loopback interface."""

import contextlib
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pilotmtc.model import Resources
from pilotmtc.protocol.agent import Claim, Finish
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.store import serve
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import parse_url
from tests.bench.measure import Measured, Series, in_turn, say, timed
from tests.bench.place import Place, memory_mb, place, specs, submit
from tests.bench.storage import BATCH, Agent, results_of
from tests.lab.slow import Proxy
from tests.lab.sshd import Sshd, make_client
from tests.support import processes_with, wait_until

_TASKS = 1_000_000
_CLAIMED = 100_000  # a round
_AGENTS = 64
_TRIPS = 300
_PATIENCE_S = 60.0


class Remote:
    """An empty store that SSH reaches, and a client's files."""

    def __init__(self, directory: Path, sshd: Sshd) -> None:
        self.sshd = sshd
        self.files = make_client(directory / "client", sshd)
        self.home = sshd.account.home / f"bench-{secrets.token_hex(4)}"
        self.home.mkdir(mode=0o700)
        shutil.chown(self.home, self.home.parent.owner())
        self.url = self.files.url(sshd, f"/~/{self.home.name}/store.db")

    def client(self) -> StoreClient:
        """Return a new client; all of one process share a connection."""
        return connect_store(self.url, patience_s=_PATIENCE_S)

    def through(self, proxy: Proxy) -> str:
        """Return the store's address by way of a proxy to the sshd."""
        words = self.sshd.known_hosts_line.split(" ", 1)[1]
        self.files.known_hosts.write_text(f"{self.sshd.known_hosts_line}[127.0.0.1]:{proxy.port} {words}")
        return self.url.replace(f":{self.sshd.port}/", f":{proxy.port}/")

    def waiting(self) -> list[int]:
        """Return the serves that wait while the server talks with their clients."""
        found = processes_with("SSH_CONNECTION=").items()
        return [pid for pid, words in found if str(self.home) in words and os.path.basename(serve.__file__) in words]

    def openssh(self, *words: str) -> list[str]:
        """Return the command with which the system's ssh runs `words` there."""
        config, name = str(self.files.config), self.sshd.account.name
        return ["ssh", "-F", config, "-p", str(self.sshd.port), f"{name}@127.0.0.1", *words]


@contextlib.contextmanager
def remote_store() -> Iterator[tuple[Remote, Place]]:
    """Give a store that SSH reaches, and a local one beside it."""
    with place() as here, Sshd() as sshd:
        remote = Remote(here.directory, sshd)
        try:
            yield remote, here
        finally:
            shutil.rmtree(remote.home)


def claims(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Claim and finish in batches of 256 with a million tasks in the store, over SSH and without it."""
    number = int(_TASKS * scale)
    share = min(int(_CLAIMED * scale), number // (rounds + 1))
    with remote_store() as (remote, here), remote.client() as client:
        local = here.client
        pid = client.call(GetStore()).pid
        for each, where in ((client, "over SSH"), (local, "locally")):
            say(f"submitting {number:,} tasks {where}")
            _submit(each, number)
        ours, theirs = Agent(client), Agent(local)
        ours.work(BATCH * 4)
        theirs.work(BATCH * 4)
        values = in_turn({"over SSH": lambda: ours.work(share), "over a pipe": lambda: theirs.work(share)}, rounds)
        server, serves = memory_mb(pid)[1], [memory_mb(each)[0] for each in remote.waiting()]
    series = tuple(Series(name, "tasks/s", tuple(found)) for name, found in values.items())
    return [
        Measured(
            f"SSH: claim + finish, batches of {BATCH}, {number:,} tasks there",
            series[0].median, "tasks/s", 20_000, at_least=True, series=series,
        ),
        Measured("memory: store server meanwhile, peak", server, "MB", 80.0),
        Measured("memory: a serve that waits behind SSH", max(serves), "MB", 12.0),
    ]  # fmt: skip


def trips(rounds: int, scale: float, slots: int) -> list[Measured]:
    """One request and its answer; and all that comes before an agent's first task."""
    with remote_store() as (remote, beside), remote.client() as client, contextlib.closing(_link(remote)) as link:
        local = beside.client
        _submit(client, BATCH * (rounds + 1))
        _submit(local, BATCH * (rounds + 1))
        echo = link.open("exec cat")

        def bare() -> float:
            def trip() -> None:
                echo.write(b"x" * 40)
                had = 0
                while had < 40:
                    had += len(echo.read(40 - had))

            return _milliseconds(trip)

        here = local.call(GetStore()).path
        there = in_turn(
            {
                "over SSH": lambda: _milliseconds(lambda: client.call(GetStore())),
                "over a pipe": lambda: _milliseconds(lambda: local.call(GetStore())),
                "40 bytes through paramiko to cat and back": bare,
            },
            rounds,
        )
        echo.close()
        first = in_turn(
            {
                "python, connect, find the server, claim": lambda: _first_claim(remote.url),
                "the same without SSH": lambda: _first_claim(here),
                "ssh HOST true, the system's": lambda: timed(lambda: _quiet(remote.openssh("true"))),
            },
            rounds,
        )
    series = tuple(Series(name, "ms", tuple(found)) for name, found in there.items())
    times = tuple(Series(name, "s", tuple(found)) for name, found in first.items())
    return [
        Measured("SSH: a round trip", series[0].median, "ms", series=series),
        Measured("SSH: from nothing to the first claimed task", times[0].median, "s", series=times),
    ]


def many(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Agents with connections of their own, all at once."""
    agents = max(2, int(_AGENTS * scale))
    share = max(BATCH, int(_CLAIMED * scale) // agents)
    with remote_store() as (remote, _), remote.client() as client:
        pid = client.call(GetStore()).pid
        _submit(client, (rounds + 1) * (agents * (share + 2 * BATCH) + int(_CLAIMED * scale)))
        peaks: list[float] = []

        def together(number: int, share: int) -> float:
            with contextlib.ExitStack() as stack:
                argv = [sys.executable, "-m", "tests.bench.remote", remote.url, str(share)]
                workers = [
                    stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
                    for _ in range(number)
                ]
                for worker in workers:
                    stack.callback(worker.kill)
                    assert worker.stdout is not None
                    if worker.stdout.readline() != b"ready\n":
                        raise RuntimeError("an agent could not connect")
                peaks.append(memory_mb(pid)[1])
                started = time.perf_counter()
                for worker in workers:
                    assert worker.stdin is not None
                    worker.stdin.write(b"go\n")
                    worker.stdin.flush()
                done = [int(worker.stdout.readline()) for worker in workers if worker.stdout is not None]
                return sum(done) / (time.perf_counter() - started)

        values = in_turn(
            {
                f"{agents} agents": lambda: together(agents, share),
                "1 agent": lambda: together(1, int(_CLAIMED * scale)),
            },
            rounds,
        )
    series = tuple(Series(name, "tasks/s", tuple(found)) for name, found in values.items())
    return [
        Measured(f"SSH: claim + finish, {agents} agents at once", series[0].median, "tasks/s", series=series),
        Measured(f"memory: store server with {agents} agents, peak", max(peaks), "MB", 80.0),
    ]


def traffic(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Bytes that pass between an agent and sshd, beside the same messages as JSON."""
    number = max(BATCH * 8, int(50_000 * scale))
    with remote_store() as (remote, _), Proxy(remote.sshd.port) as proxy:
        with remote.client() as client:
            _submit(client, number + BATCH * 4)
        with connect_store(remote.through(proxy), patience_s=_PATIENCE_S) as client:
            agent = Agent(client)
            agent.work(BATCH)
            before = proxy.passed_bytes
            agent.work(number)
            wait_until(lambda: proxy.passed_bytes > before)
            passed = (proxy.passed_bytes - before) / number
            plain = _as_json(client, agent) / BATCH
    return [
        Measured(
            "SSH: bytes on the wire per task, claimed and finished", passed, "bytes",
            series=(Series("the same messages as JSON, before encryption", "bytes", (plain,)),),
            note="all that sshd received and sent, for tasks with one value and 5 bytes of output",
        )
    ]  # fmt: skip


def _as_json(client: StoreClient, agent: Agent) -> int:
    """Return the size of a claim, its answer and the results as JSON."""
    room = Resources(cores=BATCH)
    claim = Claim(agent.pilot, agent.number + 1, room, room, BATCH)
    batch = client.call(claim)
    return sum(len(msgspec.json.encode(each)) for each in (claim, batch, Finish(agent.pilot, results_of(batch))))


def _submit(client: StoreClient, number: int) -> None:
    submit(client, specs(["/bin/true"], map(str, range(number))), "bench")


def _milliseconds(work: Callable[[], object]) -> float:
    return 1000 * statistics.median(timed(work) for _ in range(_TRIPS))


def _link(remote: Remote) -> SshLink:
    return SshLink(parse_url(remote.url))


def _first_claim(url: str) -> float:
    """Return the seconds in which a process without a connection gets a task."""
    argv = [sys.executable, "-m", "tests.bench.remote", url, "1"]
    started = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("nothing was claimed")
            elapsed = time.perf_counter() - started
        finally:
            process.kill()
    return elapsed


def _quiet(argv: list[str]) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=60.0)


def _work_when_told(url: str, share: int) -> None:
    with connect_store(url, patience_s=_PATIENCE_S) as client:
        agent = Agent(client, secrets.token_hex(8))
        if not agent.claim().result(_PATIENCE_S).tasks:
            raise RuntimeError("there is no task to claim")
        print("ready", flush=True)
        if sys.stdin.readline():
            before = time.perf_counter()
            rate = agent.work(share)
            print(round(rate * (time.perf_counter() - before)), flush=True)


if __name__ == "__main__":
    _work_when_told(sys.argv[1], int(sys.argv[2]))
