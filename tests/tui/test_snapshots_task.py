"""What a task from near looks like."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pilotmtc.model import Function, TaskId
from pilotmtc.protocol.client.tasks import GetOutput, GetTail, GetTask, Output, Tail
from pilotmtc.protocol.records import Neighbour, OutputTail
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.tui.app import MtcApp
from tests.tui.fixed import NOW, FixedGateway, running
from tests.tui.fixed_tasks import attempt, near, render, scan
from tests.tui.stills import LARGE, MIDDLE, SMALL, Compare, app_with, shown

pytestmark = pytest.mark.usefixtures("still")
S = TaskState
STDOUT = b"".join(b"step %4d  likelihood %.6f\n" % (step, 1 / (step + 1)) for step in range(60))
STDERR = "warning: \x1b[31mno convergence\x1b[0m after 60 steps\nTraceback: größer als 東京\n".encode()


TRACEBACK = b"""\
Traceback (most recent call last):
  File "/scratch/me/higgs/work.py", line 7, in simulate
    raise ValueError(f"x is {x}: it must not be negative")
ValueError: x is -1.5: it must not be negative
"""


def task_screen(app: MtcApp) -> None:
    gateway = app.gateway
    assert isinstance(gateway, FixedGateway)
    app.open_task(gateway.answers[GetTask].task.id)


def of_a_failed_one() -> MtcApp:
    attempts = (
        attempt(20, 1, Cause.NODE_LOST, elapsed_s=86_500.0, ago_s=90_000.0, message="node c1-21 does not answer"),
        attempt(20, 2, Cause.SIGNAL, elapsed_s=0.012, ago_s=2_000.0),
        attempt(20, 3, Cause.OOM, elapsed_s=7_300.0, ago_s=60.0, message="2.0G used, 2.0G allowed"),
    )
    needed_by = tuple([Neighbour(TaskId(id_), S.SKIPPED, True) for id_ in range(21, 27)])
    needs = (Neighbour(TaskId(3), S.DONE, True), Neighbour(TaskId(1_000_017), S.FAILED, False))
    task = replace(scan(20, S.FAILED, attempts[-1]), failures=2, crashes=1, name="scan at 122.0 GeV")
    wrote = Output(True, 3, STDOUT, STDERR, len(STDOUT), len(STDERR), "/scratch/me/higgs/20.out")
    return app_with(
        running(failures=True), {**near(task, *attempts, needs=needs, needed_by=needed_by), GetOutput: wrote}
    )


def of_a_running_one() -> MtcApp:
    task = replace(scan(26, S.RUNNING), tags=("night", "higgs"), priority=10)
    written = OutputTail(TaskId(26), 1, STDOUT, b"", 123_456_789, 0)
    return app_with(running(), {**near(task), GetTail: Tail(1, NOW, written)})


def of_a_waiting_one() -> MtcApp:
    blockers = (scan(26, S.RUNNING), scan(36, S.READY), *(render(id_, S.WAITING, unmet=3) for id_ in range(7, 11)))
    needs = tuple([Neighbour(task.id, task.state, index != 1) for index, task in enumerate(blockers)])
    return app_with(
        running(), near(render(1_000_042, S.WAITING, unmet=12, name="merge"), needs=needs, blockers=blockers)
    )


def of_a_ready_one() -> MtcApp:
    overview = running()
    pilots = tuple([pilot for pilot in overview.pilots if pilot.state is not PilotState.DONE])
    task = replace(scan(36, S.READY), resources=replace(scan(36, S.READY).resources, cores=96, gpus=2.0))
    return app_with(overview, near(task, pilots=pilots, ahead=10_000))


def of_a_call() -> MtcApp:
    last = replace(attempt(27, 2, code=1, elapsed_s=0.31), value_text="ValueError: x is -1.5: it must not be negative")
    task = replace(
        scan(27, S.FAILED, last), command=("simulate({args})",), params={"args": "-1.5, seed=3"}, function="simulate"
    )
    function = Function("simulate", "0" * 64, python="/opt/python3.12/bin/python", version=(3, 12))
    first = replace(attempt(27, 1, Cause.SIGNAL, elapsed_s=0.1, ago_s=700.0), message="the function worker ended")
    found = near(task, first, last)
    template = replace(found[GetTask].template, function=function, fields=("args",))
    return app_with(
        running(failures=True),
        {
            **found,
            GetTask: replace(found[GetTask], template=template),
            GetOutput: Output(True, 2, b"", TRACEBACK, 0, len(TRACEBACK)),
        },
    )


@pytest.mark.parametrize(
    "app", [of_a_failed_one, of_a_running_one, of_a_waiting_one, of_a_ready_one], ids=lambda app: app.__name__
)
def test_why(snap_compare: Compare, app: Callable[[], MtcApp]) -> None:
    assert snap_compare(app(), terminal_size=SMALL, run_before=shown(task_screen, "1 Why", "campaign"))


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_attempts(snap_compare: Compare, size: tuple[int, int]) -> None:
    before = shown(task_screen, "campaign", ("3",), "node lost")
    assert snap_compare(of_a_failed_one(), terminal_size=size, run_before=before)


def test_output_of_a_failed_one(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("2",), "stdout", ("end",), "Traceback")
    assert snap_compare(of_a_failed_one(), terminal_size=SMALL, run_before=before)


def test_output_of_a_running_one(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("2",), "step   59", ("end",))
    assert snap_compare(of_a_running_one(), terminal_size=MIDDLE, run_before=before)


def test_call_that_failed(snap_compare: Compare) -> None:
    assert snap_compare(of_a_call(), terminal_size=MIDDLE, run_before=shown(task_screen, "Traceback"))


def test_attempts_of_a_call(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("3",), "raised ValueError")
    assert snap_compare(of_a_call(), terminal_size=MIDDLE, run_before=before)


def test_neighbours(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("4",), "SKIPPED")
    assert snap_compare(of_a_failed_one(), terminal_size=SMALL, run_before=before)


def test_failed_one_in_light(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("ctrl+t", "3"), "node lost")
    assert snap_compare(of_a_failed_one(), terminal_size=SMALL, run_before=before)


def test_neighbours_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    before = shown(task_screen, "campaign", ("4",), "RUNNING")
    assert snap_compare(of_a_waiting_one(), terminal_size=SMALL, run_before=before)


def test_why_on_a_large_screen(snap_compare: Compare) -> None:
    assert snap_compare(of_a_failed_one(), terminal_size=LARGE, run_before=shown(task_screen, "campaign"))


def test_keys_of_a_task(snap_compare: Compare) -> None:
    before = shown(task_screen, "campaign", ("question_mark",), "Retry")
    assert snap_compare(of_a_failed_one(), terminal_size=MIDDLE, run_before=before)
