"""What a node's worker does with processes that are not as they should be."""

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.agent.core.events import Start, Stop
from pilotmtc.agent.guard import put_off_mark
from pilotmtc.agent.node import supervisor
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.interface import Process
from pilotmtc.agent.node.outputs import Outputs
from pilotmtc.agent.node.process import ProcessLauncher
from pilotmtc.agent.node.supervisor import KILLS, SWEEP_S, Supervisor
from pilotmtc.model import Claimed, PilotId, Resources, Result, TaskId, Template
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause
from pilotmtc.system import processes
from pilotmtc.system.processes import SUBREAPER, living_groups
from tests.support import wait_until

NOBODY = 65534
MIB = 1 << 20


class Bench:
    """A node's worker, and what it has to say."""

    def __init__(self, directory: Path) -> None:
        captures = Captures(directory / "outputs")
        launcher = ProcessLauncher(
            PilotId(1), "store", directory, captures, gpu_count=0, pin=False, environ=dict(os.environ), node="n1"
        )
        self.worker = Supervisor("n1", directory, launcher, Outputs(captures))
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
        seen = False

        def over() -> bool:
            nonlocal seen
            now = time.monotonic()
            found.extend(self.worker.poll(now))
            if not seen and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                seen = True
                result = self.worker.reap(process, now)
                found.extend([] if result is None else [result])
            return bool(found)

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


SHARING = """
import mmap, os, time
MEMORY
for _ in range(4):
    if not os.fork():
        used = sum(held[::4096])
        break
open(f"ready.{os.getpid()}", "w")
time.sleep(60)
"""


@pytest.mark.parametrize(
    "memory",
    [
        "held = mmap.mmap(-1, 60 << 20); held[:] = b'x' * len(held)",
        "held = b'x' * (60 << 20)",
        "f = open('x', 'w+b'); f.write(bytes(60 << 20)); f.flush(); held = mmap.mmap(f.fileno(), 0)",
    ],
    ids=["anonymous", "inherited", "file"],
)
def test_memory_that_processes_share_counts_once(bench: Bench, tmp_path: Path, memory: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(SHARING.replace("MEMORY", memory))
    process = bench.start(
        f"cd {tmp_path}; exec {sys.executable} program.py", resources=Resources(memory_bytes=120 * MIB)
    )
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


CHECKPOINT = """
import os, signal, sys, time
def write(number, frame):
    while not os.path.exists("go"):
        time.sleep(0.01)
    print("checkpoint", signal.Signals(number).name, flush=True)
    sys.exit()
for name in ("SIGTERM", "SIGUSR1"):
    signal.signal(getattr(signal, name), write)
open("ready", "w")
time.sleep(60)
"""


@pytest.mark.parametrize("first", ["", "USR1"])
@pytest.mark.parametrize("line", ["{python} program.py", "{python} program.py; true", "{python} program.py & wait"])
def test_whole_group_has_the_grace(bench: Bench, tmp_path: Path, line: str, first: str) -> None:
    (tmp_path / "program.py").write_text(CHECKPOINT)
    process = bench.start(
        f"cd {tmp_path}; {line.format(python=sys.executable)}",
        resources=Resources(grace_s=1000.0, signal_first=first),
    )
    wait_until((tmp_path / "ready").exists)
    bench.stop(process, grace_s=process.grace_s)
    bench.look()
    (tmp_path / "go").touch()
    found = bench.result(process)
    assert found.stdout == f"checkpoint SIG{first or 'TERM'}\n".encode()
    assert found.cause is Cause.CANCELED
    assert not alive_group(process.pid)


def test_group_is_killed_after_the_grace_and_not_before_its_result(bench: Bench) -> None:
    process = bench.start("(trap '' TERM; echo there; sleep 60) & sleep 60", resources=Resources(grace_s=0.3))
    wait_until(lambda: bench.worker.peek([(TaskId(process.task), 1)])[0].stdout)
    bench.stop(process, grace_s=process.grace_s)
    assert bench.result(process).signal == signal.SIGTERM
    assert not alive_group(process.pid)


def test_second_stop_without_grace_kills_what_lingers(bench: Bench) -> None:
    process = bench.start("(trap '' TERM; echo there; sleep 60) & sleep 60")
    wait_until(lambda: bench.worker.peek([(TaskId(process.task), 1)])[0].stdout)
    bench.stop(process, grace_s=1000.0)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert bench.worker.reap(process, time.monotonic()) is None
    bench.stop(process, grace_s=0.0)
    wait_until(lambda: bench.worker.poll(time.monotonic()))
    assert not alive_group(process.pid)


def test_what_is_left_of_a_group_that_nobody_has_stopped_is_killed_at_once(bench: Bench) -> None:
    process = bench.start("sleep 60 & echo over")
    assert bench.result(process).stdout == b"over\n"
    assert not alive_group(process.pid)


def alive_group(pid: int) -> bool:
    """Whether a process of the group is there."""
    try:
        wait_until(lambda: pid not in living_groups(), 5.0)
    except TimeoutError:
        return True
    return False


def test_group_with_another_users_processes_harms_nothing(tmp_path: Path) -> None:
    """So sudo leaves them. Here the worker itself becomes another user, while a task of root runs."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    tmp_path.chmod(0o777)
    argv = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr


def test_task_that_cannot_be_watched_leaves_nothing(bench: Bench) -> None:
    def no_room(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no room for another descriptor")

    process = bench.start("exec sleep 60")
    before = os.listdir("/proc/self/fd")
    assert not bench.worker.watch(process, no_room)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 2  # its pipes
    assert not Path(f"/proc/{process.pid}").exists()


def as_another_user(directory: Path) -> None:
    """Start a task, become nobody, and try all that may be done to a task."""
    with a_bench(directory) as made:
        process = made.start("sleep 60 & exec sleep 60", resources=Resources(memory_bytes=MIB))
        other = made.start("echo said; exec sleep 60")
        wait_until(lambda: made.worker.peek([(TaskId(other.task), 1)])[0].stdout)
        os.setresuid(NOBODY, NOBODY, 0)
        made.stop(process)
        made.look()
        made.stop(other, Cause.TIMEOUT, grace_s=0.0)
        now = time.monotonic()
        results = [result for after in range(KILLS + 5) for result in made.worker.poll(now + 1.5 * after)]
        os.setresuid(0, 0, 0)
        for each in (process, other):
            os.kill(each.pid, signal.SIGKILL)
            os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
        assert {result.task for result in results} == {process.task, other.task}
        for result in results:
            assert "does not end when it is killed" in (result.message or "")
        (found,) = [result for result in results if result.task == other.task]
        assert (found.cause, found.stdout) == (Cause.TIMEOUT, b"said\n")
        for each in (process, other):
            assert made.worker.reap(each, time.monotonic()) is None


if __name__ == "__main__":
    as_another_user(Path(sys.argv[1]))


def test_number_of_a_task_that_was_reaped_gets_no_signal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def checked(pid: int, number: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)  # an error if its number is free
        sent.append(number)
        processes.signal_group(pid, number)

    monkeypatch.setattr(supervisor, "signal_group", checked)
    process = bench.start("sleep 97.5")
    bench.stop(process, grace_s=1.0)
    bench.result(process)
    assert sent[:2] == [signal.SIGTERM, signal.SIGCONT]
    count = len(sent)
    bench.stop(process, grace_s=0.0)
    bench.worker.poll(time.monotonic() + 100.0)  # when its timers are over
    assert len(sent) == count
