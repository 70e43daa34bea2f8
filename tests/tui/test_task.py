"""A task from near, by its keys, against a real store."""

import re
from pathlib import Path

import pytest

from pilotmtc.session import Session
from pilotmtc.states import TaskState
from pilotmtc.tui.screens.task import TaskScreen
from tests.serving import Place
from tests.tui.driving import Driver, drive


async def open_task(screen: Driver, task: int) -> None:
    await screen.see("● live")
    screen.app.open_task(task)
    await screen.until(lambda: isinstance(screen.app.screen, TaskScreen))


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_every_part_of_a_task_is_shown(place: Place, size: tuple[int, int]) -> None:
    with Session(place.path) as session:
        command = "echo try $PILOTMTC_ATTEMPT of {mass}; echo alas >&2; test $PILOTMTC_ATTEMPT = 3"
        session.submit(command, {"mass": [125]}, retries=5, backoff=0, task_name="higgs", tags=["night"], cores=2)
        session.submit("true", after=[1])
        session.submit("true", after=[2])
        session.pilots.wait(session.pilots.submit(cores=2, idle="0.2s").id, 60)

        async def script(screen: Driver) -> None:
            await open_task(screen, 1)
            await screen.see("task 1", "✓ DONE", "higgs", "retries 2/5", "params", "mass=125", "2 cores", "night")
            await screen.press("2")
            await screen.see("attempt 3 of 3", "stdout: 13 bytes", "try 3 of 125", "stderr: 5 bytes", "alas")
            await screen.press("3")
            await screen.see("ATTEMPT", "exit 1", "exit 0")
            await screen.press("home", "enter")
            await screen.see("attempt 1 of 3", "try 1 of 125")
            await screen.press("4")
            await screen.see("it needs this task")
            await screen.press("enter")
            await screen.see("task 2", "✓ DONE")
            await screen.press("4")
            await screen.see("this task needs it", "it needs this task")
            await screen.press("y")
            await screen.until(lambda: screen.app.clipboard == "2")
            await screen.press("escape")
            await screen.see("task 1")
            await screen.press("escape")
            await screen.see("overview")

        drive(str(place.path), script, size)


def test_why_a_task_does_not_run_is_said_and_goes_on(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("exit 3")
        session.submit("echo after", after=[1])

        async def script(screen: Driver) -> None:
            await open_task(screen, 2)
            await screen.see("◌ WAITING", "1 task must end before it", "Task 1 has not started")
            await screen.press("2")
            await screen.see("There is no output yet")
            await screen.press("1")
            session.pilots.submit(cores=1, idle="0.2s")
            await screen.see("↷ SKIPPED")
            screen.app.open_task(1)
            await screen.see("✗ FAILED", "exit 3")
            await screen.press("r")
            await screen.see("Retry 1 task (id 1)?")
            await screen.press("y")
            await screen.see("2 tasks will run again", "○ READY")  # and the one that was skipped for it
            await screen.press("c")
            await screen.see("Cancel 1 task (id 1)?")
            await screen.press("y")
            await screen.see("⊘ CANCELED")
            assert session.task(1).task.state is TaskState.CANCELED  # type: ignore[union-attr]  # it is there

        drive(str(place.path), script)


def test_time_of_a_running_task_goes_on(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("sleep 600")
        pilot = session.pilots.submit(cores=1)

        async def script(screen: Driver) -> None:
            await open_task(screen, 1)
            await screen.see("▶ RUNNING", "It has run for", f"on pilot {pilot.id}")
            before = screen.static("head")
            await screen.until(lambda: screen.static("head") != before)

        try:
            drive(str(place.path), script)
        finally:
            session.pilots.cancel(pilot.id)
            session.pilots.wait(pilot.id, 30)


def test_what_a_task_writes_is_shown_while_it_runs(place: Place, tmp_path: Path) -> None:
    with Session(place.path) as session:
        line = "seq 100; while ! test -e {}; do sleep 0.05; done; echo and on; echo alas >&2; sleep 600"
        session.submit(line, [str(tmp_path / "go")])
        pilot = session.pilots.submit(cores=1)

        async def script(screen: Driver) -> None:
            await open_task(screen, 1)
            await screen.press("2")
            await screen.see("attempt 1 of 1 runs", "stdout 292 bytes")
            await screen.press("end")
            await screen.until(lambda: re.search(r"100 +100\s", screen.text()))
            (tmp_path / "go").touch()
            await screen.see("and on", "alas")  # the end stays in sight
            session.pilots.cancel(pilot.id)
            await screen.see("○ READY", "and on")
            await screen.press("home")
            await screen.see("attempt 1 of 1 wrote")

        drive(str(place.path), script)
        session.pilots.wait(pilot.id, 30)


def test_task_that_is_not_there_is_said(place: Place) -> None:
    async def script(screen: Driver) -> None:
        await open_task(screen, 7)
        await screen.see("There is no task 7")
        await screen.press("r", "c", "e", "o", "y", "1", "2", "3", "4")
        assert isinstance(screen.app.screen, TaskScreen)

    drive(str(place.path), script)
