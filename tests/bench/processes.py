"""Speed of running processes: pilotmtc beside what does the same job."""

import random
import resource
import time
from collections.abc import Callable

from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.states import TaskState
from tests.bench.baselines import Runner, available, c_loop
from tests.bench.measure import Measured, Series, in_turn
from tests.bench.place import cpu_s, memory_mb, place, specs
from tests.support import wait_until

_TASKS = 12_000
_SLEEPS = 2560
_SLEEP_SLOTS = 256
_WIDE_SLOTS = 12_288


def no_ops(rounds: int, scale: float, slots: int) -> list[Measured]:
    """/bin/true many times over, on `slots` slots: tasks a second."""
    with place() as here:
        here.pilot(slots)
        own = {
            name: here.processes(what)[0]
            for name, what in {"agent": "pilotmtc.agent --store", "server": "pilotmtc.store.server"}.items()
        }
        cost: dict[str, list[float]] = {name: [] for name in own}

        def ours(number: int) -> float:
            before = {name: cpu_s(pid) for name, pid in own.items()}
            started = time.perf_counter()
            campaign = here.submit(specs(["/bin/true"], number))
            done = here.wait(campaign, 600.0)
            elapsed = time.perf_counter() - started
            for name, pid in own.items():
                cost[name].append(1e6 * (cpu_s(pid) - before[name]) / number)
            if done != number:
                raise RuntimeError(f"only {done} of {number} tasks were DONE")
            return number / elapsed

        def other(runner: Runner, number: int) -> Callable[[], float]:
            return lambda: number / runner(["/bin/true"] * number, slots)

        number = max(int(_TASKS * scale), 100)
        ours(min(number, 500))  # the caches are warm for everybody
        contenders: dict[str, Callable[[], float]] = {"pilotmtc": lambda: ours(number)}
        for name, (runner, enough) in available().items():
            contenders[name] = other(runner, max(int(enough * scale), 100))
        values = in_turn(contenders, rounds)
    series = tuple(Series(name, "tasks/s", tuple(found)) for name, found in values.items())
    best = next(one for one in series if one.name.startswith("C "))
    # The ratio of each round, and of those the middle one: what slows a round slows both.
    ratios = sorted(mine / theirs for mine, theirs in zip(series[0].values, best.values, strict=True))
    spent = ", ".join(f"{name} {sorted(found)[len(found) // 2]:.0f}" for name, found in cost.items())
    return [
        Measured(
            f"process tasks: /bin/true, {slots} slots, against the C loop",
            ratios[len(ratios) // 2], "of C", 0.85, at_least=True, series=series,
            note="pilotmtc: from submit to the last result on disk, output captured; a pilot that is there already; "
            f"microseconds of CPU a task: {spent}",
        )
    ]  # fmt: skip


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

        values = in_turn(
            {"pilotmtc": ours, "C posix_spawn loop": lambda: loop(lines, _SLEEP_SLOTS)}, max(rounds - 1, 1)
        )
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
