"""The numbers as a page of Markdown, made from what ``run`` has written and from nothing else."""

import math
from collections.abc import Callable
from typing import Any

from . import faults, tables
from .engines import ENGINES
from .measure import Summary, medians, summarise
from .workload import LEAST_S, MOST_S

_OURS = ("pilotmtc", "pilotmtc-commands")
_IDLE_LOAD = 0.3  # more before the study began is somebody else's
_PAGE = """\
# Performance

Made by `python -m weak_scaling page` from [the numbers](performance.json) of [the study](../examples/README.md#weak-scaling), which
`make study` measures anew; nothing is edited by hand.

| | |
|---|---|
| machine | one, with {machine_cores} cores; {system}, Python {python}. More workers than cores share them, which sleeping tasks do not mind, but starting does |
| load | {load_before:g} before and {load_after:g} after, at niceness {niceness}{busy} |
| runs | {runs}; {began_at} |
"""  # noqa: E501
_BUSY = ": the machine was in use by other programs, and what they did is in these numbers"
_SCALING = """
## Weak scaling

{per_core} tasks for each worker; each sleeps uniform({least}, {most}) s, {time_scale:g} of the study's {full_least} to {full_most} s; seed {seed}.
{pictures}
### Initialisation

Seconds from the start of the engine's program until all workers had a task at the same time; in parentheses, until the first task
began. A dash: that never happened, as early workers had done much before late ones came.

{starting}

### Efficiency

Sleeping, as a share of the workers' time from the first task's start to the last one's end. Greedy: the same tasks in their order,
each on the worker that is free first, at no cost. Static engines deal the tasks out beforehand.

{efficiency}

### Efficiency with start and end

The same from the start of the engine's program to its end. Tasks as short as these make much of what is done once.

{overall}
"""  # noqa: E501
_PICTURES = """
![Initialisation against the number of workers](pictures/study/initialisation.svg)
![Efficiency against the number of workers](pictures/study/efficiency.svg)
![What each worker ran, of a static and a dynamic engine](pictures/study/gantt.svg)
"""
_KILLS = """
## When something is killed

{tasks} tasks of {seconds:g} s on {cores} workers; when a third have ended, one process is killed with SIGKILL: the *worker* that runs a task
(the task itself, where tasks are commands), the *program* that the user started, or what else all depends on. Failed tasks may be tried
again twice, where an engine has retries. What did not go on by itself (but for the worker) is killed altogether and started again, in the
same directory, with what the engine has for going on. *Lost* tasks have never ended; those *done twice* have ended more than once.
That a task has ended says nothing of its result: where the program was to collect them, they are gone with it.{hung}

{table}
"""  # noqa: E501
_HUNG = """ *It hung*:
nothing happened for 15 s, which is too short for some. Parsl and Dask were measured anew for that, with 60 s."""
_LATE = """
## Late workers

{tasks} tasks of {seconds:g} s on {cores} workers; as many again are asked for when a third of the tasks have ended. How long it took until
more tasks than before ran at the same time, and how many there were at most. *Not in time*: the tasks were done before. On a machine
that is busy this is foremost the time that a worker takes to start.

{table}
"""  # noqa: E501
_MEMORY = """
## Memory

Of all processes of an engine while tasks sleep, a page that several share counted once: the peak among looks in the largest and the
smallest run. Their difference is what a worker adds (with its task, where that is a command); the rest is beside the workers. And whether
what a task has left in its process is there for the next one.

{table}
"""  # noqa: E501
_REALISTIC = """
## Realistic tasks

Efficiency: the useful core-seconds, as a share of all those from the first task's start to the last one's end. Durations are lognormal on 4
workers; computing tasks take 0.2 s of processor time and write 1 MB, on 2; tasks of 1, 4 and 8 cores sleep 0.2 to 0.3 s and have 8; of 400
tasks of 20 ms on 4 workers, 1 % fail the first time; 64 tasks on 8 workers wait in groups of 8 for one each, and these for a last one (which
leaves workers idle at the end). A dash: it cannot, or did not.

{table}
"""  # noqa: E501
_END = """
## Where others are better

{losses}

## Engines

| engine | version |
|---|---|
{engines}
{more}
"""


def by_engine(study: dict[str, Any]) -> dict[str, dict[int, Summary]]:
    """Return the medians by engine and number of workers."""
    found: dict[str, dict[int, list[Summary]]] = {}
    for run in study["runs"]:
        found.setdefault(run["engine"], {}).setdefault(run["cores"], []).append(summarise(run))
    return {
        name: {cores: medians(each) for cores, each in sorted(found[name].items())} for name in ENGINES if name in found
    }


def text(study: dict[str, Any], *, pictures: bool = False) -> str:
    """Return the page; with links to pictures in the directory that `make study` draws them in."""
    given = study["conditions"]
    one = given["rounds"] == 1
    runs = "one each" if one else f"medians of {given['rounds']} of each in weak scaling, engines in turn; else one"
    busy = max(given["load_before"], given["load_after"] - given["machine_cores"]) > _IDLE_LOAD
    if joined := given.get("joined"):
        runs += f"; of {len(joined)} files that were joined, whose runs may have been side by side"
    parts = [_PAGE.format(**given, runs=runs, busy=_BUSY if busy else "")]
    if study["runs"]:
        parts.append(_scaling(study, pictures=pictures))
    if study["kills"]:
        parts.append(_KILLS.format(
            tasks=faults.TASKS, seconds=faults.SECONDS, cores=faults.CORES, table=tables.kills(study),
            hung=_HUNG if any(each.get("reason") == "it hung" for each in study["kills"]) else "",
        ))  # fmt: skip
    if study["late"]:
        parts.append(_LATE.format(
            tasks=faults.LATE_TASKS, seconds=faults.LATE_SECONDS, cores=faults.LATE_CORES, table=tables.late(study)
        ))  # fmt: skip
    if len(tables.memory(study).splitlines()) > 2:
        parts.append(_MEMORY.format(table=tables.memory(study)))
    if study["realistic"]:
        parts.append(_REALISTIC.format(table=tables.realistic(study)))
    cores = sorted({run["cores"] for run in study["runs"]})
    losses = [*_losses(by_engine(study), cores), *tables.losses(study, _OURS)]
    more = [f"- {ENGINES[name].title} was left out: {reason}." for name, reason in study["unavailable"].items()]
    more += [
        f"- {ENGINES[each['engine']].title} failed on {each['cores']} workers: `{each['reason']}`"
        for each in study["failed"]
    ]
    versions = [(name, study["versions"][name]) for name in ENGINES if name in study["versions"]]
    parts.append(_END.format(
        losses="\n".join(losses) or "There is nothing to compare.",
        engines="\n".join(f"| {ENGINES[name].title} | {version} |" for name, version in versions),
        more="\n".join(["", *more] if more else []),
    ))  # fmt: skip
    return "".join(parts).rstrip("\n") + "\n"


def _scaling(study: dict[str, Any], *, pictures: bool) -> str:
    numbers, given = by_engine(study), study["conditions"]
    scale = given["time_scale"]
    return _SCALING.format(
        **given,
        least=f"{LEAST_S * scale:.3g}", most=f"{MOST_S * scale:.3g}",
        full_least=f"{LEAST_S:g}", full_most=f"{MOST_S:g}",
        pictures=_PICTURES if pictures else "",
        starting=_table(study, numbers, lambda each: f"{_seconds(each.filled_s)} ({_seconds(each.first_s)})"),
        efficiency=_table(study, numbers, lambda each: f"{each.efficiency:.3f}", greedy=True),
        overall=_table(study, numbers, lambda each: f"{each.overall:.3f}"),
    )  # fmt: skip


def _table(
    study: dict[str, Any],
    numbers: dict[str, dict[int, Summary]],
    cell: Callable[[Summary], str],
    *,
    greedy: bool = False,
) -> str:
    """Return a line for each engine; a cell is empty if the study was ended before."""
    cores = sorted({run["cores"] for run in study["runs"]})
    failed = {(each["engine"], each["cores"]) for each in study["failed"]}
    rows = [f"| workers | {' | '.join(map(str, cores))} |", f"|---{'|---' * len(cores)}|"]
    for name, found in numbers.items():
        cells = (cell(found[each]) if each in found else "failed" if (name, each) in failed else "" for each in cores)
        rows.append(f"| {ENGINES[name].title} | {' | '.join(cells)} |")
    if greedy:
        bound = {at: each.greedy for found in numbers.values() for at, each in found.items()}
        rows.append(f"| greedy | {' | '.join(f'{bound[each]:.3f}' for each in cores)} |")
    return "\n".join(rows)


def _losses(numbers: dict[str, dict[int, Summary]], cores: list[int]) -> list[str]:
    """Return which engines were before each of ours with the most workers."""
    rows: list[str] = []
    if not cores:
        return rows
    there = {name: found[cores[-1]] for name, found in numbers.items() if cores[-1] in found}
    others = [name for name in there if name not in _OURS]
    for ours in (name for name in _OURS if name in there):
        for what, value in _HIGHER.items():
            ahead = [ENGINES[name].title for name in others if value(there[name]) > value(there[ours])]
            head = f"- On {cores[-1]} workers, {len(ahead)} of {len(others)} {what} than {ENGINES[ours].title}"
            rows.append(f"{head}: {'; '.join(ahead)}." if ahead else f"{head}.")
    return rows


_HIGHER: dict[str, Callable[[Summary], float]] = {
    "had a first task earlier": lambda each: -each.first_s,
    "had all workers filled earlier": lambda each: -math.inf if each.filled_s is None else -each.filled_s,
    "were more efficient": lambda each: each.efficiency,
    "were more efficient with start and end": lambda each: each.overall,
}


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
