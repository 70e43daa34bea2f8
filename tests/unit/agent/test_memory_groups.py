"""Control groups of tasks, in directories that look like them: a kernel has its own tests, in integration."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotmtc.agent import guard
from pilotmtc.agent.node import allowance, memory_groups
from pilotmtc.agent.node.memory_groups import NotEntered, spawn, take
from pilotmtc.agent.node.memory_limit import KernelKills
from pilotmtc.system import control_groups

MARK = 0xABC << guard.HALF
GIB = 1 << 30


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The group of this process."""
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr(control_groups, "own", lambda controller: None if controller else tmp_path)
    return tmp_path


def is_outside(own: Path, _: pytest.MonkeyPatch) -> None:
    (own / "cgroup.procs").write_text("1\n")


def has_no_memory(own: Path, _: pytest.MonkeyPatch) -> None:
    (own / "cgroup.controllers").write_text("cpu pids\n")


def is_not_delegated(_: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    patch.setattr(Path, "mkdir", refuse)


def has_others(own: Path, patch: pytest.MonkeyPatch) -> None:
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n0\n")

    def write(path: Path, text: str) -> None:
        assert (path, text) == (own / "cgroup.subtree_control", "+memory")
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    patch.setattr(memory_groups, "_write", write)


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        (is_outside, "there is no control group of version 2"),
        (has_no_memory, "it cannot limit memory"),
        (is_not_delegated, "pilotmtc-abc: Permission denied"),
        (has_others, "there are other processes in it"),
    ],
)
def test_where_there_can_be_no_groups_the_log_says_why_and_all_is_as_before(
    situation: Callable[[Path, pytest.MonkeyPatch], None], words: str, own: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    situation(own, monkeypatch)
    with caplog.at_level(logging.INFO):
        assert take(MARK) is None
    monkeypatch.undo()
    assert "memory limits: pilotmtc looks once a second (the kernel does not take them: " in caplog.text
    assert words in caplog.text
    assert not list(own.glob("pilotmtc-*"))


def test_task_that_cannot_enter_its_group_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(NotEntered):
        spawn(tmp_path, "/bin/touch", ["touch", str(tmp_path / "ran")], {}, ())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("program", "argument", "error"),
    [("/no/such", "a", FileNotFoundError), ("/etc", "a", PermissionError), ("/bin/true", "a\0b", ValueError)],
)
def test_program_that_cannot_be_started_in_a_group_is_an_error(
    program: str, argument: str, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "cgroup.procs").touch()
    with pytest.raises(error):
        spawn(tmp_path, program, ["x", argument], {}, ())
    assert (tmp_path / "cgroup.procs").read_text() == "0"


def test_kill_is_the_kernels_if_it_has_counted_one_meanwhile_or_memory_was_nearly_used_up(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = own / "memory.events"
    monkeypatch.setattr(allowance, "memory", lambda *_: 10 * GIB)
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    kills = KernelKills()
    said = "killed by signal 9, probably for memory: peak was"
    assert kills.likely(1.0, 7 * GIB, 2.0) is None
    assert kills.likely(1.0, 9 * GIB, 2.0) == f"{said} 9.0G"
    events.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert kills.likely(1.0, GIB, 3.0) == f"{said} 1.0G"
    assert kills.likely(2.5, GIB, 4.0) == f"{said} 1.0G"
    assert kills.likely(3.5, GIB, 4.0) is None
