"""The tasks of the study, and what is known of each that ran. The standard library only: all engines import this."""

import itertools
import os
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PER_CORE = 10
LEAST_S, MOST_S = 27.0, 33.0
SCRIPT = Path(__file__).resolve().parent / "task.sh"  # the task as a command: NUMBER SECONDS [WORKER]


class Task(NamedTuple):
    """One task: it sleeps."""

    number: int
    seconds: float


class Ran(NamedTuple):
    """A task that ran, with the times of the node's clock; `worker` is "" if the engine does not say which it was."""

    number: int
    began: float
    ended: float
    worker: str = ""


class Job(NamedTuple):
    """What a driver is given: so many workers, a directory of its own, the tasks."""

    cores: int
    directory: Path
    tasks: list[Task]

    @property
    def blocks(self) -> list[list[Task]]:
        """The tasks as they are dealt out beforehand: one block of neighbours for each worker."""
        size, more = divmod(len(self.tasks), self.cores)
        ends = [number * size + min(number, more) for number in range(self.cores + 1)]
        return [self.tasks[start:end] for start, end in itertools.pairwise(ends)]


def make_tasks(cores: int, *, per_core: int = PER_CORE, scale: float = 1.0, seed: int = 1) -> list[Task]:
    """Return the tasks of a run: those of fewer cores are the first of those of more."""
    chance = random.Random(seed)
    return [Task(number, scale * chance.uniform(LEAST_S, MOST_S)) for number in range(per_core * cores)]


def work(task: Sequence[float]) -> Ran:
    """Run one task. It may come as a list, as JSON has it."""
    number, seconds = task
    began = time.time()
    time.sleep(seconds)
    return Ran(int(number), began, time.time(), f"{socket.gethostname()}:{os.getpid()}")


def work_all(tasks: Sequence[Sequence[float]]) -> list[Ran]:
    """Run the tasks of one block, one after the other."""
    return [work(task) for task in tasks]


def command(task: Task, worker: str = "") -> list[str]:
    """Return the program and the arguments that are one task."""
    return ["bash", str(SCRIPT), str(task.number), f"{task.seconds:.6f}", worker]


def read(lines: str) -> list[Ran]:
    """Return what commands have printed."""
    rows = (line.split(" ") for line in lines.splitlines())
    return [Ran(int(number), float(began), float(ended), worker) for number, began, ended, worker in rows]
