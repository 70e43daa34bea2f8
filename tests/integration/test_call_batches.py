"""Short calls that are started together, by a real agent on a real store."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from pilotmtc.model import PilotDescription
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import Filter
from pilotmtc.states import TaskState
from tests.integration.agent_support import running_site
from tests.integration.calls_support import Calls
from tests.support import command_lines, wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])
MANY = 6000


@pytest.fixture
def calls(tmp_path: Path, surroundings: Path) -> Iterator[Calls]:
    with running_site(tmp_path) as site:
        yield Calls(site)


def same(value: Any) -> Any:
    return value


def sometimes_slow(value: int) -> int:
    if value % 500 == 7:
        time.sleep(0.2)
    return value


def later_ones_wait(value: int, path: str) -> int:
    while value >= MANY // 2 and not os.path.exists(path):
        time.sleep(0.01)
    return value


def function_workers(directory: str) -> list[int]:
    return [pid for pid, line in command_lines().items() if "functions/worker.py" in line and directory in line]


def hold_up(pid: int, seconds: float) -> None:
    """Stop a process for a while."""
    try:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def test_workers_that_are_held_up_lose_nothing_and_run_nothing_twice(calls: Calls) -> None:
    tasks = calls.submit(same, *[(number,) for number in range(MANY)])
    pilot = calls.site.start(PilotDescription(cores=2))
    pauses = itertools.cycle([0.06, 0.02, 0.12])

    def over() -> bool:
        for pid in function_workers(pilot.directory):
            hold_up(pid, next(pauses))
        return calls.site.counts().get(TaskState.DONE, 0) == MANY

    wait_until(over, 90.0, on_timeout=calls.site.counts)
    assert calls.values(tasks) == list(range(MANY))
    assert {len(calls.site.attempts(task)) for task in tasks[::200]} == {1}
    assert calls.site.client.call(CheckStore()).problems == ()


def test_slow_calls_among_quick_ones_hold_up_nobody(calls: Calls) -> None:
    tasks = calls.submit(sometimes_slow, *[(number,) for number in range(MANY)])
    calls.site.start(PilotDescription(cores=2))
    assert calls.values(tasks) == list(range(MANY))
    assert {len(calls.site.attempts(task)) for task in tasks[7::500]} == {1}


def test_calls_are_canceled_in_the_middle_of_it(calls: Calls, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    tasks = calls.submit(later_ones_wait, *[(number, go) for number in range(MANY)])
    calls.site.start(PilotDescription(cores=2))
    wait_until(lambda: calls.site.counts().get(TaskState.DONE, 0) == MANY // 2, 60.0, on_timeout=calls.site.counts)
    calls.site.client.call(Cancel("half", Filter(ids=tuple(tasks[::2]))))
    canceled = MANY // 4  # those that run, too: they may end only after they were told to
    wait_until(lambda: calls.site.counts().get(TaskState.CANCELED, 0) == canceled, 60.0, on_timeout=calls.site.counts)
    Path(go).touch()
    rows = calls.returned(tasks)
    assert {row.state for row in rows[: MANY // 2]} == {row.state for row in rows[1::2]} == {TaskState.DONE}
    assert {row.state for row in rows[MANY // 2 :: 2]} == {TaskState.CANCELED}
    assert [calls.load(row) for row in rows[1::2]] == list(range(1, MANY, 2))
