"""Pilots in control groups with limits, on a real kernel: `tests/lab/cgroup2.sh` has one where this machine has not."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotmtc.agent import guard
from pilotmtc.boot import program
from pilotmtc.model import Pilot, PilotDescription, Resources, Template
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.system import control_groups, processes
from tests.integration.agent_support import Site, running_site, shell
from tests.support import alive, nap, wait_until

MIB = 1 << 20
LIMIT = Resources(memory_bytes=150 * MIB)
EAT = f"{sys.executable} -I -S -c 'import time; x = bytearray({{}} << 20); print(1, flush=True); time.sleep({{}})'"

StartIn = Callable[[Path], Pilot]


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of version 2 that is this user's to use; the test is skipped where there can be none."""
    for parent in control_groups.own_and_above(""):
        if os.access(parent, os.W_OK) and "memory" in control_groups.read(parent / "cgroup.subtree_control").split():
            break
    else:
        pytest.skip("no control group of version 2 that limits memory can be made here")
    yield from _group(parent)


@pytest.fixture
def old_group() -> Iterator[Path]:
    """A group of version 1 with a limit of memory."""
    parent = control_groups.own("memory")
    if parent is None or not os.access(parent / "cgroup.procs", os.W_OK):
        pytest.skip("no control group of version 1 that limits memory can be made here")
    yield from _group(parent)


def _group(parent: Path) -> Iterator[Path]:
    made = parent / f"test-{secrets.token_hex(4)}"
    made.mkdir()
    yield made
    wait_until(lambda: not _processes(made))
    for path, _, _ in os.walk(made, topdown=False):
        os.rmdir(path)


def _processes(group: Path) -> list[str]:
    return [pid for path in (group, *group.rglob("*/")) for pid in control_groups.read(path / "cgroup.procs").split()]


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[StartIn]:
    """Starts a pilot in a group, as a batch system does."""
    guards: list[subprocess.Popen[bytes]] = []

    def run(group: Path) -> Pilot:
        key = secrets.token_hex(4)
        directory = tmp_path / key
        directory.mkdir(0o700)
        description = PilotDescription(cores=2, pin=False)
        pilot = site.client.call(CreatePilot(key, description, str(directory))).pilots[0]
        agent = program("pilotmtc.agent", "--store", site.url, "--pilot", str(pilot.id), "--directory", str(directory))
        line = f'echo 0 >{group}/cgroup.procs && exec "$@"'
        argv = ["sh", "-c", line, "sh", sys.executable, "-I", "-S", guard.__file__, guard.instructions(agent)]
        with (directory / "agent.log").open("wb") as log:
            guards.append(subprocess.Popen(argv, stderr=log))
        wait_until(lambda: site.pilot(pilot.id).state is PilotState.ACTIVE, 60.0, (directory / "agent.log").read_text)
        site.pilots.append(pilot)
        return pilot

    yield run
    for pilot in site.pilots:
        site.close_pilot(pilot)
    for child in guards:
        child.wait(60)


def log(pilot: Pilot) -> str:
    return (Path(pilot.directory) / "agent.log").read_text()


def task_groups(group: Path) -> list[str]:
    return [path.name for path in group.glob("pilotmtc-*/*/") if path.name.isdigit()]


def test_task_and_all_that_it_starts_are_born_in_a_group_with_its_limit(
    group: Path, site: Site, start: StartIn
) -> None:
    line = f"cat /proc/self/cgroup; setsid -w cat /proc/self/cgroup & wait; cat {group}/pilotmtc-*/[0-9]*/memory.max"
    (task,) = site.submit(shell(line), resources=LIMIT)
    (direct,) = site.submit(Template(("cat", "/proc/self/cgroup")), resources=LIMIT)
    pilot = start(group)
    site.wait()
    assert "the kernel keeps them, in control groups below" in log(pilot)
    one, other, limit, *_ = site.output(task).stdout.decode().split()
    assert one == other
    assert one.startswith(f"0::{_name(group)}/pilotmtc-")
    assert int(limit) == LIMIT.memory_bytes
    assert site.output(direct).stdout.decode().startswith(f"0::{_name(group)}/pilotmtc-")
    wait_until(lambda: not task_groups(group))


def _name(group: Path) -> str:
    """Return what the kernel calls a group."""
    top = list(control_groups.own_and_above(""))[-1]
    return f"/{group.relative_to(top)}".rstrip(".").rstrip("/")


def test_children_in_sessions_of_their_own_count_and_are_killed(group: Path, site: Site, start: StartIn) -> None:
    mark = nap()
    (task,) = site.submit(
        shell(f"setsid {EAT.format(100, mark)} & setsid {EAT.format(100, mark)} & wait"), resources=LIMIT
    )
    start(group)
    site.wait(120.0)
    last = site.last(task)
    assert (last.cause, last.signal, last.message) == (Cause.OOM, signal.SIGKILL, "over its memory limit")
    assert last.memory_bytes > 140 * MIB
    wait_until(lambda: not alive(mark))
    wait_until(lambda: not task_groups(group))


def test_what_a_task_leaves_behind_is_killed_with_its_group_and_its_peak_is_that_of_all(
    group: Path, site: Site, start: StartIn, tmp_path: Path
) -> None:
    mark, both = nap(), tmp_path / "both"
    eat = f"setsid {EAT.format(50, mark)} >>{both} &"
    (task,) = site.submit(shell(f"{eat} {eat} while test $(wc -c <{both}) -lt 4; do sleep 0.1; done"), resources=LIMIT)
    both.touch()
    start(group)
    assert site.wait(120.0) == {TaskState.DONE: 1}
    assert 100 * MIB < site.last(task).memory_bytes <= 150 * MIB
    wait_until(lambda: not alive(mark))


def test_tasks_in_groups_are_as_others_in_all_else(group: Path, site: Site, start: StartIn, tmp_path: Path) -> None:
    script = tmp_path / "no-first-line"
    script.write_text("echo script")
    script.chmod(0o700)
    # Of ignored signals, those that the C library keeps to itself (32 and 33) do not matter.
    signals = "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -c17-"
    look = f"ulimit -n; {signals}; test $(cut -d' ' -f6 /proc/self/stat) = $$ && pwd"
    templates = [
        shell(look), Template(("env",), env={"BASH_FUNC_f%%": "() { :; }"}), Template((str(script),)),
        shell("cat; exit 3"), Template(("no-such-program",)), Template((str(tmp_path),)), Template(("echo", "a\0b")),
    ]  # fmt: skip
    limited, free = site.submit(*templates, resources=LIMIT), site.submit(*templates)
    start(group)
    site.wait()
    for one, other in zip(limited, free, strict=True):
        assert (site.last(one).cause, site.last(one).exit_code) == (site.last(other).cause, site.last(other).exit_code)
        assert (site.last(one).message or "").replace(str(one), str(other)) == (site.last(other).message or "")
    assert site.output(limited[0]).stdout == site.output(free[0]).stdout != b""
    assert b"BASH_FUNC_f%%=() { :; }\n" in site.output(limited[1]).stdout
    assert site.output(limited[2]).stdout == b"script\n"
    assert site.last(limited[4]).cause is Cause.LAUNCH_ERROR


def test_group_is_as_before_when_the_pilot_has_ended(group: Path, site: Site, start: StartIn) -> None:
    site.submit(shell("true"), resources=LIMIT, copies=20)
    pilot = start(group)
    site.wait()
    site.close_pilot(pilot)
    site.wait_over(pilot.id)
    wait_until(lambda: not list(group.glob("pilotmtc-*")))
    assert "memory" not in control_groups.read(group / "cgroup.subtree_control")
    start(group)
    assert site.submit(shell("true"), resources=LIMIT)
    site.wait()


def test_killed_agent_leaves_neither_processes_nor_groups(group: Path, site: Site, start: StartIn) -> None:
    mark = nap()
    (task,) = site.submit(shell(f"setsid sleep {mark} & sleep {mark}"), resources=LIMIT)
    pilot = start(group)
    site.wait_running(task)
    wait_until(lambda: task_groups(group))
    os.kill(site.agent(pilot.id), signal.SIGKILL)
    assert site.wait_over(pilot.id).state is PilotState.FAILED
    wait_until(lambda: not alive(mark))
    wait_until(lambda: not list(group.glob("pilotmtc-*")))
    assert site.state(task) is TaskState.READY


def test_next_pilot_removes_what_was_left_by_one_that_was_killed_with_its_guards(site: Site, start: StartIn) -> None:
    root = list(control_groups.own_and_above(""))[-1:]
    if not root or (root[0] / "cgroup.type").exists() or not os.access(root[0] / "cgroup.procs", os.W_OK):
        pytest.skip("needs the root of all control groups of version 2: other groups are closed to a next pilot")
    if "memory" not in control_groups.read(root[0] / "cgroup.controllers").split():
        pytest.skip("needs control groups of version 2 that limit memory")
    mark = nap()
    (task,) = site.submit(shell(f"setsid sleep {mark} & sleep {mark}"), resources=LIMIT)
    pilot = start(root[0])
    site.wait_running(task)
    (left,) = root[0].glob("pilotmtc-*")
    guards = site.guard(pilot.id)
    for pid in [guards, *processes.children(guards, guards)]:  # agent and sweeper
        os.kill(pid, signal.SIGSTOP)
    for pid in [*processes.children(guards, guards), guards]:
        os.kill(pid, signal.SIGKILL)
    assert task_groups(root[0])
    start(root[0])
    assert not left.exists()
    wait_until(lambda: not alive(mark))


def test_other_processes_in_the_group_are_not_moved(group: Path, site: Site, start: StartIn) -> None:
    (task,) = site.submit(shell(EAT.format(200, 60)), resources=LIMIT)
    stranger = subprocess.Popen(["sh", "-c", f"echo 0 >{group}/cgroup.procs && exec sleep 600"])
    try:
        wait_until(lambda: _processes(group))
        pilot = start(group)
        assert "pilotmtc looks once a second (the kernel does not take them: there are other processes in it)" in log(
            pilot
        )
        site.wait(120.0)
        assert (site.last(task).cause, site.last(task).message) == (Cause.OOM, "over its memory limit")
        assert str(stranger.pid) in control_groups.read(group / "cgroup.procs").split()
        assert not list(group.glob("*/"))
    finally:
        stranger.kill()
        stranger.wait()


def test_what_the_kernel_kills_in_the_pilots_own_group_is_told_from_other_kills(
    group: Path, site: Site, start: StartIn
) -> None:
    _kernel_kills(group / "memory.max", group, site, start)


def test_what_the_kernel_kills_in_a_group_of_version_1_is_told_from_other_kills(
    old_group: Path, site: Site, start: StartIn
) -> None:
    _kernel_kills(old_group / "memory.limit_in_bytes", old_group, site, start)


def _kernel_kills(limit: Path, group: Path, site: Site, start: StartIn) -> None:
    limit.write_text(str(400 * MIB))
    (by_hand,) = site.submit(shell("kill -9 $$"))
    start(group)
    site.wait()
    large, shells = site.submit(shell(f"exec {EAT.format(600, 60)}"), shell(f"{EAT.format(600, 60)}; exit $?"))
    site.wait(120.0)
    assert (site.last(by_hand).cause, site.last(by_hand).message) == (Cause.SIGNAL, None)
    assert (site.last(large).cause, site.last(large).signal) == (Cause.SIGNAL, signal.SIGKILL)
    assert (site.last(shells).cause, site.last(shells).exit_code) == (Cause.EXIT, 137)
    for task in (large, shells):
        assert (site.last(task).message or "").startswith("killed by signal 9, probably for memory: peak was ")
