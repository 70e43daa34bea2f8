"""Calls of Python functions, of a client that is there again when it was killed, on a store of this machine."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from msgspec import Struct

from pilotmtc.protocol.client.maintenance import CheckStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.states import PilotState
from tests.faults.campaign.caller import WIDTH
from tests.faults.campaign.field import LEASE_S
from tests.faults.campaign.work import Count, Work
from tests.integration.agent_support import Site, running_site
from tests.integration.pool_support import PoolPilot, running_pool
from tests.support import patience_s, processes_with

_OVER_S = 200.0
_NODES, _CORES = 2, 2
_WORKER = "agent/functions/worker.py"


class _Play(Struct):
    """What is struck."""

    site: Site
    runtime: Path
    dice: Random
    client: "subprocess.Popen[str]"
    nodes: PoolPilot | None


Strike = Callable[[_Play], int]  # which process to kill; 0 if there is none


def worker(play: _Play) -> int:
    """Return a function worker."""
    found = [pid for pid, words in processes_with(f"XDG_RUNTIME_DIR={play.runtime}").items() if _WORKER in words]
    return play.dice.choice(sorted(found)) if found else 0


def node_worker(play: _Play) -> int:
    """Return a node worker, which runs the function workers of its node."""
    found = {} if play.nodes is None else play.nodes.workers()
    return found[play.dice.choice(sorted(found))] if found else 0


def agent(play: _Play) -> int:
    """Return the agent of a pilot."""
    found = [
        pilot.pid for pilot in play.site.client.call(GetPilots(live=True)).pilots if pilot.state is PilotState.ACTIVE
    ]
    return play.dice.choice(found) if found else 0


def server(play: _Play) -> int:
    """Return the store's server."""
    return play.site.client.call(GetStore()).pid


def client(play: _Play) -> int:
    """Return the client."""
    return play.client.pid if play.client.poll() is None else 0


def several(play: _Play) -> int:
    """Return any of them."""
    return play.dice.choice((worker, agent, server, client))(play)


def round_of(strike: Strike) -> Callable[[Path, Path, Work, Random], Count]:
    """Return a round in which `strike` says what is killed."""

    def play_round(directory: Path, runtime: Path, work: Work, dice: Random) -> Count:
        with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
            patch.setenv("PILOTMTC_SERVER_LEASE_S", str(LEASE_S))
            site = stack.enter_context(running_site(directory))
            nodes = None
            if strike is node_worker:
                nodes = stack.enter_context(running_pool(site, _NODES, _CORES))
                nodes.wait_nodes(_NODES)
            found = Count(1, 0, work.number)
            log = directory / "called"
            log.touch()
            play = _Play(site, runtime, dice, _client(site, log, work.number, nodes), nodes)
            found.struck, found.wrong = _play(play, strike, log, work.number)
            _count(site, directory / "copy.db", log, work.number, found)
            return found

    return play_round


def _client(site: Site, log: Path, number: int, nodes: PoolPilot | None) -> "subprocess.Popen[str]":
    pilots = "own" if nodes is None else "any"
    argv = [sys.executable, "-m", "tests.faults.campaign.caller", site.url, str(log), str(number), pilots]
    with (log.parent / "client.log").open("a") as said:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True)


def _play(play: _Play, strike: Strike, log: Path, number: int) -> tuple[int, int]:
    """Have all calls made while `strike` is, at random moments; return how often it hit, and the wrong values."""
    hits = 0
    moments = sorted(play.dice.sample(range(number * 8 // 10), play.dice.randint(1, 3)))
    until = time.monotonic() + patience_s(_OVER_S)
    try:
        while (code := play.client.poll()) != 0:
            if time.monotonic() > until:
                raise TimeoutError(f"only {log.stat().st_size // WIDTH} of {number} calls were made")
            if code is not None:
                if code != -signal.SIGKILL:
                    said = (log.parent / "client.log").read_text()[-2000:]
                    raise RuntimeError(f"the client ended with {code}: {said}")
                play.client.communicate(timeout=10.0)
                play.client = _client(play.site, log, number, play.nodes)
            if moments and log.stat().st_size // WIDTH >= moments[0]:
                time.sleep(play.dice.uniform(0.0, 0.05))
                pid = strike(play)
                with contextlib.suppress(ProcessLookupError):
                    if pid > 0:
                        os.kill(pid, signal.SIGKILL)
                        hits += 1
                if hits or len(moments) > 1:  # the last one comes again until something was hit
                    del moments[0]
            if not moments:
                Path(f"{log}.gate").touch()
            time.sleep(0.01)
        words, _ = play.client.communicate(timeout=10.0)
        return hits, int(words)
    finally:
        play.client.kill()
        play.client.communicate(timeout=10.0)


def _count(site: Site, copy: Path, log: Path, number: int, found: Count) -> None:
    """Count what is in the store, and compare it with what the calls say of themselves."""
    site.client.call(SnapshotStore(str(copy)))
    found.inconsistent += len(site.client.call(CheckStore()).problems)
    with contextlib.closing(sqlite3.connect(copy)) as db:
        tasks = db.execute("SELECT id, params, state FROM tasks").fetchall()
        returned = db.execute("SELECT task_id, value FROM attempts WHERE exit_code = 0").fetchall()
    numbers = {id_: int(re.findall(r"\d+", params)[0]) for id_, params, _ in tasks}
    done = {numbers[id_] for id_, _, state in tasks if state == "DONE"} & {numbers[id_] for id_, _ in returned}
    times = Counter(numbers.values())
    made = Counter(map(int, log.read_text().split()))
    found.lost += sum(x not in done or x not in made for x in range(number))
    found.wrong += sum(value != str(numbers[id_] ** 2) for id_, value in returned)
    found.twice += len(tasks) - len(times) + len(returned) - len({id_ for id_, _ in returned})
    found.inconsistent += len(times.keys() - set(range(number)))
    found.again += sum(made.values()) - len(made)
