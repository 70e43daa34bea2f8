"""What a pilot from near looks like, and what is asked before something is done with it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.sites import Site, save_site
from pilotmtc.tui.app import MtcApp
from tests.tui import fixed_pilot
from tests.tui.fixed import running
from tests.tui.stills import LARGE, MIDDLE, SMALL, Before, Compare, app_with, shown

pytestmark = pytest.mark.usefixtures("still")


def app_of(answers: Mapping[type, Any], trouble: str = "") -> MtcApp:
    return app_with(running(), answers, trouble)


def opened(*steps: str | tuple[str, ...], pilot: int = 2) -> Before:
    return shown(lambda app: app.open_pilot(pilot), "waited", *steps)


PARTS = {"nodes": ("1", "c1-01"), "running": ("2", "40-43"), "slots": ("3", "% used"), "events": ("4", "attached"),
         "job": ("5", "SBATCH"), "log": ("6", "is said as it is")}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_part(snap_compare: Compare, part: str) -> None:
    key, word = PARTS[part]
    before = opened((key,), word)
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=SMALL, run_before=before)


@pytest.mark.parametrize("part", ["nodes", "slots"])
def test_part_on_a_large_screen(snap_compare: Compare, part: str) -> None:
    key, word = PARTS[part]
    before = opened((key,), word)
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=LARGE, run_before=before)


def test_slots_from_closer(snap_compare: Compare) -> None:
    before = opened(("3",), "% used", ("plus", "plus", "down", "down", "right", "right"), "a cell")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=MIDDLE, run_before=before)


def test_slots_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    before = opened(("3",), "% used")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=SMALL, run_before=before)


def test_nodes_in_light(snap_compare: Compare) -> None:
    before = opened(("ctrl+t",), "c1-01")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=SMALL, run_before=before)


@pytest.mark.parametrize("part", ["nodes", "events", "log"])
def test_waiting_one(snap_compare: Compare, part: str) -> None:
    before = opened((PARTS[part][0],), {"nodes": "", "events": "job 4712", "log": "not there yet"}[part], pilot=3)
    assert snap_compare(app_of(fixed_pilot.pending()), terminal_size=SMALL, run_before=before)


@pytest.mark.parametrize("part", ["nodes", "slots"])
def test_ended_one(snap_compare: Compare, part: str) -> None:
    before = opened((PARTS[part][0],), {"nodes": "", "slots": "% used"}[part], pilot=1)
    assert snap_compare(app_of(fixed_pilot.over()), terminal_size=SMALL, run_before=before)


def test_pilot_without_a_link(snap_compare: Compare) -> None:
    def open_(app: MtcApp) -> None:
        app.heard_at = -125.0
        app.open_pilot(2)

    before = shown(open_, "waited", "NO LINK")
    app = app_of(fixed_pilot.active(), trouble="login.boulder: no route to host")
    assert snap_compare(app, terminal_size=SMALL, run_before=before)


def test_keys_of_a_pilot(snap_compare: Compare) -> None:
    before = opened(("question_mark",), "Drain")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=MIDDLE, run_before=before)


@pytest.mark.parametrize("key", ["d", "x"])
def test_what_becomes_of_a_pilot(snap_compare: Compare, key: str) -> None:
    before = opened((key,), "No (n)")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=SMALL, run_before=before)


@pytest.fixture
def boulder(surroundings: Path) -> None:
    """Have a site of the user's own."""
    save_site(Site(name="boulder", scheduler="slurm", queue="normal", account="acc", nodes=64, walltime="2h"))


@pytest.mark.usefixtures("boulder")
@pytest.mark.parametrize("opener", [opened, lambda *steps: shown(lambda app: None, *steps)], ids=["pilot", "overview"])
def test_form(snap_compare: Compare, opener: Callable[..., Before]) -> None:
    before = opener(("p",), "Walltime")
    assert snap_compare(app_of(fixed_pilot.active()), terminal_size=SMALL, run_before=before)
