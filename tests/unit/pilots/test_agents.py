"""Signals to agents and to what they have left: a process id that has been used again is not theirs any more."""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from pilotmtc.agent import guard
from pilotmtc.pilots.agents import LocalAgent
from pilotmtc.system import processes


@pytest.fixture
def other() -> Iterator[int]:
    """Another's process, which must not be killed."""
    with subprocess.Popen(["sleep", "97.5"]) as process:
        try:
            yield process.pid
        finally:
            process.terminate()
            code = process.wait(60)
    assert code == -signal.SIGTERM


def test_agents_number_that_another_process_has_now_is_left_alone(other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter([[b"python", b"-m", b"pilotmtc.agent", b"/pilot"], [b"sleep", b"97.5"]])
    monkeypatch.setattr(processes, "pids", lambda: [other])
    monkeypatch.setattr(processes, "command_line", lambda pid: next(lines))
    agent = LocalAgent("/pilot")
    assert next(lines, None) is None
    assert agent.over
    agent.kill()
    agent.close()


def test_number_without_the_mark_that_it_had_is_left_alone(other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([[other], []])
    monkeypatch.setattr(guard, "marked", lambda mark: next(found))
    guard.sweep_marked(5 << guard.HALF)
    assert next(found, None) is None
