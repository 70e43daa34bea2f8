"""Tasks that are more like those of users than sleeping ones of the same length."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .engines import ENGINES
from .faults import busy_from
from .measure import Failed, measure_journal, place
from .workload import FILE_BYTES, Job, Note, Task

_MEDIAN_S, _SIGMA = 0.010, 1.0
_TIMEOUT_S = 300.0


class Kind(NamedTuple):
    """A kind of workload: `make` is given the number of workers, a source of chance and the directory."""

    title: str
    cores: int
    make: Callable[[int, random.Random, str], list[Task]]


def _lognormal(cores: int, chance: random.Random, at: str) -> list[Task]:
    return [Task(number, _MEDIAN_S * chance.lognormvariate(0.0, _SIGMA), place=at) for number in range(100 * cores)]


def _computing(cores: int, chance: random.Random, at: str) -> list[Task]:
    return [Task(number, 0.2, "compute", at) for number in range(10 * cores)]


def _mixed(cores: int, chance: random.Random, at: str) -> list[Task]:
    """As many core-seconds of each width, in a random order."""
    widths = [1] * 32 + [4] * 8 + [8] * 4
    chance.shuffle(widths)
    return [Task(number, chance.uniform(0.2, 0.3), place=at, cores=width) for number, width in enumerate(widths)]


def _failing(cores: int, chance: random.Random, at: str) -> list[Task]:
    wrong = set(chance.sample(range(100 * cores), cores))
    return [Task(number, 0.02, "fail" if number in wrong else "sleep", at) for number in range(100 * cores)]


def _map_reduce(cores: int, chance: random.Random, at: str) -> list[Task]:
    """Eight groups of eight tasks, one after each group, and one after those."""
    groups = [range(8 * group, 8 * group + 8) for group in range(8)]
    maps = [Task(number, chance.uniform(0.05, 0.15), place=at) for number in range(64)]
    reduces = [Task(64 + number, 0.1, place=at, after=tuple(group)) for number, group in enumerate(groups)]
    return [*maps, *reduces, Task(72, 0.1, place=at, after=tuple(range(64, 72)))]


KINDS = {
    "lognormal": Kind("lognormal durations, median 10 ms, sigma 1", 4, _lognormal),
    "computing": Kind("0.2 s of numpy, and a file of 1 MB", 2, _computing),
    "mixed": Kind("1, 4 and 8 cores", 8, _mixed),
    "failing": Kind("1 % fail the first time", 4, _failing),
    "graph": Kind("map-reduce in two levels", 8, _map_reduce),
}


def run(name: str, kind: str, python: Path, seed: int) -> dict[str, Any]:
    """Run a workload on an engine, and return what it came to, or why the engine cannot do it."""
    made = KINDS[kind]
    found: dict[str, Any] = {"engine": name, "kind": kind, "cores": made.cores}
    if reason := ENGINES[name].cannot.get(kind):
        return found | {"cannot": reason}
    with place() as directory:
        tasks = made.make(made.cores, random.Random(seed), str(directory))
        job = Job(made.cores, directory, tasks, retries=2 if kind == "failing" else 0)
        notes, began, took = measure_journal(name, job, python, _TIMEOUT_S)
        if kind == "computing" and any(file.stat().st_size != FILE_BYTES for file in directory.glob("*.data")):
            raise Failed("a file has not the size that it should have")
    return found | summarise(tasks, notes, made.cores, began) | {"took_s": round(took, 3)}


def summarise(tasks: list[Task], notes: list[Note], cores: int, began: float) -> dict[str, Any]:
    """Return the numbers of a run; it is an error if tasks ran before those that they wait for, or too many at once."""
    first = min(note.at for note in notes)
    last = max(note.at for note in notes if note.event == "ended")
    ends = {note.number: note.at for note in notes if note.event == "ended"}
    starts = {note.number: note.at for note in notes if note.event == "began"}
    for task in tasks:
        if any(ends[number] > starts[task.number] for number in task.after):
            raise Failed(f"task {task.number} began before one that it waits for had ended")
    width = {task.number: task.cores for task in tasks}
    wide = [note for note in notes for _ in range(width[note.number])]
    if (most := max(busy_from(wide))) > cores:
        raise Failed(f"{most} cores were in use, of {cores}")
    useful = sum(task.seconds * task.cores for task in tasks)
    return {
        "tasks": len(tasks), "attempts": sum(note.event == "began" for note in notes),
        "first_s": round(first - began, 3), "span_s": round(last - first, 3),
        "efficiency": round(useful / (cores * (last - first)), 4), "state": max(note.calls for note in notes) > 1,
    }  # fmt: skip
