"""What a node's worker does with processes that are not as they should be."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.agent.events import Start, Stop
from pilotmtc.agent.guard import put_off_mark
from pilotmtc.agent.node import SWEEP_S, NodeWorker
from pilotmtc.agent.process import Process
from pilotmtc.model import Claimed, PilotId, Resources, Result, TaskId, Template
from pilotmtc.slots import Slot
from pilotmtc.states import Cause
from tests.support import wait_until

NOBODY = 65534
SUBREAPER = 36
MIB = 1 << 20


class Bench:
    """A node's worker, and what it has to say."""

    def __init__(self, directory: Path) -> None:
        self.worker = NodeWorker("n1", PilotId(1), "store", directory, gpus=False, pin=False, environ=dict(os.environ))
        self._count = 0

    def start(self, *command: str, resources: Resources = Resources()) -> Process:  # noqa: B008 -- frozen
        """Start a task; a single word is a shell line."""
        self._count += 1
        template = Template(command, shell=len(command) == 1)
        claimed = Claimed(TaskId(self._count), 1, 0, 0)
        started = self.worker.start(Start(claimed, template, resources, (Slot((0,), node="n1"),)), stay=False)
        assert isinstance(started, Process), started
        return started

    def stop(self, process: Process, cause: Cause = Cause.CANCELED, grace_s: float = 5.0) -> None:
        """End a task."""
        self.worker.stop(Stop(TaskId(process.task), 1, cause, grace_s), time.monotonic())

    def look(self) -> None:
        """Have done what is only done now and then."""
        self.worker.poll(time.monotonic() + SWEEP_S)

    def result(self, process: Process) -> Result:
        """Return how a task ended, once it has."""
        found: list[Result] = []

        def over() -> bool:
            now = time.monotonic()
            self.worker.poll(now)
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                return False
            found.append(self.worker.reap(process, now))
            return True

        wait_until(over, 30.0)
        return found[0]


@contextlib.contextmanager
def a_bench(directory: Path) -> Iterator[Bench]:
    """Give one in this process, which is for that time what a node's worker is."""
    libc = ctypes.CDLL(None)
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    made = Bench(directory)
    try:
        yield made
    finally:
        made.worker.close()
        put_off_mark()
        libc.prctl(SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as made:
        yield made


def python(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


@pytest.mark.parametrize(
    "memory",
    [
        "held = mmap.mmap(-1, 60 << 20); held[:] = b'x' * len(held)",
        "held = b'x' * (60 << 20)",
        "file = open('shared', 'w+b'); file.write(b'x' * (60 << 20)); file.flush(); held = mmap.mmap(file.fileno(), 0)",
    ],
    ids=["anonymous", "inherited", "file"],
)
def test_memory_that_processes_share_counts_once(bench: Bench, tmp_path: Path, memory: str) -> None:
    process = bench.start(*python(f"""
import mmap, os, time
{memory}
for _ in range(4):
    if not os.fork():
        used = sum(held[::4096])
        break
open(f"{tmp_path}/ready.{{os.getpid()}}", "w")
time.sleep(60)
"""), resources=Resources(memory_bytes=120 * MIB))  # fmt: skip
    wait_until(lambda: len(list(tmp_path.glob("ready.*"))) == 5)
    bench.look()
    assert process.cause is None
    bench.stop(process, grace_s=0.0)
    bench.result(process)


@pytest.mark.parametrize("before", ["setsid -w", "env -i setsid -w", "env -i setsid -f"])
def test_memory_of_what_has_left_the_session_counts(bench: Bench, tmp_path: Path, before: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import time\nheld = b'x' * {60 * MIB}\nopen('{tmp_path}/ready', 'w')\ntime.sleep(60)\n")
    process = bench.start(f"{before} {sys.executable} {program} & sleep 60", resources=Resources(memory_bytes=50 * MIB))
    wait_until((tmp_path / "ready").exists)
    bench.look()
    assert bench.result(process).cause is Cause.OOM


def test_task_without_much_of_its_own_is_not_said_to_have_the_agents_memory(bench: Bench) -> None:
    held = b""
    for size in range(0, 200, 20):  # the agent grows meanwhile
        held = b"x" * (size * MIB)
        assert bench.result(bench.start("/bin/true", "")).memory_bytes < 20 * MIB
    assert held


def test_group_with_another_users_processes_harms_nothing(tmp_path: Path) -> None:
    """So sudo leaves them. Here the worker itself becomes another user, while a task of root runs."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    tmp_path.chmod(0o777)
    argv = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def as_another_user(directory: Path) -> None:
    """Start a task, become nobody, and try all that may be done to a task."""
    with a_bench(directory) as made:
        process = made.start("sleep 60 & exec sleep 60", resources=Resources(memory_bytes=MIB))
        os.setresuid(NOBODY, NOBODY, 0)
        made.stop(process)
        made.look()
        os.setresuid(0, 0, 0)
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.setresuid(NOBODY, NOBODY, 0)
        assert made.result(process).signal == signal.SIGKILL
        os.setresuid(0, 0, 0)


if __name__ == "__main__":
    as_another_user(Path(sys.argv[1]))
