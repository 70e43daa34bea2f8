"""How cost grows: with the nodes of a pilot, and with the tasks in a store. Each step doubles."""

import time

from pilotmtc.protocol.client.maintenance import GetStore
from tests.bench.measure import Measured, Series, say
from tests.bench.nodes import CORES, LONG_S, emulated_pilot, fill, wait_done
from tests.bench.place import Place, cpu_s, memory_mb, place, specs
from tests.bench.storage import Agent

_FIRST_NODES, _LAST_NODES = 64, 8192
_FIRST_TASKS, _LAST_TASKS = 10_000, 10_240_000
_NO_OPS = 20_000
_CLAIMED = 7_680  # a step, thirty batches
_TIMES = 3  # that these are measured; the least counts


def nodes(rounds: int, scale: float, slots: int) -> list[Measured]:
    """A pilot of 64 emulated nodes of twelve slots, of 128, and so on up to 8,192."""
    rows: dict[str, list[Series]] = {
        "until all slots were busy": [], "agent, CPU until then": [], "agent, peak": [], "store server, peak": [],
        "tasks that are over at once": [],
    }  # fmt: skip
    units = ("s", "s", "MB", "MB", "tasks/s")
    number = _FIRST_NODES
    while number <= max(_LAST_NODES * scale, _FIRST_NODES):
        with place() as here:
            found = _of_nodes(here, number)
        told = [f"{what} {value:,.4g}" for what, value in zip(rows, found, strict=True)]
        say(f"{number:,} nodes: {', '.join(told)}")
        for (what, series), value, unit in zip(rows.items(), found, units, strict=True):
            series.append(Series(f"{number:,} nodes, {number * CORES:,} slots: {what}", unit, (value,)))
        number *= 2
    return [
        Measured(f"growth with nodes: {what}", series[-1].value, series[-1].unit, series=tuple(series))
        for what, series in rows.items()
    ]


def _of_nodes(here: Place, number: int) -> tuple[float, ...]:
    campaign = here.submit(specs(["/bin/sleep"], [LONG_S] * (number * CORES)))
    with emulated_pilot(here, here.client, here.path, number) as (pilot, began):
        agent, server = here.processes("pilotmtc.agent --store")[0], here.client.call(GetStore()).pid
        wait_done(here.client, campaign, 600.0)
        spent = cpu_s(agent)
        busy = fill(here.client, pilot, began, number * CORES)
        started = time.perf_counter()
        wait_done(here.client, here.submit(specs(["/bin/true"], _NO_OPS)), 300.0)
        rate = _NO_OPS / (time.perf_counter() - started)
        return busy.all_s, spent, memory_mb(agent)[1], memory_mb(server)[1], rate


def tasks(rounds: int, scale: float, slots: int) -> list[Measured]:
    """A store of 10,000 tasks, of 20,000, and so on up to 10,240,000."""
    rows: dict[str, list[Series]] = {
        "submit, CPU of the server": [], "claim + finish, CPU of the server": [], "claim + finish": [], "disk": [],
        "store server, peak": [],
    }  # fmt: skip
    units = ("us/task", "us/task", "tasks/s", "bytes/task", "MB")
    with place() as here:
        agent = Agent(here.client)
        server = here.client.call(GetStore()).pid
        number, there = _FIRST_TASKS, 0
        while number <= max(_LAST_TASKS * scale, _FIRST_TASKS):
            before = _precise_cpu_s(server)
            here.submit(specs(["/bin/true"], map(str, range(there, number))))
            submitted = 1e6 * (_precise_cpu_s(server) - before) / (number - there)
            there = number
            costs, rates = [], []
            for _ in range(_TIMES):
                before = _precise_cpu_s(server)
                rates.append(agent.work(min(_CLAIMED, number // (2 * _TIMES))))
                costs.append(1e6 * (_precise_cpu_s(server) - before) / min(_CLAIMED, number // (2 * _TIMES)))
            size = here.client.call(GetStore()).size_bytes / number
            found = (submitted, min(costs), max(rates), size, memory_mb(server)[1])
            told = [f"{what} {value:,.4g}" for what, value in zip(rows, found, strict=True)]
            say(f"{number:,} tasks: {', '.join(told)}")
            for (what, series), value, unit in zip(rows.items(), found, units, strict=True):
                series.append(Series(f"{number:,} tasks: {what}", unit, (value,)))
            number *= 2
    return [
        Measured(f"growth with tasks: {what}", series[-1].value, series[-1].unit, series=tuple(series))
        for what, series in rows.items()
    ]


def _precise_cpu_s(pid: int) -> float:
    """Return the CPU time of a process with one thread that works, in nanoseconds' steps rather than in ticks."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9
