"""Calls of functions through real agents, on one node and on many."""

import contextlib
import os
import pickle
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from pilotmtc import pickled
from pilotmtc.model import (
    Call,
    PilotDescription,
    Resources,
    Value,
)
from pilotmtc.protocol.client.pilots import CancelPilot
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import Filter
from pilotmtc.protocol.values import PART_BYTES
from pilotmtc.states import Cause, PilotState, TaskState
from tests.integration.agent_support import running_site, shell
from tests.integration.calls_support import Calls
from tests.integration.function_support import Argument, dump_args
from tests.integration.pool_support import running_pool
from tests.support import alive, command_lines, nap, wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def calls(tmp_path: Path, surroundings: Path) -> Iterator[Calls]:
    with running_site(tmp_path) as site:
        yield Calls(site)


def function_workers(directory: str) -> list[int]:
    """Return the function workers of a pilot."""
    return [pid for pid, line in command_lines().items() if "functions/worker.py" in line and directory in line]


def twice(x: Any) -> Any:
    return 2 * x


def nap_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def say_and_wait(path: str) -> str:
    print("here I am")
    wait_for(path)
    return os.environ["PILOTMTC_STORE"]


def test_calls_run_beside_commands(calls: Calls) -> None:
    site = calls.site
    commands = site.submit(shell("echo $PILOTMTC_TASK_ID"), copies=30)
    tasks = calls.submit(twice, *[(number,) for number in range(2000)])
    pilot = site.start(PilotDescription(cores=2))
    assert calls.values(tasks) == [2 * number for number in range(2000)]
    assert calls.returned(tasks[-1:])[0].value_text == "3998"
    assert site.wait() == {TaskState.DONE: 2030}
    assert [site.output(task).stdout.decode() for task in commands] == [f"{task}\n" for task in commands]
    assert 1 <= len(function_workers(pilot.directory)) <= 2
    assert {len(site.attempts(task)) for task in tasks[::100]} == {1}


def test_values_of_any_size_go_in_and_out(calls: Calls) -> None:
    data = os.urandom(3 * PART_BYTES)
    put = calls.put(b"".join(bytes(part) for part in pickled.dump_value([1, 2, 3])))
    (large,) = calls.submit(twice, (data,))
    args = dump_args(Argument("input", 0), Argument("value", put))
    (joined,) = calls.submit(lambda one, two: (len(one), two), Call(Value(args), (large,), (put,)))
    calls.site.start()
    assert calls.values([large])[0] == 2 * data
    assert calls.values([joined]) == [(6 * PART_BYTES, [1, 2, 3])]


def test_exception_and_output_are_in_the_store(calls: Calls) -> None:
    def fail(what: str) -> None:
        print("about to fail")
        raise ValueError(what)

    (task,) = calls.submit(fail, ("bad x",))
    calls.site.start()
    (row,) = calls.returned([task])
    assert (row.state, row.cause, row.exit_code, row.value_text) == (
        TaskState.FAILED,
        Cause.EXIT,
        1,
        "ValueError: bad x",
    )
    assert "in fail" in str(calls.load(row).__cause__)
    assert row.stderr.endswith(b"ValueError: bad x\n")
    assert calls.site.output(task).stdout == b"about to fail\n"


def test_running_call_is_seen_and_canceled(calls: Calls, tmp_path: Path) -> None:
    site = calls.site
    tasks = calls.submit(say_and_wait, *[(str(tmp_path / "go"),) for _ in range(6)])
    site.start(PilotDescription(cores=2, pin=False))
    site.wait_running(tasks[0])
    site.wait_written(tasks[0], lambda tail: tail.stdout == b"here I am\n")
    site.client.call(Cancel(secrets.token_hex(8), Filter(ids=(tasks[0], tasks[5]))))
    assert [row.cause for row in calls.returned([tasks[0], tasks[5]])] == [Cause.CANCELED, None]
    (tmp_path / "go").touch()
    assert calls.values(tasks[1:5]) == [site.url] * 4
    assert site.wait() == {TaskState.DONE: 4, TaskState.CANCELED: 2}


def test_slow_call_does_not_hold_up_those_behind_it(calls: Calls, tmp_path: Path) -> None:
    def work(path: str) -> None:
        if path:
            wait_for(path)

    go = str(tmp_path / "go")
    rows = [(go if number == 600 else "",) for number in range(1000)]
    tasks = calls.submit(work, *rows)
    calls.site.start()
    calls.site.wait_done(999)
    Path(go).touch()
    assert calls.site.wait() == {TaskState.DONE: 1000}
    assert len(calls.site.attempts(tasks[600])) == 1


def test_limits_of_calls(calls: Calls) -> None:
    def fill(size: int) -> None:
        held = b"x" * size
        time.sleep(1000)
        del held

    (late,) = calls.submit(nap_for, (1000,), resources=Resources(time_limit_s=0.5, grace_s=0.5))
    (fat,) = calls.submit(fill, (200 << 20,), resources=Resources(memory_bytes=100 << 20, grace_s=0.5))
    calls.site.start(PilotDescription(cores=2, pin=False, memory_bytes=1 << 30))
    rows = calls.returned([late, fat])
    assert [(row.cause, row.message) for row in rows] == [
        (Cause.TIMEOUT, "over its time limit"), (Cause.OOM, "over its memory limit"),
    ]  # fmt: skip


def test_killed_workers_lose_no_call(calls: Calls) -> None:
    tasks = calls.submit(twice, *[(number,) for number in range(6000)], max_retries=50)
    pilot = calls.site.start()
    for done in range(500, 5500, 500):
        calls.site.wait_done(done)
        for pid in function_workers(pilot.directory)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert calls.values(tasks) == [2 * number for number in range(6000)]
    assert calls.site.wait() == {TaskState.DONE: 6000}


def test_agent_that_is_killed_leaves_no_worker(calls: Calls, tmp_path: Path) -> None:
    site = calls.site
    mark = nap()

    def leave_behind(path: str) -> None:
        import subprocess

        subprocess.Popen(["sleep", mark], start_new_session=True)
        wait_for(path)

    go = str(tmp_path / "go")
    tasks = calls.submit(leave_behind, (go,), (go,))
    pilot = site.start()
    for task in tasks:
        site.wait_running(task)
    wait_until(lambda: len(alive(mark)) == 2)
    os.kill(site.agent(pilot.id), signal.SIGKILL)
    wait_until(lambda: not alive(mark) and not function_workers(pilot.directory))
    assert site.wait_over(pilot.id).state is PilotState.FAILED
    Path(go).touch()
    site.start()
    assert site.wait() == {TaskState.DONE: 2}


def test_canceled_pilot_gives_its_calls_back(calls: Calls, tmp_path: Path) -> None:
    site = calls.site
    go = str(tmp_path / "go")
    tasks = calls.submit(wait_for, *[(go,) for _ in range(10)])
    pilot = site.start()
    site.wait_running(tasks[0])
    site.client.call(CancelPilot(pilot.id))
    site.wait_over(pilot.id)
    wait_until(lambda: not function_workers(pilot.directory))
    Path(go).touch()
    site.start()
    assert site.wait() == {TaskState.DONE: 10}


def test_initializer_that_fails_fails_all_calls(calls: Calls) -> None:
    def load() -> None:
        raise OSError("no model")

    tasks = calls.submit(twice, *[(number,) for number in range(5)], initializer=load)
    calls.site.start()
    rows = calls.returned(tasks)
    assert {row.cause for row in rows} == {Cause.LAUNCH_ERROR}
    assert {row.message for row in rows} == {"the initializer failed: OSError: no model"}
    assert str(pickled.load_exception(rows[0].value.data if rows[0].value else b"")) == "no model"


# -- many nodes --------------------------------------------------------------------------------------------------


def test_calls_run_on_all_nodes(calls: Calls) -> None:
    def where(seconds: float) -> tuple[str, int]:
        time.sleep(seconds)
        return os.environ["PILOTMTC_CORE_LIST"], os.getpid()

    with running_pool(calls.site, 2, 2) as pool:
        pool.wait_nodes(2)
        tasks = calls.submit(where, *[(0.05,) for _ in range(40)])
        values = calls.values(tasks)
        rows = calls.returned(tasks)
        assert {row.node for row in rows} == {"n1", "n2"}
        assert {cores for cores, _ in values} <= {"0", "1", "2", "3"}
        assert len({pid for _, pid in values}) <= 4
        quick = calls.submit(twice, *[(number,) for number in range(3000)])
        assert calls.values(quick) == [2 * number for number in range(3000)]
        (large,) = calls.submit(twice, (os.urandom(100_000),))
        assert len(calls.values([large])[0]) == 200_000


def test_slow_call_on_one_node_lets_others_go(calls: Calls, tmp_path: Path) -> None:
    def work(path: str) -> None:
        if path:
            wait_for(path)

    go = str(tmp_path / "go")
    with running_pool(calls.site, 2, 1) as pool:
        pool.wait_nodes(2)
        tasks = calls.submit(work, *[(go if number == 300 else "",) for number in range(600)])
        calls.site.wait_done(599)
        calls.site.wait_running(tasks[300])
        calls.site.client.call(Cancel(secrets.token_hex(8), Filter(ids=(tasks[300],))))
        assert calls.returned(tasks[300:301])[0].cause is Cause.CANCELED
        (following,) = calls.submit(twice, (4,))
        assert calls.values([following]) == [8]


def test_node_worker_that_is_killed_loses_no_call(calls: Calls) -> None:
    with running_pool(calls.site, 2, 2) as pool:
        pool.wait_nodes(2)
        tasks = calls.submit(twice, *[(number,) for number in range(5000)])
        calls.site.wait_done(500)
        os.kill(pool.workers()["n1"], signal.SIGKILL)
        assert calls.values(tasks) == [2 * number for number in range(5000)]
        assert calls.site.wait() == {TaskState.DONE: 5000}


def test_calls_are_bound_to_their_cores_on_nodes(calls: Calls) -> None:
    def look() -> tuple[set[int], str]:
        time.sleep(0.05)
        return os.sched_getaffinity(0), os.environ["PILOTMTC_CORE_LIST"]

    calls.site.start(PilotDescription(cores=2, pin=True))
    for cores, name in calls.values(calls.submit(look, *[() for _ in range(20)])):
        assert cores == {int(name)}


def test_pickles_are_not_looked_at_on_the_way(calls: Calls) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os._exit, (7,)

    (task,) = calls.submit(twice, Call(Value(pickle.dumps(((Evil(),), {}), 5))))
    calls.site.start()
    (row,) = calls.returned([task])
    assert (row.cause, row.exit_code) == (Cause.EXIT, 7)  # it was the worker that read it
