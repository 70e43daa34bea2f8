"""What the overview and small windows look like, in every mode that matters, compared with approved pictures.

After a change that is meant: ``make test ARGS="tests/tui -k snapshots --snapshot-update"``, and look at them.
"""

from pathlib import Path

import pytest
from textual.pilot import Pilot

from pilotmtc.tui.widgets.windows.dialogs import Confirm
from tests.tui.fixed import empty, running
from tests.tui.fixed_pilot import from_near
from tests.tui.stills import LARGE, MIDDLE, SMALL, Before, Compare, app_with, at_rest, settled, shown

pytestmark = pytest.mark.usefixtures("still")


def pressed(key: str) -> Before:
    """Return what presses a key once all is drawn."""
    return shown(lambda app: None, (key,))


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_empty_store(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(app_with(empty()), terminal_size=size, run_before=settled)


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
def test_running(snap_compare: Compare, size: tuple[int, int]) -> None:
    seen = ["Nodes and their slots"] if size == LARGE else []
    app = app_with(running(), from_near())
    assert snap_compare(app, terminal_size=size, run_before=shown(lambda app: None, *seen))


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_failures(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(app_with(running(failures=True)), terminal_size=size, run_before=settled)


def test_light(snap_compare: Compare) -> None:
    assert snap_compare(app_with(running(failures=True)), terminal_size=SMALL, run_before=pressed("ctrl+t"))


def test_no_colour(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app_with(running(failures=True)), terminal_size=SMALL, run_before=settled)


def test_disconnected(snap_compare: Compare) -> None:
    app = app_with(running(), trouble="login.boulder: no route to host")

    async def later(pilot: "Pilot[None]") -> None:
        await settled(pilot)
        app.heard_at = -125.0
        app._show_status()
        await at_rest(pilot)

    assert snap_compare(app, terminal_size=SMALL, run_before=later)


def test_keys(snap_compare: Compare) -> None:
    assert snap_compare(app_with(running()), terminal_size=MIDDLE, run_before=pressed("question_mark"))


def test_what_will_happen_is_said_first(snap_compare: Compare) -> None:
    app = app_with(running())

    async def asked(pilot: "Pilot[None]") -> None:
        await settled(pilot)
        app.push_screen(Confirm("Cancel pilot 2 [boulder]?\n\n3,072 tasks are killed and go back, for another to run."))
        await at_rest(pilot)

    assert snap_compare(app, terminal_size=SMALL, run_before=asked)


def test_login_asks_in_a_window(snap_compare: Compare) -> None:
    app = app_with(empty())

    async def asked(pilot: "Pilot[None]") -> None:
        import concurrent.futures

        await settled(pilot)
        answers: concurrent.futures.Future[list[str]] = concurrent.futures.Future()
        app._question(["Welcome to boulder\n(me@login.boulder) Password: ", "Token: "], [False, True], answers)
        await pilot.pause(0.05)
        await pilot.press(*"secret", "enter", *"123")
        await at_rest(pilot)

    assert snap_compare(app, terminal_size=SMALL, run_before=asked)


def test_pictures_are_all_used() -> None:
    """Keep no picture that no test looks at."""
    here = Path(__file__).parent
    for folder in (here / "__snapshots__").iterdir():
        text = (here / f"{folder.name}.py").read_text()
        for name in {path.stem.partition("[")[0] for path in folder.iterdir()}:
            assert f"def {name}(" in text, f"{folder.name}/{name}*.svg"
