"""What becomes of tasks when a process is killed, and of workers that come late."""

import collections
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .engines import ENGINES
from .measure import Failed, end_all, end_of, log_of, measure_journal, place, processes, start
from .workload import Job, Note, Task, read_journal

WORKER, PROGRAM = "worker", "program"
CORES, TASKS, SECONDS = 4, 32, 0.4  # of a run in which something is killed
LATE_CORES, LATE_TASKS, LATE_SECONDS = 2, 160, 0.25
_START_S = 300.0  # the slowest of them, on a machine that is busy
_HANGS_S = 60.0  # without anything to do that has not been done
_QUIET_S = 3.0  # in which nothing has happened any more, of a program that is dead


def victims(name: str) -> list[str]:
    """Return what may be killed of an engine."""
    return [WORKER, PROGRAM, *ENGINES[name].masters]


def kill(name: str, victim: str, python: Path) -> dict[str, Any]:
    """Kill something when a third of the tasks have ended, and tell what became of them.

    What had not ended by itself is started again in the same directory, once nothing of it runs any more; but for a
    worker, which others should do without.
    """
    with place() as directory:
        tasks = [Task(number, SECONDS, "sleep", str(directory)) for number in range(TASKS)]
        job = Job(CORES, directory, tasks, retries=2)
        process = start(name, job, python)
        try:
            _until(lambda: _ended(job) >= TASKS / 3, process, job)
            for pid in _find(name, victim, process, job):
                os.kill(pid, signal.SIGKILL)
            killed_at, reason = time.time(), _end(process, job, dead=victim == PROGRAM)
            notes, again = read_journal(directory), None
            end_all(directory)
            if reason and victim != WORKER:
                process = start(name, job._replace(again=True), python)
                again = _end(process, job, starts=True)
                notes = read_journal(directory)
        finally:
            process.kill()
            process.wait()
            end_all(directory)
    return {"engine": name, "victim": victim, "reason": reason, "again": again} | count(notes, TASKS, killed_at)


def count(notes: Iterable[Note], tasks: int, killed_at: float) -> dict[str, Any]:
    """Return how many tasks never ended, how many more than once, and when the last one did for the first time."""
    ends = collections.Counter(note.number for note in notes if note.event == "ended")
    first = {note.number: note.at for note in reversed(list(notes)) if note.event == "ended"}
    return {
        "tasks": tasks, "lost": tasks - len(ends), "twice": sum(each > 1 for each in ends.values()),
        "took_s": round(max(first.values(), default=killed_at) - killed_at, 2),
    }  # fmt: skip


def late(name: str, python: Path) -> dict[str, Any]:
    """Double the number of workers when a third of the tasks have ended, and tell when more than before were busy."""
    if reason := ENGINES[name].cannot.get("late"):
        return {"engine": name, "cannot": reason}
    with place() as directory:
        tasks = [Task(number, LATE_SECONDS, "sleep", str(directory)) for number in range(LATE_TASKS)]
        job = Job(LATE_CORES, directory, tasks, grow=LATE_CORES)
        notes, _, _ = measure_journal(name, job, python, _START_S + LATE_TASKS * LATE_SECONDS)
        asked_at = float((directory / "grown").read_text())
    busy = busy_from(notes)
    after = [at - asked_at for number, at in busy.items() if number > LATE_CORES]
    return {
        "engine": name, "asked": 2 * LATE_CORES, "busy": max(busy), "used_s": round(min(after), 2) if after else None,
    }  # fmt: skip


def busy_from(notes: Iterable[Note]) -> dict[int, float]:
    """Return by number of tasks when so many first ran at the same time."""
    found: dict[int, float] = {}
    running = 0
    for note in sorted(notes, key=lambda note: (note.at, note.event == "began")):
        running += 1 if note.event == "began" else -1
        found.setdefault(running, note.at)
    return found


def _find(name: str, victim: str, process: "subprocess.Popen[bytes]", job: Job) -> list[int]:
    """Return what is to be killed: of processes that a pattern describes, those that none of them has started."""
    if victim == PROGRAM:
        return [process.pid]
    if victim == WORKER:
        running: dict[int, int] = {}
        while not running:  # between two tasks there may be none
            running = {note.number: note.pid for note in read_journal(job.directory)}
            for note in read_journal(job.directory):
                if note.event == "ended":
                    running.pop(note.number, None)
        return [list(running.values())[-1]]
    found = [pid for pid in processes(job.directory) if re.search(ENGINES[name].masters[victim], _command(pid))]
    found = [pid for pid in found if _parent(pid) not in found]
    if not found:
        raise Failed(f"it has no process that is its {victim}")
    return found


def _end(process: "subprocess.Popen[bytes]", job: Job, *, dead: bool = False, starts: bool = False) -> str:
    """Wait until all is over; return "" if all tasks have ended and the program well, else what happened."""
    seen, since = len(read_journal(job.directory)), time.monotonic()
    patience_s = _QUIET_S if dead else _START_S if starts else _HANGS_S
    while True:
        code = process.poll()
        done = _ended(job)
        left = len(job.tasks) - done
        if dead and not left:
            return ""
        if code is not None and not dead:
            if code == 0 and not left:
                return ""
            return f"it ended with exit code {code}" if code else f"it ended without {left} tasks"
        if (notes := len(read_journal(job.directory))) != seen:
            seen, since, patience_s = notes, time.monotonic(), _QUIET_S if dead else _HANGS_S
        if time.monotonic() - since > patience_s:
            hung = f"nothing happened for {patience_s:g} s"
            return "nothing went on" if dead else hung if left else f"all tasks ended, but then {hung}"
        time.sleep(0.05)


def _until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", job: Job) -> None:
    until = time.monotonic() + _START_S
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise Failed(f"it did not come to what was to be killed: {end_of(log_of(job))}")
        time.sleep(0.02)


def _ended(job: Job) -> int:
    return len({note.number for note in read_journal(job.directory) if note.event == "ended"})


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
