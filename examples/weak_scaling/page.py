"""The numbers as a page of Markdown, made from what ``run`` has written and from nothing else."""

import math
from collections.abc import Callable
from typing import Any

from .engines import ENGINES
from .measure import Summary, medians, summarise
from .workload import LEAST_S, MOST_S

_OURS = ("pilotmtc", "pilotmtc-commands")
_PAGE = """\
# Performance

Made by `python -m weak_scaling page` from one run of [the study](../examples/README.md#weak-scaling); nothing is edited by hand.

| | |
|---|---|
| tasks | {per_core} for each worker; each sleeps uniform({least}, {most}) s, {time_scale:g} of the study's {full_least} to {full_most} s; seed {seed} |
| machine | one, with {machine_cores} cores; {system}, Python {python}. More workers than cores share them, which sleeping tasks do not mind, but starting does |
| load | {load_before:g} before and {load_after:g} after, at niceness {niceness}: what other programs did at that time is in these numbers |
| runs | {runs}; {began_at} |

## Initialisation

Seconds from the start of the engine's program until all workers had a task at the same time; in parentheses, until the first task
began. A dash: that never happened, as early workers had done much before late ones came.

{starting}

## Efficiency

Sleeping, as a share of the workers' time from the first task's start to the last one's end. Greedy: the same tasks in their order,
each on the worker that is free first, at no cost. Static engines deal the tasks out beforehand.

{efficiency}

## Efficiency with start and end

The same from the start of the engine's program to its end. Tasks as short as these make much of what is done once.

{overall}

## Where others are better

{losses}

## Engines

| engine | version |
|---|---|
{engines}
{more}
"""  # noqa: E501


def by_engine(study: dict[str, Any]) -> dict[str, dict[int, Summary]]:
    """Return the medians by engine and number of workers."""
    found: dict[str, dict[int, list[Summary]]] = {}
    for run in study["runs"]:
        found.setdefault(run["engine"], {}).setdefault(run["cores"], []).append(summarise(run))
    return {
        name: {cores: medians(each) for cores, each in sorted(found[name].items())} for name in ENGINES if name in found
    }


def text(study: dict[str, Any]) -> str:
    """Return the page."""
    numbers, given = by_engine(study), study["conditions"]
    cores = sorted({run["cores"] for run in study["runs"]})
    scale = given["time_scale"]
    more = [""]
    for name, reason in study["unavailable"].items():
        more.append(f"- {ENGINES[name].title} was left out: {reason}.")
    more += [
        f"- {ENGINES[each['engine']].title} failed on {each['cores']} workers: `{each['reason']}`"
        for each in study["failed"]
    ]
    return (
        _PAGE.format(
            **given,
            least=f"{LEAST_S * scale:.3g}",
            most=f"{MOST_S * scale:.3g}",
            full_least=f"{LEAST_S:g}",
            full_most=f"{MOST_S:g}",
            runs="one run each" if given["rounds"] == 1 else f"medians of {given['rounds']} runs each, engines in turn",
            starting=_table(study, numbers, lambda each: f"{_seconds(each.filled_s)} ({_seconds(each.first_s)})"),
            efficiency=_table(study, numbers, lambda each: f"{each.efficiency:.3f}", greedy=True),
            overall=_table(study, numbers, lambda each: f"{each.overall:.3f}"),
            losses=_losses(numbers, cores),
            engines="\n".join(f"| {ENGINES[name].title} | {study['versions'][name]} |" for name in numbers),
            more="\n".join(more) if len(more) > 1 else "",
        ).rstrip("\n")
        + "\n"
    )


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


def _losses(numbers: dict[str, dict[int, Summary]], cores: list[int]) -> str:
    """Return which engines were before each of ours with the most workers."""
    rows = []
    there = {name: found[cores[-1]] for name, found in numbers.items() if cores[-1] in found}
    others = [name for name in there if name not in _OURS]
    for ours in (name for name in _OURS if name in there):
        for what, value in _HIGHER.items():
            ahead = [ENGINES[name].title for name in others if value(there[name]) > value(there[ours])]
            head = f"- On {cores[-1]} workers, {len(ahead)} of {len(others)} {what} than {ENGINES[ours].title}"
            rows.append(f"{head}: {'; '.join(ahead)}." if ahead else f"{head}.")
    return "\n".join(rows) or "pilotmtc was not among them."


_HIGHER: dict[str, Callable[[Summary], float]] = {
    "had a first task earlier": lambda each: -each.first_s,
    "had all workers filled earlier": lambda each: -math.inf if each.filled_s is None else -each.filled_s,
    "were more efficient": lambda each: each.efficiency,
    "were more efficient with start and end": lambda each: each.overall,
}


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
