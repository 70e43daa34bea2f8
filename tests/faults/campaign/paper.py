"""Agents of paper: they claim and send results over real connections, and only pretend to run what they got."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilotmtc.errors import StateError
from pilotmtc.model import Claimed, PilotDescription, PilotId, Resources, Result, TaskId
from pilotmtc.protocol.agent import AttachPilot, Claim, EndPilot, Finish, Heartbeat, Release, Started
from pilotmtc.protocol.base import R, Request
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.states import TASK_FINAL, Cause, PilotState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from tests.faults.campaign.work import FLAKY, HOPELESS, Count, Work
from tests.hosts import RENEW_S, Hosts, shared_store
from tests.support import patience_s, wait_until

_OVER_S = 100.0
_PATIENCE_S = 120.0
_LATEST = 200  # messages that may be sent once more


class Agent:
    """One that works until it is told to stop.

    Parameters
    ----------
    clients
        Connections; the first is its own, the others carry what comes late.
    sloppy
        How likely a message is sent again at once, and an old one after it.

    Attributes
    ----------
    repeated
        How many messages were sent more than once.
    """

    def __init__(self, clients: Sequence[StoreClient], work: Work, seed: str, sloppy: float = 0.0) -> None:
        self._clients = clients
        self._work = work
        self._dice = Random(seed)
        self._sloppy = sloppy
        self._sent: list[Request[Any]] = []
        self.repeated = 0
        self.failed: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="paper")
        self._thread.start()

    def stop(self) -> None:
        """Let it finish, and wait."""
        self._over.set()
        self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._serve_a_pilot(self._dice.randint(3, 12))
        except Exception as error:  # noqa: BLE001 -- whatever it is, the round has failed
            self.failed = error

    def _serve_a_pilot(self, batches: int) -> None:
        key = f"paper-{self._dice.getrandbits(60)}"
        pilot = self._say(CreatePilot(key, PilotDescription(cores=8))).pilots[0].id
        self._say(AttachPilot(pilot, "paper", os.getpid(), 1, 8))
        held: list[Finish] = []
        try:
            for number in range(1, batches + 1):
                room = Resources(cores=20)
                batch = self._say(Claim(pilot, number, room, room, 20, wait_s=0.2))
                if self._over.is_set() and not batch.tasks:
                    break
                self._say(Heartbeat(pilot, busy=len(batch.tasks)))
                held += self._perform(pilot, batch.tasks)
                self._dice.shuffle(held)
                while held and (not self._sloppy or self._dice.random() < 0.8):
                    self._say(held.pop())
        except StateError:  # given up meanwhile: what it has done may be taken all the same
            pass
        if self._dice.random() < 0.3:  # dies with its results under way, which come when its tasks are others'
            self._say(EndPilot(pilot, PilotState.FAILED, "died"))
            time.sleep(self._dice.uniform(0.0, 0.1))
        for finish in held:
            self._say(finish)
        self._say(EndPilot(pilot, PilotState.DONE))

    def _perform(self, pilot: PilotId, tasks: Sequence[Claimed]) -> list[Finish]:
        """Return the messages with the results; some tasks are given back."""
        done = []
        for given in tasks:
            waits = given.task == self._work.number and not self._work.gate.exists()
            if waits:
                time.sleep(0.02)
            if waits or self._dice.random() < 0.05:
                self._say(Release(pilot, ((given.task, given.attempt),)))
                continue
            done.append(self._run_one(given))
        started = Started(pilot, tuple([(one.task, one.attempt, time.time(), "paper", "0") for one in done]))
        if self._dice.random() < 0.9:  # it may be lost, or come after the end
            self._say(started)
        else:
            self._sent.append(started)
        at = self._dice.randint(0, len(done))
        return [Finish(pilot, tuple(part)) for part in (done[:at], done[at:]) if part]

    def _run_one(self, given: Claimed) -> Result:
        """Do what `Work` would have a process do."""
        task = given.task - 1
        with self._work.log.open("a") as log:
            log.write(f"{task}\n")
        code, said = 0, f"{task}\n".encode()
        kind = self._work.kinds[task]
        if kind == HOPELESS:
            code, said = 4, b""
        elif kind == FLAKY:
            with contextlib.suppress(FileExistsError):
                Path(f"{self._work.log}.{task}").mkdir()
                code, said = 3, b""
        return Result(TaskId(given.task), given.attempt, Cause.EXIT, code, stdout=said, stdout_bytes=len(said))

    def _say(self, request: Request[R]) -> R:
        """Send it, and perhaps again, and perhaps what was said before once more, by another way."""
        answer = self._clients[0].call(request)
        self._sent = [*self._sent[-_LATEST:], request]
        while self._dice.random() < self._sloppy:
            self.repeated += 1
            late = self._dice.choice([request, self._dice.choice(self._sent)])
            with contextlib.suppress(StateError):  # of a pilot that is over
                self._dice.choice(self._clients).call(late)
        return answer


def _count(store: StoreClient, work: Work, copy: Path, agents: Sequence[Agent], struck: int) -> Count:
    for agent in agents:
        agent.stop()
    store.call(SnapshotStore(str(copy)))
    found = work.count(copy, store.call(CheckStore()).problems)
    found.struck = struck
    for agent in agents:
        if agent.failed is not None:
            raise agent.failed
    return found


def _work_until_over(store: StoreClient, work: Work, strike: Callable[[int], None]) -> None:
    """Submit the work, and call `strike` with the number of tasks that are over until all are."""
    campaign = work.submit(store)
    until = time.monotonic() + patience_s(_OVER_S)
    while time.monotonic() < until:
        counts = store.call(GetCampaigns(id=campaign)).campaigns[0].counts
        over = sum(number for state, number in counts.items() if state in TASK_FINAL)
        if over == work.number:
            return
        strike(over)
        time.sleep(0.01)


def messages(directory: Path, runtime: Path, work: Work, dice: Random) -> Count:
    """Send requests twice, late, in another order and over other connections."""
    path = str(directory / "store.db")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect_store(path, patience_s=_PATIENCE_S)) for _ in range(3)]
        agents = [Agent(clients[at:] + clients[:at], work, f"{dice.random()}", 0.4) for at in range(3)]
        work.let_end()
        try:
            _work_until_over(clients[0], work, lambda over: None)
        finally:
            for agent in agents:
                agent.stop()
        return _count(clients[0], work, directory / "copy.db", agents, sum(agent.repeated for agent in agents))


def owner_killed(directory: Path, runtime: Path, work: Work, dice: Random) -> Count:
    """Of two hosts that want one store, kill the server of the one that has it."""

    def strike(hosts: Hosts, other: str) -> bool:
        _, pid = hosts.owner()
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    return _on_hosts(directory, runtime, work, dice, strike)


def owner_sleeps(directory: Path, runtime: Path, work: Work, dice: Random) -> Count:
    """Stop the server that has the store until another host has taken it over, and wake it: it must not write."""

    def strike(hosts: Hosts, other: str) -> bool:
        _, pid = hosts.owner()
        hosts.stop(pid)
        # Somebody there wants it; that a third host is faster is as good.
        with hosts.client(other, follows=False, patience_s=_PATIENCE_S) as wanting:
            wanting.send(GetStore())
            wait_until(lambda: hosts.owner()[1] != pid and hosts.record().state == "serving", 60.0)
        time.sleep(dice.choice((0.0, RENEW_S, 8 * RENEW_S)))
        hosts.wake(pid)
        wait_until(lambda: not Path(f"/proc/{pid}/fd/0").exists(), 20.0)  # it has left
        return True

    return _on_hosts(directory, runtime, work, dice, strike)


def _on_hosts(directory: Path, runtime: Path, work: Work, dice: Random, strike: Callable[[Hosts, str], bool]) -> Count:
    names = ("alpha", "beta", "gamma")
    struck = 0
    moments = sorted(dice.sample(range(work.number * 8 // 10), dice.randint(1, 3)))
    with pytest.MonkeyPatch.context() as patch, shared_store(directory, runtime, patch) as hosts:
        own = [hosts.client(name, patience_s=_PATIENCE_S) for name in names]
        store = hosts.client("beta", patience_s=_PATIENCE_S)
        agents: list[Agent] = []

        def perhaps(over: int) -> None:
            nonlocal struck
            if not agents:
                agents.extend(Agent([client], work, f"{dice.random()}") for client in own[:2])
            if moments and over >= moments[0]:
                host, _ = hosts.owner()
                if strike(hosts, dice.choice([name for name in names if name != host])):
                    struck += 1
                    del moments[0]
            if not moments:
                work.let_end()

        try:
            _work_until_over(store, work, perhaps)
        finally:
            hosts.wake_all()
            for agent in agents:
                agent.stop()
        return _count(store, work, directory / "copy.db", agents, struck)
