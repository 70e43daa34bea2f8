"""One run of one engine, in processes of its own, and what is to be said of it."""

import contextlib
import heapq
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .engines import ENGINES, MPI_ENVIRONMENT
from .workload import Job, Note, Task, read_journal

_PACKAGE = __package__ or "weak_scaling"
_PARENT = Path(__file__).resolve().parents[len(_PACKAGE.split("."))]  # where the package can be imported from
_SAMPLE_S = 0.7  # between two looks at the memory of all processes
_LEAVE_S = 20.0  # for processes to end by themselves behind an engine that has


class Failed(Exception):
    """An engine did not do all tasks once; the text says what happened."""


class Summary(NamedTuple):
    """What one run, or the median of several, comes to. Efficiencies are shares of sleeping in workers' time.

    Attributes
    ----------
    first_s, filled_s
        From the engine's start until its first task began, and until all its workers had one at the same time (None:
        they never had).
    efficiency, overall
        From the first task's start to the last one's end; from the engine's start to its end.
    greedy
        What `efficiency` could be: tasks in their order, each on the worker that is free first, at no cost.
    """

    first_s: float
    filled_s: float | None
    efficiency: float
    overall: float
    greedy: float


def measure(name: str, cores: int, tasks: list[Task], python: Path, timeout_s: float) -> dict[str, Any]:
    """Run the tasks on an engine; return its record: by task the seconds since the engine's start, and the lane."""
    with place() as directory:
        ran, began, took, peak = _complete(name, Job(cores, directory, tasks), python, timeout_s, memory=True)
        if [row[0] for row in ran] != [task.number for task in tasks]:
            raise Failed(
                f"{len(tasks)} tasks should have run once each: {len({row[0] for row in ran})} of {len(ran)} did"
            )
        return {
            "engine": name, "cores": cores, "took_s": round(took, 4), "peak_bytes": peak,
            "asked_s": [round(task.seconds, 4) for task in tasks],
            "ran": [
                [round(start - began, 4), round(end - began, 4), lane]
                for (_, start, end, _), lane in zip(ran, _lanes(ran), strict=True)
            ],
        }  # fmt: skip


def measure_journal(name: str, job: Job, python: Path, timeout_s: float) -> tuple[list[Note], float, float]:
    """Run a job whose tasks keep a journal; return it, when the engine was started, and the seconds that it took."""
    _, began, took, _ = _complete(name, job, python, timeout_s)
    notes = read_journal(job.directory)
    done = {note.number for note in notes if note.event == "ended"}
    if left := len(job.tasks) - len(done):
        raise Failed(f"{left} of {len(job.tasks)} tasks did not end")
    return notes, began, took


def start(name: str, job: Job, python: Path) -> "subprocess.Popen[bytes]":
    """Start an engine's program on a job; it writes ``log`` in the job's directory, and ``ran.json`` at the end."""
    given = job._asdict() | {"directory": None}
    (job.directory / "job.json").write_text(json.dumps({key: each for key, each in given.items() if each is not None}))
    argv = [str(python), "-m", f"{_PACKAGE}.drive", name, str(job.directory)]
    if ranks := ENGINES[name].ranks:
        words = [word.format(cores=job.cores, more=job.cores + 1, python=python) for word in ranks]
        argv = ["mpiexec", "-n", *words, *argv[1:]]
    with log_of(job).open("ab") as log:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=job.directory,
            env=_environment(job.directory, python),
        )  # fmt: skip


def log_of(job: Job) -> Path:
    """Return the file that an engine's program writes."""
    return job.directory / "log"


def _complete(
    name: str, job: Job, python: Path, timeout_s: float, *, memory: bool = False
) -> tuple[list[list[Any]], float, float, int]:
    """Run a job to its end; return what ran, when it began, the seconds that it took, and the peak of its memory."""
    began, clock, peak = time.time(), time.perf_counter(), 0
    process = start(name, job, python)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(min(_SAMPLE_S, timeout_s) if memory else timeout_s)
                took = time.perf_counter() - clock
                break
            if time.perf_counter() - clock >= timeout_s:
                raise Failed(f"not over after {timeout_s:g} s: {end_of(log_of(job))}")
            peak = max(peak, sum(map(_memory_of, processes(job.directory))))
    finally:
        process.kill()
        process.wait()
    if code or not (job.directory / "ran.json").exists():
        raise Failed(f"exit code {code}: {end_of(log_of(job))}")
    return sorted(json.loads((job.directory / "ran.json").read_text())), began, took, peak


def _memory_of(pid: int) -> int:
    """Return the bytes of a process, of shared pages its share; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def summarise(run: dict[str, Any]) -> Summary:
    """Return what a record comes to."""
    asked, cores = sum(run["asked_s"]), run["cores"]
    first, last = min(row[0] for row in run["ran"]), max(row[1] for row in run["ran"])
    return Summary(
        first_s=first,
        filled_s=_filled(run["ran"], cores),
        efficiency=asked / (cores * (last - first)),
        overall=asked / (cores * run["took_s"]),
        greedy=asked / (cores * _greedy(run["asked_s"], cores)),
    )


def medians(summaries: Iterable[Summary]) -> Summary:
    """Return the median of each number; of `filled_s` only if it is known of all."""
    columns = zip(*summaries, strict=True)
    return Summary(*(None if None in column else statistics.median(column) for column in columns))  # type: ignore[arg-type]


def _filled(ran: list[list[Any]], cores: int) -> float | None:
    steps = sorted([(row[0], 1) for row in ran] + [(row[1], -1) for row in ran])
    running = 0
    for at, step in steps:
        running += step
        if running >= cores:
            return float(at)
    return None


def _lanes(ran: list[list[Any]]) -> list[int]:
    """Return the lane of each task: its worker's, or the first that is free if the engine does not say which it was."""
    if all(worker for *_, worker in ran):
        first: dict[str, int] = {}
        for worker in (row[3] for row in sorted(ran, key=lambda row: row[1])):
            first.setdefault(worker, len(first))
        return [first[worker] for *_, worker in ran]
    found, ends = [0] * len(ran), list[float]()
    for index, (_, began, ended, _) in sorted(enumerate(ran), key=lambda each: each[1][1]):
        lane = next((number for number, end in enumerate(ends) if end <= began), len(ends))
        ends[lane : lane + 1] = [ended]
        found[index] = lane
    return found


def _greedy(asked: Iterable[float], cores: int) -> float:
    free = [0.0] * cores
    for seconds in asked:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _environment(directory: Path, python: Path) -> dict[str, str]:
    """Return variables that keep an engine's files in its directory; programs are found beside its own Python."""
    here = {name: str(directory) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    words = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_PARENT), os.environ.get("PYTHONPATH")))),
        "VIRTUAL_ENV": str(python.parent.parent), "RADICAL_UTILS_NTPHOST": "127.0.0.1",  # not another's
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PILOTMTC_SERVER_LINGER_S": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in ("PILOTMTC_STORE", "PILOTMTC_SITE")}
    return kept | here | MPI_ENVIRONMENT | words | {"XDG_RUNTIME_DIR": str(directory)}


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Give a directory with a short name, as sockets lie in it; end what still runs with it, and remove it."""
    directory = Path(tempfile.mkdtemp(prefix="weak-"))
    try:
        yield directory
    finally:
        until = time.monotonic() + (_LEAVE_S if sys.exc_info()[0] is None else 0.0)
        while processes(directory) and time.monotonic() < until:
            time.sleep(0.05)
        end_all(directory)
        shutil.rmtree(directory, ignore_errors=True)


def end_all(directory: Path) -> None:
    """Kill what runs with the directory."""
    until = time.monotonic() + _LEAVE_S
    while (left := processes(directory)) and time.monotonic() < until:  # again: one may have begun another meanwhile
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def processes(directory: Path) -> list[int]:
    """Return the processes of this user, but for the ended, of a run: by their environment, or by where they are.

    Some write their title over their environment; they are in the directory, as a daemon may not be.
    """
    mark, found = f"XDG_RUNTIME_DIR={directory}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            here = (entry / "cwd").readlink().is_relative_to(directory)
            if here or mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end_of(log: Path) -> str:
    """Return the last lines of a log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it has written nothing"
