"""Speed of running processes: pilotmtc beside what does the same job."""

import random
import resource
import time
from collections.abc import Callable
from functools import partial

from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.states import TaskState
from tests.bench.baselines import C_LOOP, PYTHON_LOOP, Runner, available, c_loop
from tests.bench.measure import Measured, Series, in_turn
from tests.bench.place import children_cpu_s, cpu_s, memory_mb, place, specs
from tests.support import wait_until

_TASKS = 12_000
_SLEEPS = 2560
_SLEEP_SLOTS = 256
_WIDE_SLOTS = 12_288
_ARGV = "pilotmtc"
_SHELL = "pilotmtc, as a shell line"


def no_ops(rounds: int, scale: float, slots: int) -> list[Measured]:
    """/bin/true many times over, on `slots` slots, as an argument vector and as a shell line."""
    enough = {_ARGV: _TASKS, _SHELL: _TASKS} | {name: count for name, (_, count) in available().items()}
    numbers = {name: max(int(count * scale), 100) for name, count in enough.items()}
    spent: dict[str, list[float]] = {name: [] for name in enough}  # microseconds of CPU a task
    shares: dict[str, list[float]] = {}  # the same of each of our processes
    with place() as here:
        here.pilot(slots)
        agent, server = (here.processes(what)[0] for what in ("pilotmtc.agent --store", "pilotmtc.store.server"))

        def times_s() -> dict[str, float]:
            return {
                "agent": cpu_s(agent), "tasks": children_cpu_s(agent), "server": cpu_s(server),
                "client": time.process_time(),
            }  # fmt: skip

        def ours(name: str) -> float:
            number = numbers[name]
            before = times_s()
            started = time.perf_counter()
            campaign = here.submit(specs("/bin/true" if name == _SHELL else ["/bin/true"], number))
            done = here.wait(campaign, 600.0)
            elapsed = time.perf_counter() - started
            costs = {each: 1e6 * (after - before[each]) / number for each, after in times_s().items()}
            spent[name].append(sum(costs.values()))
            if name == _ARGV:
                for each, cost in costs.items():
                    shares.setdefault(each, []).append(cost)
            if done != number:
                raise RuntimeError(f"only {done} of {number} tasks were DONE")
            return number / elapsed

        def other(name: str, runner: Runner) -> float:
            before = _children_s()
            elapsed = runner(["/bin/true"] * numbers[name], slots)
            spent[name].append(1e6 * (_children_s() - before) / numbers[name])
            return numbers[name] / elapsed

        here.wait(here.submit(specs(["/bin/true"], min(numbers[_ARGV], 500))), 600.0)  # caches are warm for everybody
        contenders: dict[str, Callable[[], float]] = {name: partial(ours, name) for name in (_ARGV, _SHELL)}
        contenders |= {name: partial(other, name, runner) for name, (runner, _) in available().items()}
        speeds = in_turn(contenders, rounds)
    cost = {name: Series(name, "us/task", tuple(found), best=min) for name, found in spent.items()}
    speed = {name: Series(name, "tasks/s", tuple(found), best=max) for name, found in speeds.items()}
    parts = ", ".join(f"{name} {min(found):.0f}" for name, found in shares.items())
    return [
        Measured(
            f"process tasks: CPU of /bin/true, {slots} slots, against Python's loop",
            cost[_ARGV].value / cost[PYTHON_LOOP].value, "of Python", 1.15, series=tuple(cost.values()),
            note="children included, least of the rounds; pilotmtc: from submit to the last result on disk, output "
            f"captured; a pilot that is there already; microseconds of CPU a task: {parts}",
        ),
        Measured(
            "process tasks: the same as a shell line, against the argument vector",
            cost[_SHELL].value / cost[_ARGV].value, "of argv", 1.05,
        ),
        Measured(
            f"process tasks: speed of /bin/true, {slots} slots, against the C loop",
            speed[_ARGV].value / speed[C_LOOP].value, "of C", 0.6, at_least=True, series=tuple(speed.values()),
            note=f"best of the rounds; the loop in Python has {speed[PYTHON_LOOP].value / speed[C_LOOP].value:.2f}",
        ),
    ]  # fmt: skip


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sleeps(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Sleeps of about a second on 256 slots: what it costs to keep them filled."""
    number = max(int(_SLEEPS * scale), _SLEEP_SLOTS)
    chance = random.Random(1)
    durations = [f"{chance.uniform(0.9, 1.1):.4f}" for _ in range(number)]
    lines = [f"/bin/sleep {duration}" for duration in durations]
    loop = c_loop()
    memory: list[float] = []
    with place() as here:
        here.pilot(_SLEEP_SLOTS)

        def ours() -> float:
            started = time.perf_counter()
            campaign = here.submit(specs(["/bin/sleep"], durations))
            here.wait(campaign, 600.0)
            elapsed = time.perf_counter() - started
            memory.append(memory_mb(here.processes("pilotmtc.agent --store")[0])[1])
            return elapsed

        values = in_turn({"pilotmtc": ours, C_LOOP: lambda: loop(lines, _SLEEP_SLOTS)}, max(rounds - 1, 1))
    series = tuple(Series(name, "s", tuple(found)) for name, found in values.items())
    ideal = sum(map(float, durations)) / _SLEEP_SLOTS
    return [
        Measured(
            f"{number} sleeps of uniform(0.9, 1.1) s on {_SLEEP_SLOTS} slots, against the C loop",
            series[0].median / series[1].median, "of C", 1.05, series=series,
            note=f"no schedule could take less than {ideal:.2f} s",
        ),
        Measured(f"memory: agent with {_SLEEP_SLOTS} slots, peak", max(memory), "MB", 150.0),
    ]  # fmt: skip


def wide(rounds: int, scale: float, slots: int) -> list[Measured]:
    """An agent with 12,288 slots, all of them busy: its memory, and that of the store's server."""
    # A running task takes three of the agent's descriptors: on one node that is what limits it.
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    number = min(max(int(_WIDE_SLOTS * scale), _SLEEP_SLOTS), (descriptors - 1000) // 3)
    with place() as here:
        here.pilot(number)
        started = time.perf_counter()
        campaign = here.submit(specs(["/bin/sleep"], ["60"] * number))

        def all_run() -> bool:
            counts = here.client.call(GetCampaigns(id=campaign)).campaigns[0].counts
            return counts.get(TaskState.RUNNING, 0) >= number

        wait_until(all_run, 55.0)
        filled = time.perf_counter() - started
        agent = memory_mb(here.processes("pilotmtc.agent --store")[0])[1]
        server = memory_mb(here.processes("pilotmtc.store.server")[0])[1]
    return [
        Measured(f"memory: agent with {number:,} busy slots, peak", agent, "MB", 150.0),
        Measured("memory: store server meanwhile, peak", server, "MB", 80.0),
        Measured(f"until all {number:,} ran", filled, "s"),
    ]
