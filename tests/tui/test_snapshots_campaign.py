"""What a campaign looks like from near, on its page and beside the overview, compared with approved pictures."""

import pytest

from pilotmtc.tui.app import MtcApp
from tests.tui.fixed import running
from tests.tui.fixed_pilot import from_near
from tests.tui.stills import Compare, app_with, shown

pytestmark = pytest.mark.usefixtures("still")
SIZES = [(80, 24), (100, 30), (160, 45)]


def app_of() -> MtcApp:
    return app_with(running(failures=True), from_near())


@pytest.mark.parametrize("size", SIZES)
def test_campaign(snap_compare: Compare, size: tuple[int, int]) -> None:
    before = shown(lambda app: app.open_campaign(1), "median")
    assert snap_compare(app_of(), terminal_size=size, run_before=before)


def test_campaign_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    before = shown(lambda app: app.open_campaign(2), "median")
    assert snap_compare(app_of(), terminal_size=(100, 30), run_before=before)


@pytest.mark.parametrize(("words", "keys"), [("Nodes and their slots", ()), ("median", ("tab",))])
def test_what_the_cursor_is_on(snap_compare: Compare, words: str, keys: tuple[str, ...]) -> None:
    assert snap_compare(app_of(), terminal_size=(160, 45), run_before=shown(lambda app: None, keys, words))
