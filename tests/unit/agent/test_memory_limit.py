"""Which tasks are over their memory limits, while their processes come and go."""

import os
import signal

import pytest

from pilotmtc.agent.node import marks
from pilotmtc.agent.node.interface import Process
from pilotmtc.agent.node.memory_limit import over_limit
from pilotmtc.system import processes
from tests.support import wait_until

MARK, LIMIT = 7, 100


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A task of two processes, each of which has all of its memory."""
    found = Process(1, 1, "0")
    found.mark, found.memory_bytes = MARK, LIMIT
    monkeypatch.setattr(marks, "processes_of", lambda _: {MARK: [(1, LIMIT), (2, LIMIT)]})
    return found


@pytest.mark.parametrize(
    ("readings", "is_over"),
    [
        ([51, 51, 50, 100, 0, 100], False),  # one has ended between its reading and the other's
        ([51, 51, 0, 101, 0, 100], False),
        ([51, 50, 60, 60, 0, 101], True),
        ([50, 50], False),
    ],
)
def test_task_is_over_its_limit_only_if_all_readings_say_so(
    task: Process, monkeypatch: pytest.MonkeyPatch, readings: list[int], is_over: bool
) -> None:
    left = iter(readings)
    monkeypatch.setattr(processes, "proportional_memory", lambda _pid, _resident: next(left))
    assert bool(list(over_limit([task]))) is is_over


def test_process_that_has_ended_and_was_not_reaped_uses_nothing() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    assert processes.proportional_memory(pid, LIMIT << 40) < LIMIT << 40
    os.kill(pid, signal.SIGKILL)
    try:
        wait_until(lambda: processes.stat(pid)[0] in processes.DEAD)
        assert processes.proportional_memory(pid, LIMIT) == 0
    finally:
        os.waitpid(pid, 0)
    assert processes.proportional_memory(pid, LIMIT) == 0
