"""The link between agent and store is slow, broken, or down for long; agents die while it is."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.model import PilotDescription
from pilotmtc.pilots import start_local
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.session import Session
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.client.connect import connect_store
from tests.integration.agent_support import Site, kill, running_site, shell, until
from tests.integration.test_ssh import Place
from tests.lab.slow import Proxy
from tests.lab.sshd import Client, Sshd, make_client
from tests.support import alive, kill_at_once, nap, wait_until

LEASE_S = 3.0


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A server of its own, whose stores give up silent pilots soon."""
    monkeypatch.setenv("PILOTMTC_SERVER_LEASE_S", str(LEASE_S))
    with Sshd(environment={"PILOTMTC_SERVER_LEASE_S": str(LEASE_S)}) as server:
        yield server


@pytest.fixture
def client(tmp_path: Path, sshd: Sshd) -> Client:
    return make_client(tmp_path / "client", sshd)


@pytest.fixture
def proxy(sshd: Sshd, client: Client) -> Iterator[Proxy]:
    with Proxy(sshd.port) as proxy:
        words = sshd.known_hosts_line.split(" ", 1)[1]
        client.known_hosts.write_text(f"{sshd.known_hosts_line}[127.0.0.1]:{proxy.port} {words}")
        yield proxy


@pytest.fixture
def place(sshd: Sshd, tmp_path: Path) -> Iterator[Place]:
    place = Place(sshd, "mtc-store", f"{tmp_path.parent.name}-link-{os.getpid()}")
    yield place
    place.remove()


def through(proxy: Proxy, sshd: Sshd, url: str) -> str:
    return url.replace(f":{sshd.port}/", f":{proxy.port}/")


def counts(log: Path) -> Counter[str]:
    return Counter(log.read_text().split())


def test_link_that_is_down_for_longer_than_the_lease_costs_nothing(
    sshd: Sshd, client: Client, proxy: Proxy, place: Place, tmp_path: Path
) -> None:
    url = client.url(sshd, place.url_path)
    log = tmp_path / "log"
    with Session(url) as session, connect_store(through(proxy, sshd, url)) as slow:
        campaign = session.submit(f"{until(tmp_path / 'go')}; echo {{}} >> {log}", range(8))
        pilot = start_local(slow, through(proxy, sshd, url), PilotDescription(cores=4))
        wait_until(lambda: session.campaign(campaign).counts.get(TaskState.RUNNING) == 4)
        proxy.stall()
        (tmp_path / "go").touch()
        wait_until(lambda: session.pilots.get(pilot.id).state is PilotState.FAILED, 30)
        assert session.pilots.get(pilot.id).reason == "no heartbeat"
        wait_until(lambda: len(log.read_text().split()) >= 4)
        assert session.campaign(campaign).counts.get(TaskState.READY) == 8
        proxy.cut()
        proxy.resume()
        wait_until(lambda: session.pilots.get(pilot.id).state is PilotState.ACTIVE, 60)
        session.wait(campaign, 60)
        results = list(session.results(campaign=campaign))
        assert [(result.state, result.attempt) for result in results] == [(TaskState.DONE, 1)] * 8
        assert counts(log) == Counter({str(number): 1 for number in range(8)})
        assert session.check() == ()
        session.pilots.cancel(pilot.id)
        wait_until(lambda: not alive(pilot.directory), 20)


def test_pilot_that_was_canceled_while_its_link_was_down_ends_when_it_hears_of_it(
    sshd: Sshd, client: Client, proxy: Proxy, place: Place, tmp_path: Path
) -> None:
    mark = nap()
    url = client.url(sshd, place.url_path)
    with Session(url) as session, connect_store(through(proxy, sshd, url)) as slow:
        campaign = session.submit(f"sleep {mark}")
        pilot = start_local(slow, through(proxy, sshd, url), PilotDescription(cores=1))
        wait_until(lambda: session.campaign(campaign).counts.get(TaskState.RUNNING) == 1)
        proxy.stall()
        session.pilots.cancel(pilot.id)
        wait_until(lambda: session.pilots.get(pilot.id).state is PilotState.CANCELED, 30)
        assert session.campaign(campaign).counts == {TaskState.READY: 1}
        wait_until(lambda: alive(f"sleep\0{mark}"))
        proxy.resume()
        wait_until(lambda: not alive(pilot.directory) and not alive(f"sleep\0{mark}"), 30)
        assert session.pilots.get(pilot.id).state is PilotState.CANCELED
        assert session.campaign(campaign).counts == {TaskState.READY: 1}
        assert session.check() == ()


def test_slow_link_that_breaks_in_the_middle_of_words_loses_and_repeats_nothing(
    sshd: Sshd, client: Client, proxy: Proxy, place: Place, tmp_path: Path
) -> None:
    proxy.delay_s = 0.01
    url = through(proxy, sshd, client.url(sshd, place.url_path))
    log = tmp_path / "log"
    tasks = [str(number) for number in range(300)]
    run = subprocess.Popen(
        [sys.executable, "-m", "pilotmtc", "--store", url, "run", f"echo {{}} >> {log}; echo {{}}", ":::", *tasks],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: log.exists() or run.poll() is not None, 60)
    for size in (3_001, 12_345, 40_000):
        cuts = proxy.cuts
        proxy.cut_after(size)
        wait_until(lambda cuts=cuts: proxy.cuts > cuts or run.poll() is not None, 60)  # type: ignore[misc]
    out, err = run.communicate(timeout=90)
    assert run.returncode == 0, err
    assert sorted(out.split(), key=int) == tasks
    assert counts(log) == Counter(tasks)


def test_several_agents_and_watchers_over_connections_of_their_own(
    sshd: Sshd, client: Client, place: Place, tmp_path: Path
) -> None:
    url = client.url(sshd, place.url_path)
    log = tmp_path / "log"
    with Session(url) as session:
        campaign = session.submit(f"echo {{}} >> {log}", range(600))
        pilots = [session.pilots.submit(cores=2) for _ in range(3)]
        watchers = [
            subprocess.Popen(
                [sys.executable, "-m", "pilotmtc", "--store", url, "wait", str(campaign)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            for _ in range(3)
        ]  # fmt: skip
        for watcher in watchers:
            _, err = watcher.communicate(timeout=90)
            assert watcher.returncode == 0, err
        assert session.campaign(campaign).counts == {TaskState.DONE: 600}
        assert counts(log) == Counter(map(str, range(600)))
        for pilot in pilots:
            session.pilots.cancel(pilot.id)
        wait_until(lambda: not any(alive(pilot.directory) for pilot in pilots), 20)


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_results_of_an_agent_that_died_with_its_guard_are_taken_in_by_the_next(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = site.server()
    pilot = site.start()
    agent, guard = site.agent(pilot.id), site.guard(pilot.id)
    task = site.submit(shell(f"{until(tmp_path / 'go')}; echo ran >> {log}; echo precious"))[0]
    site.wait_running(task)
    os.kill(server, signal.SIGSTOP)  # nothing is acknowledged
    try:
        (tmp_path / "go").touch()
        spool = Path(pilot.directory)
        wait_until(lambda: any(path.stat().st_size for path in spool.glob("spool.*")), 10.0)
        kill_at_once([guard, agent])
        wait_until(lambda: not alive(pilot.directory))
    finally:
        kill(server)  # what the agent had sent already is gone with it
    assert site.state(task) is TaskState.RUNNING
    site.start()
    wait_until(lambda: site.state(task) is TaskState.DONE)
    assert site.output(task).stdout == b"precious\n"
    assert [attempt.pilot for attempt in site.attempts(task)] == [pilot.id]
    assert log.read_text() == "ran\n"
    assert not list(spool.glob("spool.*"))
    assert site.client.call(CheckStore()).problems == ()


def test_pilot_waits_for_a_store_that_was_moved_and_goes_on_when_it_is_back(site: Site, tmp_path: Path) -> None:
    server = site.server()
    pilot = site.start()
    task = site.submit(shell(f"{until(tmp_path / 'go')}; echo done"))[0]
    site.wait_running(task)
    store, away = Path(site.url), tmp_path / "away.db"
    site.client.close()
    store.rename(away)
    wait_until(lambda: not Path(f"/proc/{server}").exists(), 30)
    (tmp_path / "go").touch()
    wait_until(lambda: any(path.stat().st_size for path in Path(pilot.directory).glob("spool.*")), 30)
    assert not store.exists()  # its agent has made no new one
    away.rename(store)
    site.client = connect_store(site.url)
    wait_until(lambda: site.state(task) is TaskState.DONE, 60)
    assert [attempt.pilot for attempt in site.attempts(task)] == [pilot.id]
    assert site.pilot(pilot.id).state is PilotState.ACTIVE
    assert site.client.call(CheckStore()).problems == ()


def test_results_that_are_not_taken_are_synced_to_the_disk(site: Site, tmp_path: Path) -> None:
    server = site.server()
    pilot = site.start()
    agent = site.agent(pilot.id)
    task = site.submit(shell(until(tmp_path / "go")))[0]
    site.wait_running(task)
    before = _threads(agent)
    os.kill(server, signal.SIGSTOP)
    try:
        (tmp_path / "go").touch()
        wait_until(lambda: _threads(agent) > before, 10.0)  # the one that waits for the disk
    finally:
        os.kill(server, signal.SIGCONT)
    site.wait()


def _threads(pid: int) -> int:
    time.sleep(0.01)
    return len(os.listdir(f"/proc/{pid}/task"))
