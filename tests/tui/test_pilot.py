"""A pilot from near, and what can be done with pilots: against a real store with real pilots."""

from pathlib import Path

import pytest
from textual.widgets import Input

from pilotmtc.session import Session
from pilotmtc.states import PilotState, TaskState
from pilotmtc.tui.screens.pilot import PilotScreen
from pilotmtc.tui.screens.task import TaskScreen
from pilotmtc.tui.widgets.windows.dialogs import Confirm, Form
from tests.serving import Place
from tests.support import wait_until
from tests.tui.driving import Driver, drive

SIZES = [(80, 24), (160, 50)]


@pytest.mark.parametrize("size", SIZES)
def test_every_part_of_a_pilot_is_shown(place: Place, size: tuple[int, int]) -> None:
    with Session(place.path) as session:
        session.submit("exit {}", [0, 0, 3])
        session.submit("sleep 600")
        pilot = session.pilots.submit(cores=2)

        async def script(screen: Driver) -> None:
            await screen.see("1 failed", "▶ ACTIVE")
            await screen.press("enter")
            await screen.see(f"pilot {pilot.id}", "cores 1/2 busy", "1/2", "3 ended", "■")
            await screen.press("2")
            await screen.see("SLOT", "4")
            await screen.press("enter")
            await screen.until(lambda: isinstance(screen.app.screen, TaskScreen))
            await screen.press("escape", "3")
            await screen.see("2 cores", "attempts", "a cell", "X", "▓")
            before = screen.text()
            await screen.press("minus")
            await screen.until(lambda: screen.text() != before)
            await screen.press("4")
            await screen.see("TIME", "WHAT")
            await screen.press("5")
            await screen.until(lambda: pilot.directory in "".join(screen.text().split()))  # over two lines
            assert "No such file" not in screen.text()
            await screen.press("6")
            await screen.see("agent.log", "is active")
            await screen.press("y")
            await screen.until(lambda: screen.app.clipboard == str(pilot.id))
            await screen.press("escape")
            await screen.see("overview")

        try:
            drive(str(place.path), script, size)
        finally:
            session.pilots.cancel(pilot.id)
            session.pilots.wait(pilot.id, 30)


def test_pilot_is_canceled_only_after_a_yes(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("sleep 600")
        pilot = session.pilots.submit(cores=1)

        async def script(screen: Driver) -> None:
            await screen.see("1 running", "▶ ACTIVE", "cores 1/1 busy")
            await screen.press("x")
            await screen.see(f"Cancel pilot {pilot.id}", "are killed; another pilot runs them again")
            await screen.press("enter")  # the button that has the focus is No
            await screen.until(lambda: not isinstance(screen.app.screen, Confirm))
            assert session.pilots.get(pilot.id).state is PilotState.ACTIVE
            await screen.press("enter", "x")
            await screen.see(f"Cancel pilot {pilot.id}")
            await screen.press("y")
            await screen.see("⊘ CANCELED")
            await screen.press("x")
            await screen.see("has ended already")

        drive(str(place.path), script)
        assert session.pilots.wait(pilot.id, 30).state is PilotState.CANCELED


def test_drained_pilot_finishes_what_runs(place: Place, tmp_path: Path) -> None:
    with Session(place.path) as session:
        campaign = session.submit(f"until test -e {tmp_path}/go; do sleep 0.05; done; echo {{}}", [1, 2])
        pilot = session.pilots.submit(cores=1)

        async def script(screen: Driver) -> None:
            await screen.see("1 running", "▶ ACTIVE", "cores 1/1 busy")
            await screen.press("d")
            await screen.see("run to their end")
            await screen.press("y")
            await screen.until(lambda: session.pilots.get(pilot.id).state is PilotState.DRAINING)
            await screen.until(lambda: TaskState.CLAIMED not in session.campaign(campaign).counts)
            (tmp_path / "go").touch()
            await screen.see("✓ DONE", "1 done", "1 ready")

        drive(str(place.path), script)
        assert session.pilots.wait(pilot.id, 30).state is PilotState.DONE


def test_pilot_is_submitted_by_a_form_that_keeps_what_was_typed(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("true")

        async def fill(screen: Driver, **texts: str) -> None:
            await screen.until(lambda: isinstance(screen.app.screen, Form))
            names = ("site", "nodes", "cores", "walltime", "idle")
            for name, field in zip(names, screen.app.screen.query(Input), strict=False):
                if name in texts:
                    field.value = texts[name]
            await screen.press("ctrl+s")

        async def script(screen: Driver) -> None:
            await screen.see("1 ready")
            await screen.press("p")
            await fill(screen, cores="one", walltime="1h")
            await screen.see("cores 'one': give a whole number", "1h")
            await fill(screen, cores="1", walltime="soon")
            await screen.see("✗ 'soon' is not a duration")
            await screen.until(lambda: getattr(screen.app.focused, "value", "") == "soon")  # the field to correct
            await fill(screen, walltime="1h", idle="0.5s")
            await screen.see("1 done", "✓ DONE")

        drive(str(place.path), script)
        (pilot,) = session.pilots.list(ended=True)
        assert pilot.description.walltime_s == 3600.0
        assert pilot.description.cores == 1
        wait_until(lambda: session.pilots.get(pilot.id).state is PilotState.DONE, 30)


def test_pilot_that_is_not_there_is_said(place: Place) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("● live")
        screen.app.push_screen(PilotScreen(7))
        await screen.see("There is no pilot 7")

    drive(str(place.path), script)
