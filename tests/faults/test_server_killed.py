"""The store server and its waiting serves are killed in the middle of things: nothing is lost, nothing twice."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.model import (
    Call,
    CampaignId,
    Function,
    PilotDescription,
    PilotId,
    Resources,
    Result,
    TaskRow,
    Template,
    Value,
)
from pilotmtc.protocol.agent import AttachPilot, Claim, Finish, Heartbeat
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilots
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import Filter
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.server.served_file import LEASE_VARIABLE
from tests.integration.agent_support import running_site, shell
from tests.serving import Place, a_place
from tests.support import kill, patience_s, wait_until

ECHO = Template(command=("echo", "{x}"), fields=("x",))


@pytest.fixture
def place(tmp_path: Path, surroundings: Path) -> Iterator[Place]:
    with a_place(tmp_path) as place:
        yield place


class Killer:
    """Kills whatever serves the store, again and again, until it is told to stop."""

    def __init__(self, place: Place, pause_s: tuple[float, float]) -> None:
        self._place = place
        self._pause_s = pause_s
        self._over = threading.Event()
        self.killed = 0
        self._thread = threading.Thread(target=self._run, name="killer")

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.wait(patience_s(random.uniform(*self._pause_s))):
            if pid := self._place.server():
                kill(pid)
                self.killed += 1


def submit(client: StoreClient, key: str, total: int, chunk: int) -> None:
    for offset in range(0, total, chunk):
        rows = tuple(TaskRow(0, 0, (str(n),)) for n in range(offset, min(total, offset + chunk)))
        reply = client.call(
            Submit(key, offset, templates=(ECHO,), resources=(Resources(),), rows=rows, last=offset + chunk >= total)
        )
        assert reply.received == offset + len(rows)


def work(client: StoreClient, campaign: CampaignId, key: str, recorded: dict[tuple[int, int], int]) -> None:
    """Claim and finish until nothing is left, as an agent does; count what the server says it has recorded."""
    pilot = client.call(CreatePilot(key, PilotDescription(campaign=campaign))).pilots[0].id
    client.call(AttachPilot(pilot, "host", 1, 1, 4))
    number = 0
    while True:
        number += 1
        batch = client.call(Claim(pilot, number, Resources(cores=4), Resources(cores=4000), 50, wait_s=0.3))
        if not batch.tasks:
            return
        results = tuple(Result(one.task, one.attempt, Cause.EXIT, 0, stdout=b"out") for one in batch.tasks)
        reply = client.call(Finish(pilot, results))
        assert (reply.recorded + reply.again, reply.stale) == (len(results), 0)
        for result in results:
            recorded[result.task, result.attempt] = recorded.get((result.task, result.attempt), 0) + 1


def test_killed_server_loses_and_doubles_nothing_in_mid_traffic(place: Place) -> None:
    user = place.client(patience_s=60)
    campaign = user.call(Submit("k")).campaign
    recorded: list[dict[tuple[int, int], int]] = [{}, {}]
    clients = [place.client(patience_s=60) for _ in recorded]
    total = 6000
    with Killer(place, (0.25, 0.6)) as killer:
        submit(user, "k", total, 200)
        threads = [
            threading.Thread(target=work, args=(client, campaign, f"p{n}", recorded[n]))
            for n, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patience_s(90))
        assert not any(thread.is_alive() for thread in threads)
        wait_until(lambda: killer.killed >= 3, 20)
    done = [key for one in recorded for key in one]
    assert len(done) == len(set(done)) == total  # nothing twice, nothing to two pilots
    assert {attempt for _, attempt in done} == {1}
    (state,) = user.call(GetCampaigns(id=campaign)).campaigns
    assert state.counts == {TaskState.DONE: total}
    assert user.call(CheckStore()).problems == ()


def test_every_acknowledged_chunk_survives_a_kill_right_after(place: Place) -> None:
    client = place.client()
    for n in range(5):
        rows = tuple(TaskRow(0, 0, (str(i),)) for i in range(10))
        client.call(Submit("k", 10 * n, templates=(ECHO,), resources=(Resources(),), rows=rows))
        killed = place.kill()
        info = client.call(GetStore())
        assert info.pid != killed
        assert info.tasks == {TaskState.READY: 10 * (n + 1)}


def test_claim_that_waits_finds_the_next_server(place: Place) -> None:
    agent, user = place.client(), place.client()
    pilot = agent.call(CreatePilot("p", PilotDescription())).pilots[0].id
    agent.call(AttachPilot(pilot, "host", 1, 1, 4))
    parked = agent.send(Claim(pilot, 1, Resources(), Resources(), 1, wait_s=60))
    place.kill()
    submit(user, "k", 1, 1)
    assert len(parked.result(timeout=30).tasks) == 1


def test_killed_serve_is_replaced_and_the_server_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_SERVER_LINGER_S", "60")  # there is nobody else while the next serve starts
    client = place.client()
    pid = client.call(GetStore()).pid
    for n in range(3):
        killed = wait_until(place.serve)
        os.kill(killed, signal.SIGKILL)
        submit(client, f"k{n}", 10, 10)
        wait_until(lambda killed=killed: place.serve() not in (0, killed))  # type: ignore[misc]
        assert client.call(GetStore()).pid == pid, place.log
    assert client.call(GetStore()).clients == 1


def test_killed_client_leaves_neither_its_serve_nor_a_place_at_the_server(place: Place) -> None:
    user = place.client()
    script = (
        "import sys, time; from pilotmtc.store.client.connect import connect_store;"
        "from pilotmtc.protocol.client.maintenance import GetStore;"
        "c = connect_store(sys.argv[1]); c.call(GetStore()); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(place.path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        process.stdout.readline()
        assert user.call(GetStore()).clients == 2
        serves = (Path(f"/proc/{process.pid}/task") / str(process.pid)).parent.glob("*/children")
        (serve,) = [pid for path in serves for pid in path.read_text().split()]
        process.kill()
        process.wait(10)
    wait_until(lambda: user.call(GetStore()).clients == 1)
    wait_until(lambda: not Path(f"/proc/{serve}/fd/0").exists())


def test_server_killed_at_its_start_is_started_again(place: Place) -> None:
    with Killer(place, (0.02, 0.08)) as killer:
        clients = [place.client(patience_s=60) for _ in range(4)]
        futures = [client.send(GetStore()) for client in clients]
        wait_until(lambda: killer.killed >= 2)
    assert [future.result(timeout=60).path for future in futures] == [str(place.path)] * 4


def test_stopped_server_holds_calls_up_but_loses_none(place: Place) -> None:
    client = place.client()
    pid = client.call(GetStore()).pid
    os.kill(pid, signal.SIGSTOP)
    futures = [client.send(Submit(f"k{n}", last=True)) for n in range(50)]
    time.sleep(0.2)
    assert not any(future.done() for future in futures)
    os.kill(pid, signal.SIGCONT)
    assert len({future.result(timeout=20).campaign for future in futures}) == 50


def test_server_that_slept_reads_what_has_come_before_it_gives_up_pilots(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_s = 3.0
    monkeypatch.setenv(LEASE_VARIABLE, str(lease_s))
    client = place.client()
    pid = client.call(GetStore()).pid
    pilots = [client.call(CreatePilot(key, PilotDescription())).pilots[0].id for key in ("beats", "claims", "silent")]
    for pilot in pilots:
        client.call(AttachPilot(pilot, "host", 1, 1, 4))
    os.kill(pid, signal.SIGSTOP)
    asleep = time.monotonic()
    beat = client.send(Heartbeat(pilots[0]))
    claim = client.send(Claim(pilots[1], 1, Resources(), Resources(cores=4), 4))
    while time.monotonic() < asleep + 1.2 * lease_s:
        time.sleep(0.05)
    os.kill(pid, signal.SIGCONT)
    assert beat.result(timeout=20).lease_s == lease_s
    assert claim.result(timeout=20).number == 1
    # One that could not say anything, for its connection did not last so long, gets time to come back.
    assert client.call(GetPilots(pilots[2])).pilots[0].state is PilotState.ACTIVE
    assert "leases start again" in place.log


def test_requests_of_a_pilot_from_before_the_kill_are_not_done_twice(place: Place) -> None:
    client = place.client()
    submit(client, "k", 10, 10)
    pilot: PilotId = client.call(CreatePilot("p", PilotDescription())).pilots[0].id
    client.call(AttachPilot(pilot, "host", 1, 1, 4))
    claim = Claim(pilot, 1, Resources(), Resources(cores=4), 4)
    first = client.call(claim)
    place.kill()
    assert client.call(claim) == first
    finish = Finish(pilot, tuple(Result(one.task, one.attempt, Cause.EXIT, 0) for one in first.tasks))
    assert client.call(finish).recorded == 4
    place.kill()
    again = client.call(finish)
    assert (again.recorded, again.again) == (0, 4)
    assert client.call(CreatePilot("p", PilotDescription())).pilots[0].id == pilot


def test_cancel_of_many_tasks_outlives_kills_of_the_server_and_the_user(place: Place) -> None:
    user, other = place.client(patience_s=60), place.client(patience_s=60)
    total = 30_000
    submit(user, "k", total, 10_000)
    user.send(Cancel("all", Filter()))
    for _ in range(3):
        place.kill()
        other.call(GetStore())
    wait_until(lambda: other.call(GetStore()).tasks.get(TaskState.CANCELED, 0) > 0, 60)
    user.close()  # nobody waits for it any more
    place.kill()
    wait_until(lambda: other.call(GetStore()).tasks == {TaskState.CANCELED: total}, 60)
    assert other.call(Cancel("all", Filter())) == Changed(total)
    assert other.call(CheckStore()).problems == ()


def put(client: StoreClient, data: bytes) -> Value:
    """Put a value part by part, and return it."""
    digest = hashlib.sha256(data).hexdigest()
    received = 0
    while received < len(data):
        part = PutValue(digest, received, len(data), data[received : received + PART_BYTES])
        received = client.call(part).received
    return Value(digest=digest, size=len(data))


def test_values_are_whole_however_often_the_server_is_killed(place: Place) -> None:
    client = place.client(patience_s=60)
    datas = [os.urandom(3 * PART_BYTES + n) for n in range(12)]
    with Killer(place, (0.05, 0.4)) as killer:
        values: list[Value] = []
        while killer.killed < 4 or len(values) < len(datas):
            values.append(put(client, datas[len(values) % len(datas)]))
    code = b"a function"
    template = Template(("f",), function=Function("f", put(client, code).digest))
    rows = tuple(TaskRow(0, 0, call=Call(value)) for value in values)
    assert client.call(Submit("k", 0, "c", (template,), (Resources(),), rows, True)).received == len(values)
    for value, data in zip(values, datas, strict=False):
        got = b"".join(client.call(GetValue(value.digest, at)).data for at in range(0, len(data), PART_BYTES))
        assert got == data
    assert client.call(CheckStore()).problems == ()
    assert list((place.path.parent / f"{place.path.name}.d" / "values" / "parts").iterdir()) == []


def test_pilot_waits_until_what_is_in_the_stores_place_has_gone(tmp_path: Path, surroundings: Path) -> None:
    with running_site(tmp_path) as site:
        pilot = site.start()
        gate = tmp_path / "gate"
        first = site.submit(shell(f"until test -e {gate}; do sleep 0.05; done; echo {{task_id}}"), copies=3)[0]
        site.wait_running(first)
        store, away = tmp_path / "store.db", tmp_path / "away.db"
        log = Path(pilot.directory) / "agent.log"
        kill(site.client.call(GetStore()).pid)
        store.rename(away)
        store.mkdir()
        gate.touch()
        wait_until(lambda: "is a directory" in log.read_text())
        store.rmdir()
        away.rename(store)
        assert site.wait() == {TaskState.DONE: 3}
        assert site.pilot(pilot.id).state is PilotState.ACTIVE
        assert len(site.attempts(first)) == 1
