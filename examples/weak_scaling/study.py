"""What is measured, part by part."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import faults, realistic
from .measure import Failed, measure, summarise
from .workload import MOST_S, PER_CORE, make_tasks

PARTS = ("scaling", "faults", "late", *realistic.KINDS)
LISTS = ("kills", "late", "realistic")  # of records in the file, beside those of runs

_START_S = 300.0  # the slowest to start, on a machine that is busy


class Made(NamedTuple):
    """A record, the list of the file that it belongs to, and what it says."""

    part: str
    record: dict[str, Any]
    words: str

    def into(self, study: dict[str, Any]) -> None:
        """Add it."""
        study[self.part].append(self.record)


def measure_all(asked: argparse.Namespace, pythons: dict[str, Path]) -> Iterator[Made]:
    """Measure the parts that are asked for, and yield a record after the other.

    What could not even run the sleeping tasks is not tried with others.
    """
    broken: set[str] = set()
    works: set[str] = set()
    if "scaling" in asked.parts:
        for made in _scaling(asked, pythons):
            yield made
            (works if made.part == "runs" else broken).add(made.record["engine"])
    tried = {name: python for name, python in pythons.items() if name in works or name not in broken}
    # Engines in turn: what else the machine does changes with time.
    if "faults" in asked.parts:
        most = max(len(faults.victims(name)) for name in tried) if tried else 0
        for number in range(most):
            for name, python in tried.items():
                if number < len(faults.victims(name)):
                    victim = faults.victims(name)[number]
                    what = {"engine": name, "victim": victim}
                    yield _one("kills", what, partial(faults.kill, name, victim, python))
    if "late" in asked.parts:
        for name, python in tried.items():
            yield _one("late", {"engine": name}, partial(faults.late, name, python))
    for kind in (kind for kind in realistic.KINDS if kind in asked.parts):
        for name, python in tried.items():
            what = {"engine": name, "kind": kind}
            yield _one("realistic", what, partial(realistic.run, name, kind, python, asked.seed))


def _one(part: str, what: dict[str, Any], measured: Callable[[], dict[str, Any]]) -> Made:
    """Return the record of one measurement, at once."""
    try:
        record = measured()
    except Failed as error:
        record = what | {"failed": str(error)}
    told = {key: value for key, value in record.items() if key not in what and value not in ("", None)}
    return Made(part, record, f"{' '.join(what.values())}: {', '.join(f'{key} {told[key]}' for key in told)}")


def _scaling(asked: argparse.Namespace, pythons: dict[str, Path]) -> Iterator[Made]:
    broken = set()  # with few workers: more of them are not tried
    for cores in sorted(set(asked.cores)):
        tasks = make_tasks(cores, scale=asked.time_scale, seed=asked.seed)
        # A static share is about this long; starting may take its time, and more of it on a machine that is busy.
        timeout_s = _START_S + 2.0 * cores + 3.0 * PER_CORE * MOST_S * asked.time_scale
        for _ in range(asked.rounds):
            for name, python in pythons.items():
                if name in broken:
                    continue
                try:
                    record = measure(name, cores, tasks, python, timeout_s)
                except Failed as error:
                    broken.add(name)
                    record = {"engine": name, "cores": cores, "reason": str(error)}
                    yield Made("failed", record, f"{name} on {cores}: {error}")
                    continue
                found = summarise(record)
                yield Made(
                    "runs", record,
                    f"{name} on {cores}: first task after {found.first_s:.2f} s, "
                    f"efficiency {found.efficiency:.3f} (greedy {found.greedy:.3f})",
                )  # fmt: skip
