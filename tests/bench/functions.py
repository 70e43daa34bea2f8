"""Python functions: calls through `PilotExecutor` beside other pools, and what start, waiting and large values cost."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from random import Random

from tests.bench import rivals
from tests.bench.measure import Measured, Series, in_turn, say
from tests.bench.nodes import greedy
from tests.bench.place import memory_mb, place
from tests.bench.pools.tasks import hold, same, wait
from tests.support import processes_with, wait_until

_SLOTS = 2
_IDLE_CALLS = 200
_WIDE_SLOTS = 256
_PER_SLOT = 10
_PILOTMTC = str(Path(sys.executable).parent / "pilotmtc")
_TIMEOUT_S = 900.0
_WORKER = "functions/worker.py"


def pools(rounds: int, scale: float, slots: int) -> list[Measured]:
    """No-op calls through pools of two slots, ours with all results in a store; and one call at a time on idle ones."""
    numbers = {name: max(int(enough * scale), 200) for name, enough in rivals.available().items()}
    idle_calls = max(int(_IDLE_CALLS * scale), 20)
    costs: dict[str, list[float]] = {}  # microseconds of CPU a call
    shares: dict[str, list[float]] = {}  # the same of each kind of our processes
    waits: dict[str, list[float]] = {}  # milliseconds

    def contender(name: str) -> float:
        rate, cost, idle = rivals.measure(name, _SLOTS, numbers[name], idle_calls)
        costs.setdefault(name, []).append(sum(cost.values()))
        waits.setdefault(name, []).extend(1e3 * each for each in idle)
        if name == rivals.OURS:
            for kind, each in cost.items():
                shares.setdefault(kind, []).append(each)
        return rate

    for name in list(numbers):  # one that does not work here is not to end the others
        try:
            rivals.measure(name, _SLOTS, 200, 1)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            if name == rivals.OURS:
                raise
            say(f"{rivals.NAMES[name]} is left out, since it does not work here: {error}")
            del numbers[name]
    rates = in_turn({name: partial(contender, name) for name in numbers}, rounds)
    speed = {
        name: Series(rivals.NAMES[name], "calls/s", tuple(found), best=max, note=f"{numbers[name]:,} calls")
        for name, found in rates.items()
    }
    cost = {name: Series(rivals.NAMES[name], "us/call", tuple(found), best=min) for name, found in costs.items()}
    # Of the least disturbed round's parts, so that they add up.
    best = min(range(rounds), key=lambda number: costs[rivals.OURS][number])
    parts = ", ".join(f"{kind} {found[best]:.0f}" for kind, found in shares.items())
    others = [name for name in speed if name not in (rivals.OURS, "multiprocessing_pool")]
    first = max(others, key=lambda name: speed[name].value)
    cheapest = min(others, key=lambda name: cost[name].value)
    medians = tuple(
        Series(rivals.NAMES[name], "ms", tuple(found), note=f"p90 {_p90(found):.3g} ms, least {min(found):.3g} ms")
        for name, found in waits.items()
    )
    ours = waits[rivals.OURS]
    return [
        Measured(
            f"functions: no-op calls recorded, {_SLOTS} slots", speed[rivals.OURS].value, "calls/s", 20_000,
            at_least=True, series=tuple(speed.values()),
            note="best of the rounds; new pools each round, whose workers have begun",
        ),
        Measured(
            f"functions: speed against the next, {rivals.NAMES[first]}", speed[rivals.OURS].value / speed[first].value,
            "times", 1.0, at_least=True, note="without multiprocessing.Pool, which sends chunks and records nothing",
        ),
        Measured(
            f"functions: CPU of a no-op call, against {rivals.NAMES[cheapest]}",
            cost[rivals.OURS].value / cost[cheapest].value, "times", series=tuple(cost.values()),
            note=f"least of the rounds, all processes; microseconds of ours: {parts}",
        ),
        Measured(
            "functions: one call on an idle pool, median", statistics.median(ours), "ms", 5.0, series=medians,
            note=f"of {len(ours)}, 20 ms apart",
        ),
        Measured("functions: one call on an idle pool, 90th percentile", _p90(ours), "ms"),
    ]  # fmt: skip


def _p90(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def sleeps(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Calls of about a second on 256 slots: what it costs to keep them filled."""
    slots = max(int(_WIDE_SLOTS * min(1.0, 4 * scale)), 16)
    number = slots * (_PER_SLOT if scale >= 0.2 else 4)
    chance = Random(1)
    ratios: list[float] = []
    took: list[float] = []
    ideal: list[float] = []
    with place() as here, _pool(here.path, slots) as pool:
        began = time.perf_counter()
        gate = here.directory / "gate"
        held = [pool.submit(hold, str(gate)) for _ in range(slots)]
        wait_until(lambda: all(future.running() for future in held), 120.0)
        filled = time.perf_counter() - began
        gate.touch()
        for future in held:
            future.result(60.0)
        for number_ in range(max(rounds - 1, 1)):
            durations = [chance.uniform(0.9, 1.1) for _ in range(number)]
            began = time.perf_counter()
            measured = list(pool.map(wait, durations))
            took.append(time.perf_counter() - began)
            ideal.append(greedy(measured, slots))
            ratios.append(took[-1] / ideal[-1])
            say(f"round {number_ + 1}: {took[-1]:.2f} s, {ratios[-1]:.4f} of greedy")
        agent = memory_mb(here.processes("pilotmtc.agent --store")[0])[1]
    return [
        Measured(
            f"functions: {number} calls of uniform(0.9, 1.1) s on {slots} slots, against greedy", min(ratios),
            "of greedy", 1.01,
            series=(Series("pilotmtc", "s", tuple(took)), Series("greedy list scheduling", "s", tuple(ideal))),
            note="least of the rounds; greedy with the durations that workers measured; workers that are there already",
        ),
        Measured(f"functions: until {slots} workers had begun", filled, "s"),
        Measured(f"memory: agent with {slots} function workers, peak", agent, "MB", 150.0),
    ]  # fmt: skip


@contextlib.contextmanager
def _pool(store: str, slots: int) -> Iterator[Executor]:
    from pilotmtc import PilotExecutor

    with PilotExecutor(slots, store=store, progress=False, pin=False) as pool:
        yield pool


_FIRST = """
from pilotmtc import PilotExecutor
def f():
    return 1
with PilotExecutor() as p:
    print(p.submit(f).result(), flush=True)
"""


def first_call(rounds: int, scale: float, slots: int) -> list[Measured]:
    """A program that makes one call and ends, in a place without a store; beside Python alone and one command."""
    results: list[float] = []
    values = in_turn(
        {
            "the program with one call, to its end": partial(_program, [sys.executable, "-c", _FIRST], results),
            "python -c pass": partial(_program, [sys.executable, "-c", "pass"]),
            "pilotmtc run true": partial(_program, [_PILOTMTC, "run", "true"]),
        },
        3 * rounds,
    )
    series = tuple(Series(name, "s", tuple(found), best=min) for name, found in values.items())
    return [
        Measured(
            "functions: a program with one call, from its start to its end", series[0].value, "s", 0.7, series=series,
            note=f"least of the rounds; a new store; the result was there after {min(results):.2f} s",
        )
    ]  # fmt: skip


def _program(argv: list[str], results: list[float] | None = None) -> float:
    with place() as here:
        here.client.close()
        wait_until(lambda: not here.processes("pilotmtc.store.server"), 20.0)
        began = time.perf_counter()
        with subprocess.Popen(
            argv, cwd=here.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            line = process.stdout.readline()
            if results is not None:
                results.append(time.perf_counter() - began)
            _, words = process.communicate(timeout=_TIMEOUT_S)
            took = time.perf_counter() - began
        if process.returncode != 0 or (results is not None and line != "1\n"):
            raise RuntimeError(f"{argv[0]} printed {line!r} and ended with {process.returncode}: {words!r}")
        return took


def large(rounds: int, scale: float, slots: int) -> list[Measured]:
    """An array of 1 GiB that two workers read: memory of the node beside the client's, and bandwidth beside memcpy."""
    size = 1 << 30 if scale >= 1.0 else 256 << 20
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with place() as here:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
            argv = [sys.executable, "-m", "tests.bench.pools.large", here.path, str(size), here.mark]
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
                check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"the client has ended with {done.returncode}: {done.stderr[-2000:]}")
            for line in done.stdout.splitlines():
                name, value = line.rsplit(" ", 1)
                found.setdefault(name, []).append(float(value))
        say(", ".join(f"{name} {values[-1]:.3g}" for name, values in found.items()))
    gib = size / (1 << 30)
    node = min(found["node"])
    rates = {name: Series(name, "GiB/s", tuple(found[name]), best=max) for name in found if name not in _MEMORY}
    return [
        Measured(
            f"functions: memory of the node for an array of {gib:g} GiB, 2 workers", node, "GiB",
            1.2 if size == 1 << 30 else None,
            note=f"Pss of server, agent and workers, at its peak; {min(found['before']):.2f} GiB before the array "
            f"came; the client itself needed {min(found['client']):.2f} GiB at its peak",
        ),
        Measured(
            "functions: reading the array in a worker, against memcpy",
            rates["first read"].value / rates["memcpy"].value, "of memcpy", series=tuple(rates.values()),
            note="a read is a copy, part by part, into a buffer in the cache",
        ),
    ]  # fmt: skip


_MEMORY = ("node", "before", "client")


def worker_memory(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Memory of a function worker that has made a call and waits, and of none but itself."""
    with place() as here, _pool(here.path, _SLOTS) as pool:
        list(pool.map(same, range(100)))
        list(pool.map(wait, [0.3] * 4))
        time.sleep(0.5)
        workers = [pid for pid, command in processes_with(here.mark).items() if _WORKER in command]
        if not workers:
            raise RuntimeError("there is no function worker")
        unique = [unique_mb(pid) for pid in workers]
        resident = [memory_mb(pid)[0] for pid in workers]
    return [
        Measured(
            "memory: function worker, idle, unique", max(unique), "MB", 12.0,
            note=f"the largest of {len(workers)}; resident {max(resident):.1f} MB",
        )
    ]  # fmt: skip


def unique_mb(pid: int) -> float:
    """Return the memory that a process shares with no other, in MB (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_")) / 1e6
