"""The tasks of the study, and what is known of each that ran. The standard library only: all engines import this.

Run as a program, it is the computing task of engines that run commands: ``python workload.py SECONDS FILE``.
"""

import itertools
import os
import random
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PER_CORE = 10
LEAST_S, MOST_S = 27.0, 33.0
FILE_BYTES = 1_000_000
SCRIPT = Path(__file__).resolve().parent / "task.sh"  # the task as a command: NUMBER SECONDS WORKER KIND PLACE
_JOURNAL = "journal"


class Task(NamedTuple):
    """One task.

    Attributes
    ----------
    kind
        ``sleep``; ``compute``: with numpy, and write a file; ``fail``: sleep, and fail the first time.
    place
        The directory of its journal and files; "" if it keeps none.
    after
        The numbers of tasks that must have ended before.
    """

    number: int
    seconds: float
    kind: str = "sleep"
    place: str = ""
    cores: int = 1
    after: tuple[int, ...] = ()


class Ran(NamedTuple):
    """A task that ran, with the times of the node's clock; `worker` is "" if the engine does not say which it was."""

    number: int
    began: float
    ended: float
    worker: str = ""


class Note(NamedTuple):
    """A line of the journal: a task has ``began``, ``ended`` or ``failed``; `calls` counts those of its process."""

    event: str
    number: int
    at: float
    pid: int
    calls: int


class Job(NamedTuple):
    """What a driver is given: so many workers, a directory of its own, the tasks.

    Attributes
    ----------
    retries
        How often a task that has failed is tried again.
    again
        The same job was begun in that directory before, and killed.
    grow
        So many workers are added when a third of the tasks have ended.
    """

    cores: int
    directory: Path
    tasks: list[Task]
    retries: int = 0
    again: bool = False
    grow: int = 0

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


def work(task: Sequence[Any]) -> Ran:
    """Run one task. It may come as a list, as JSON has it."""
    number, seconds, kind, place = task[:4]
    calls = sys.__dict__["weak_scaling_calls"] = sys.__dict__.get("weak_scaling_calls", 0) + 1  # is there next time?
    began = time.time()
    if place:
        _note(place, f"began {number} {began:.6f} {os.getpid()} {calls}")
    if kind == "compute":
        compute(seconds, Path(place, f"{number}.data"))
    else:
        time.sleep(seconds)
    ended, fails = time.time(), kind == "fail" and _is_first(Path(place, f"{number}.begun"))
    if place:
        _note(place, f"{'failed' if fails else 'ended'} {number} {ended:.6f} {os.getpid()} {calls}")
    if fails:
        raise RuntimeError("this task fails the first time")
    return Ran(int(number), began, ended, f"{socket.gethostname()}:{os.getpid()}")


def work_after(task: Sequence[Any], *earlier: object) -> Ran:
    """Run a task that is given what others have returned."""
    return work(task)


def work_all(tasks: Sequence[Sequence[Any]]) -> list[Ran]:
    """Run the tasks of one block, one after the other."""
    return [work(task) for task in tasks]


def compute(seconds: float, file: Path) -> None:
    """Multiply matrices for so many seconds of processor time, and write a file."""
    import numpy as np

    began = time.thread_time()
    matrix = np.random.default_rng(1).random((128, 128))
    product = matrix
    while time.thread_time() - began < seconds:
        product = matrix @ product
        product /= product.max()
    file.write_bytes(product.tobytes().ljust(FILE_BYTES, b"\0"))


def command(task: Task, worker: str = "") -> list[str]:
    """Return the program and the arguments that are one task."""
    return ["bash", str(SCRIPT), str(task.number), f"{task.seconds:.6f}", worker, task.kind, task.place]


def read(lines: str) -> list[Ran]:
    """Return what commands have printed."""
    rows = (line.split(" ") for line in lines.splitlines())
    return [Ran(int(number), float(began), float(ended), worker) for number, began, ended, worker in rows]


def read_journal(directory: Path) -> list[Note]:
    """Return what tasks have noted there so far; a line that is being written is left out."""
    try:
        text = (directory / _JOURNAL).read_text()
    except FileNotFoundError:
        return []
    rows = (line.split() for line in text[: text.rfind("\n") + 1].splitlines())
    return [Note(event, int(number), float(at), int(pid), int(calls)) for event, number, at, pid, calls in rows]


def _note(place: str, line: str) -> None:
    file = os.open(Path(place, _JOURNAL), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def _is_first(mark: Path) -> bool:
    try:
        mark.mkdir()
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    compute(float(sys.argv[1]), Path(sys.argv[2]))
