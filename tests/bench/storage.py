"""Speed and size of the store, through its server."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from pilotmtc.model import PilotDescription, Resources, Result
from pilotmtc.protocol.agent import AttachPilot, Batch, Claim, Finish, Finished
from pilotmtc.protocol.client.campaigns import DeleteCampaign
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.states import Cause
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from tests.bench.measure import Measured, Series, in_turn, say
from tests.bench.place import memory_mb, place, specs

_TASKS = 1_000_000
BATCH = 256
_CLAIMED = 100_000  # a round
_AGENTS = 10
_CALM_S = 6.0
_PAUSE_S = 0.05  # between the claims of an agent
_FEW = 16  # tasks a claim


def submit(rounds: int, scale: float, slots: int) -> list[Measured]:
    """A million tasks of one template, one value each: time, the client's memory, bytes on disk."""
    number = int(_TASKS * scale)
    peaks: dict[int, float] = {}
    sizes: list[float] = []
    memory: list[float] = []

    def ours(number: int) -> float:
        with place() as here:
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.storage", here.path, str(number)],
                stdout=subprocess.PIPE, text=True, check=True, timeout=900.0,
            )  # fmt: skip
            told = json.loads(done.stdout)
            peaks[number] = told["peak_mb"]
            sizes.append(here.client.call(GetStore()).size_bytes / number)
            memory.append(memory_mb(here.processes("pilotmtc.store.server")[0])[1])
            return float(told["seconds"])

    ours(number // 10)
    sizes.clear()
    values = in_turn({"pilotmtc": lambda: ours(number), "bare sqlite3 insert": lambda: _bare_insert(number)}, rounds)
    growth = peaks[number] - peaks[number // 10]
    series = tuple(Series(name, "s", tuple(found)) for name, found in values.items())
    return [
        Measured(f"submit of {number:,} tasks", series[0].median, "s", 10.0 * scale, series=series),
        Measured("submit: disk", max(sizes), "bytes/task", 150.0, note="store.db and its -wal"),
        Measured(
            "submit: client memory that ten times the tasks add", growth, "MB", 5.0,
            note=f"peak {peaks[number]:.1f} MB for {number:,} tasks, {peaks[number // 10]:.1f} MB for a tenth",
        ),
        Measured("memory: store server after that, peak", max(memory), "MB", 80.0),
    ]  # fmt: skip


def claim_and_finish(rounds: int, scale: float, slots: int) -> list[Measured]:
    """What an agent asks of the store, without an agent: batches of 256, a million tasks in the store."""
    number = int(_TASKS * scale)
    share = min(int(_CLAIMED * scale), number // (rounds + 1))
    with place() as here:
        say(f"submitting {number:,} tasks")
        here.submit(specs(["/bin/true"], map(str, range(number))))
        agent = Agent(here.client)
        bare = _Bare(Path(here.directory) / "bare.db", number)
        agent.work(BATCH * 4)
        values = in_turn({"pilotmtc": lambda: agent.work(share), "bare sqlite3": lambda: bare.work(share)}, rounds)
        server = memory_mb(here.processes("pilotmtc.store.server")[0])[1]
        bare.close()
    series = tuple(Series(name, "tasks/s", tuple(found)) for name, found in values.items())
    return [
        Measured(
            f"claim + finish, batches of {BATCH}, {number:,} tasks in the store",
            series[0].median, "tasks/s", 50_000, at_least=True, series=series,
            note="bare sqlite3: the same two steps as plain statements in this process, no server, nothing guarded",
        ),
        Measured("memory: store server meanwhile, peak", server, "MB", 80.0),
    ]  # fmt: skip


def delete(rounds: int, scale: float, slots: int) -> list[Measured]:
    """A million tasks with their outputs are deleted while ten agents claim and finish others: do they notice?"""
    number = int(_TASKS * scale)
    with place() as here:
        say(f"submitting and finishing {number:,} tasks")
        old = here.submit(specs(["/bin/true"], map(str, range(number))))
        Agent(here.client).work(number)
        here.submit(specs(["/bin/true"], map(str, range(number))))
        over = threading.Event()
        waits: list[list[tuple[float, float]]] = [[] for _ in range(_AGENTS)]
        threads = [
            threading.Thread(target=_claim_gently, args=(here.path, f"bench-{at}", over, waits[at]))
            for at in range(_AGENTS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(_CALM_S)
        began = time.perf_counter()
        here.client.call(DeleteCampaign("bench-delete", old))
        ended = time.perf_counter()
        over.set()
        for thread in threads:
            thread.join()
    found = [wait for some in waits for wait in some]
    calm = sorted(wait_s for at, wait_s in found if began - _CALM_S / 2 <= at < began)
    busy = sorted(wait_s for at, wait_s in found if began <= at < ended)
    series = tuple(
        Series(f"claims {name}", "ms", tuple([1000 * some[int(part * (len(some) - 1))] for part in (0.5, 0.99, 1.0)]),
               note=f"median, 99th percentile and longest of {len(some):,}")
        for name, some in (("before", calm), ("meanwhile", busy))
    )  # fmt: skip
    return [
        Measured(f"delete of {number:,} tasks while {_AGENTS} agents claim", ended - began, "s", None, series=series),
        Measured("claims meanwhile, 99th percentile", series[1].values[1], "ms", 100.0),
    ]


def _claim_gently(path: str, name: str, over: threading.Event, waits: list[tuple[float, float]]) -> None:
    """Claim and finish some tasks many times a second; note when each claim began, and how long it took."""
    client = connect_store(path)
    agent = Agent(client, name)
    while not over.wait(_PAUSE_S):
        began = time.perf_counter()
        batch = agent.claim(_FEW).result(60.0)
        waits.append((began, time.perf_counter() - began))
        client.call(Finish(agent.pilot, results_of(batch)))
    client.close()


class Agent:
    """Claims and finishes; the next claim is under way while the last batch's results are."""

    def __init__(self, client: StoreClient, name: str = "bench-claims") -> None:
        self.client = client
        self.pilot = client.call(CreatePilot(name, PilotDescription(cores=BATCH))).pilots[0].id
        self.client.call(AttachPilot(self.pilot, "bench", os.getpid(), 1, BATCH))
        self.number = 0

    def claim(self, most: int = BATCH) -> "Future[Batch]":
        """Ask for a batch."""
        self.number += 1
        room = Resources(cores=BATCH)
        return self.client.send(Claim(self.pilot, self.number, room, room, most))

    def work(self, number: int) -> float:
        """Claim and finish about `number` tasks; return tasks a second."""
        started = time.perf_counter()
        finishes: list[Future[Finished]] = []
        taken = 0
        under_way = self.claim()
        while True:
            batch = under_way.result(60.0)
            taken += len(batch.tasks)
            finishes.append(self.client.send(Finish(self.pilot, results_of(batch))))
            if taken >= number or not batch.tasks:
                break
            under_way = self.claim()
        recorded = sum(finish.result(60.0).recorded for finish in finishes)
        elapsed = time.perf_counter() - started
        if recorded != taken:
            raise RuntimeError(f"{taken} tasks claimed, {recorded} results recorded")
        return recorded / elapsed


def results_of(batch: Batch) -> tuple[Result, ...]:
    """Return what came of the tasks of a batch."""
    return tuple([
        Result(
            task.task, task.attempt, Cause.EXIT, exit_code=0, node="bench", slot="0", started_at=1e9,
            elapsed_s=0.001, cpu_s=0.001, memory_bytes=1_000_000, stdout=b"3.14\n", stdout_bytes=5,
        )
        for task in batch.tasks
    ])  # fmt: skip


class _Bare:
    """The least that SQLite must do: mark a batch as held, then as over with a row of results and one of output."""

    def __init__(self, path: Path, number: int) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE task(id INTEGER PRIMARY KEY, template INT, state INT, attempt INT, params TEXT);"
            "CREATE INDEX ready ON task(template) WHERE state=1;"
            "CREATE TABLE attempt(id INTEGER PRIMARY KEY, cause INT, exit_code INT, node TEXT, slot TEXT,"
            " started_at REAL, elapsed_s REAL, cpu_s REAL, memory_bytes INT);"
            "CREATE TABLE output(id INTEGER PRIMARY KEY, stdout BLOB, stderr BLOB)"
        )
        _insert(self.db, number)

    def work(self, number: int) -> float:
        """Do as `Agent.work` does."""
        db = self.db
        started = time.perf_counter()
        taken = 0
        while taken < number:
            db.execute("BEGIN IMMEDIATE")
            ids = db.execute(
                "SELECT id FROM task WHERE template=1 AND state=1 ORDER BY id LIMIT ?", (BATCH,)
            ).fetchall()
            db.executemany("UPDATE task SET state=2, attempt=1 WHERE id=?", ids)
            db.execute("COMMIT")
            db.execute("BEGIN IMMEDIATE")
            db.executemany("UPDATE task SET state=4 WHERE id=? AND state=2 AND attempt=1", ids)
            db.executemany("INSERT INTO attempt VALUES(?,0,0,'bench','0',1e9,0.001,0.001,1000000)", ids)
            db.executemany("INSERT INTO output VALUES(?,x'332e31340a',x'')", ids)
            db.execute("COMMIT")
            taken += len(ids)
        return taken / (time.perf_counter() - started)

    def close(self) -> None:
        """Close the file."""
        self.db.close()


def _insert(db: sqlite3.Connection, number: int) -> None:
    for first in range(0, number, 4096):
        db.execute("BEGIN IMMEDIATE")
        rows = ((f'["{row}"]',) for row in range(first, min(first + 4096, number)))
        db.executemany("INSERT INTO task(template, state, attempt, params) VALUES(1, 1, 0, ?)", rows)
        db.execute("COMMIT")


def _bare_insert(number: int) -> float:
    with place() as here:
        bare = _Bare(here.directory / "bare.db", 0)
        started = time.perf_counter()
        _insert(bare.db, number)
        elapsed = time.perf_counter() - started
        bare.close()
        return elapsed


def _submit_here(path: str, number: int) -> dict[str, float]:
    """Submit in this process, few messages under way at a time; return seconds and this process's peak memory."""
    from collections import deque

    from pilotmtc.campaign.submit import chunks

    started = time.perf_counter()
    client = connect_store(path)
    under_way: deque[Future[object]] = deque()
    send: Callable[..., Future[object]] = client.send
    for message in chunks(specs(["/bin/true"], map(str, range(number))), key="submit"):
        under_way.append(send(message))
        if len(under_way) > 4:
            under_way.popleft().result(60.0)
    for future in under_way:
        future.result(60.0)
    elapsed = time.perf_counter() - started
    client.close()
    return {"seconds": elapsed, "peak_mb": memory_mb(os.getpid())[1]}


if __name__ == "__main__":
    print(json.dumps(_submit_here(sys.argv[1], int(sys.argv[2]))))
