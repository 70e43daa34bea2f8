"""Calls of functions on several ranks, with the MPI libraries of this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.rank import _say
from pilotmtc.model import PilotDescription, Resources
from pilotmtc.states import Cause, TaskState
from tests.integration.agent_support import Site, running_site
from tests.integration.calls_support import Calls
from tests.integration.function_support import HERE
from tests.integration.pool_support import running_pool
from tests.integration.test_launchers import OPEN_MPI, ROOT_TOO, mpi
from tests.support import alive, nap, wait_until

__all__ = ["mpi"]  # a fixture: Open MPI with mpi4py for the system's Python
cloudpickle.register_pickle_by_value(sys.modules[__name__])
SYSTEM = "/usr/bin/python3"
MPIEXEC = {**ROOT_TOO, "PILOTMTC_LAUNCHER": "mpiexec"}
RANKS = {"PILOTMTC_LAUNCHER": "ranks"}


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


@pytest.fixture
def calls(site: Site) -> Calls:
    return Calls(site)


@pytest.fixture
def open_mpi(mpi: str) -> None:
    version = subprocess.check_output([SYSTEM, "-c", "import sys; print(*sys.version_info[:2])"], text=True, timeout=60)
    if tuple(map(int, version.split())) != HERE:
        pytest.skip(f"mpi4py is there for another Python, {version}")


def total(x: int) -> tuple[int, int, int]:
    from mpi4py import MPI  # type: ignore[import-not-found]

    world = MPI.COMM_WORLD
    print(f"rank {world.rank}")
    return world.rank, world.size, world.allreduce(x + world.rank)


def fail_on_one(mark: str) -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 1:
        raise ValueError("bad rank")
    subprocess.run(["sleep", mark], check=True)


def without_mpi(x: Any) -> Any:
    return x, int(os.environ["PILOTMTC_RANK"]), os.environ["PILOTMTC_RANKS"]


@pytest.mark.usefixtures("open_mpi")
def test_call_on_ranks_returns_that_of_the_first_or_all(calls: Calls) -> None:
    three = Resources(ranks=3)
    one = calls.submit(total, (10,), resources=three, python=SYSTEM, env=MPIEXEC)
    every = calls.submit(total, (20,), resources=three, python=SYSTEM, env=MPIEXEC, gather=True)
    singles = calls.submit(without_rank, *[(number,) for number in range(30)])
    calls.site.start(PilotDescription(cores=4, pin=False))
    assert calls.values(one) == [(0, 3, 33)]
    assert calls.values(every) == [[(rank, 3, 63) for rank in range(3)]]
    assert calls.values(singles) == list(range(30))
    (row,) = calls.returned(every)
    assert (row.cause, row.exit_code, row.value_text) == (Cause.EXIT, 0, "[(0, 3, 63), (1, 3, 63), (2, 3, 63)]")
    assert sorted(calls.site.output(one[0]).stdout.split(b"\n")) == [b"", b"rank 0", b"rank 1", b"rank 2"]
    assert not [name for name in os.listdir(Path(calls.site.pilots[0].directory, "values")) if name.startswith(".")]


def without_rank(x: int) -> int:
    assert "PILOTMTC_RANK" not in os.environ
    return x


@pytest.mark.usefixtures("open_mpi")
def test_exception_on_one_rank_ends_the_others(calls: Calls) -> None:
    mark = nap()
    tasks = calls.submit(fail_on_one, (mark,), resources=Resources(ranks=3), python=SYSTEM, env=MPIEXEC)
    calls.site.start(PilotDescription(cores=4, pin=False))
    (row,) = calls.returned(tasks)
    assert (row.cause, row.exit_code, row.value_text) == (Cause.EXIT, 1, "ValueError: bad rank")
    error = calls.load(row)
    assert (type(error), error.args) == (ValueError, ("bad rank",))
    assert "in fail_on_one" in str(error.__cause__)
    wait_until(lambda: not alive(f"sleep\0{mark}"))


@pytest.mark.usefixtures("open_mpi")
def test_rank_that_dies_fails_the_call(calls: Calls) -> None:
    def die(rank: str) -> int:
        if os.environ["PILOTMTC_RANK"] == rank:
            os._exit(0)
        return 5

    ranks = Resources(ranks=2)
    tasks = calls.submit(die, ("0",), ("1",), resources=ranks, python=SYSTEM, env=MPIEXEC)
    calls.site.start(PilotDescription(cores=2, pin=False))
    for row in calls.returned(tasks):
        assert (row.state, row.value) == (TaskState.FAILED, None), row


def test_python_without_mpi4py_is_told(calls: Calls) -> None:
    tasks = calls.submit(total, (1,), resources=Resources(ranks=2), env=MPIEXEC)
    calls.site.start(PilotDescription(cores=2, pin=False))
    (row,) = calls.returned(tasks)
    assert row.cause is Cause.LAUNCH_ERROR
    assert f"calls on several ranks need mpi4py in {sys.executable}" in (row.message or "")


def test_ranks_without_mpi_have_their_numbers(calls: Calls) -> None:
    two = Resources(ranks=2)
    (task,) = calls.submit(without_mpi, ("x",), resources=two, env=RANKS)
    (gathered,) = calls.submit(without_mpi, ("x",), resources=two, env=RANKS, gather=True)
    (failed,) = calls.submit(lambda: 1 // int(os.environ["PILOTMTC_RANK"]), (), resources=two, env=RANKS)
    calls.site.start(PilotDescription(cores=2, pin=False))
    assert calls.values([task]) == [("x", 0, "2")]
    rows = calls.returned([gathered, failed])
    assert rows[0].cause is Cause.LAUNCH_ERROR
    assert "gather=True needs MPI" in (rows[0].message or "")
    assert (rows[1].cause, type(calls.load(rows[1]))) == (Cause.EXIT, ZeroDivisionError)


def die_on_one() -> None:
    if os.environ["PILOTMTC_RANK"] == "1":
        os._exit(3)


def set_up_slowly_on_one() -> None:
    if os.environ["PILOTMTC_RANK"] == "1":
        time.sleep(600.0)


def fail_to_set_up_one() -> None:
    if os.environ["PILOTMTC_RANK"] == "1":
        raise ValueError("no model")


def ends_of_set_up(calls: Calls, python: str, env: dict[str, str]) -> None:
    """Have ranks die and fail in the initializer, and say whether pools would be taken for broken."""
    two: dict[str, Any] = {"resources": Resources(ranks=2), "python": python, "env": env}
    (died,) = calls.submit(without_mpi, (1,), initializer=die_on_one, **two)
    (failed,) = calls.submit(without_mpi, (2,), initializer=fail_to_set_up_one, **two)
    calls.site.start(PilotDescription(cores=2, pin=False))
    rows = calls.returned([died, failed])
    assert [row.cause for row in rows] == [Cause.LAUNCH_ERROR] * 2, rows
    said = "the initializer failed: a rank died in it 3 times in a row; the last time rank 1, and the call ended with"
    assert (rows[0].message or "").startswith(said), rows[0].message
    assert rows[1].message == "the initializer failed: ValueError: no model"
    assert not [name for name in os.listdir(Path(calls.site.pilots[0].directory, "values")) if name.startswith(".")]


def test_rank_that_dies_in_the_initializer_is_the_initializers_fault(calls: Calls) -> None:
    ends_of_set_up(calls, "", RANKS)


@pytest.mark.usefixtures("open_mpi")
def test_rank_of_mpi_that_dies_in_the_initializer_is_the_initializers_fault(calls: Calls) -> None:
    ends_of_set_up(calls, SYSTEM, MPIEXEC)


def test_rank_that_dies_in_the_call_while_another_is_set_up_is_not(calls: Calls) -> None:
    def die(_: int) -> None:
        os._exit(4)

    two = Resources(ranks=2)
    (task,) = calls.submit(die, (1,), initializer=set_up_slowly_on_one, resources=two, env=RANKS)
    calls.site.start(PilotDescription(cores=2, pin=False))
    (row,) = calls.returned([task])
    assert (row.cause, row.exit_code) == (Cause.EXIT, 4)


@pytest.mark.usefixtures("open_mpi")
def test_ranks_on_several_nodes(calls: Calls) -> None:
    with running_pool(calls.site, 3, 2, env=OPEN_MPI) as pool:
        pool.wait_nodes(3)
        every = calls.submit(total, (1,), resources=Resources(ranks=5), python=SYSTEM, gather=True)
        alone = calls.submit(without_mpi, ("y",), resources=Resources(ranks=5), env=RANKS)
        failed = calls.submit(
            lambda: 1 // (int(os.environ["PILOTMTC_RANK"]) - 4), (), resources=Resources(ranks=5), env=RANKS
        )
        wait_until(lambda: len(calls.site.counts()) and calls.returned(every), on_timeout=pool.log)
        assert calls.values(every) == [[(rank, 5, 15) for rank in range(5)]]
        assert calls.values(alone) == [("y", 0, "5")]
        (row,) = calls.returned(failed)
        assert (row.cause, type(calls.load(row))) == (Cause.EXIT, ZeroDivisionError)


@pytest.mark.parametrize("links", [True, False])
def test_rank_that_fails_is_believed_rather_than_one_that_has_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    said = []
    for rank, outcome in enumerate((frames.RETURNED, frames.RAISED, frames.RAISED, frames.RETURNED)):
        monkeypatch.setenv("PILOTMTC_RANK", str(rank))
        frame = frames.ended_frame(outcome, 1, 1, (0.0, 0.0, 0.0), 0, b"", f"by {rank}".encode())
        _say(str(tmp_path / "end"), frame, failed=outcome != frames.RETURNED)
        said.append(frames.End((tmp_path / "end").read_bytes()).text)
    assert said == ["by 0", "by 1", "by 1", "by 1"]
    assert not list(tmp_path.glob("end.*"))


def test_mpi4py_of_another_mpi_is_told(calls: Calls, open_mpi: None, tmp_path: Path) -> None:
    if not Path("/usr/bin/mpiexec.hydra").exists():
        pytest.skip("needs MPICH (Debian: mpich)")
    program = tmp_path / "bin" / "mpiexec"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexec /usr/bin/mpiexec.hydra "$@"\n')
    program.chmod(0o755)
    env = MPIEXEC | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    (task,) = calls.submit(total, (1,), resources=Resources(ranks=2), python=SYSTEM, env=env)
    calls.site.start(PilotDescription(cores=2, pin=False))
    (row,) = calls.returned([task])
    assert row.cause is Cause.LAUNCH_ERROR
    assert "finds 1 of 2 ranks: it was built for another MPI" in (row.message or "")
