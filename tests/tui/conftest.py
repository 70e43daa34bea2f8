"""A store for the screen, and a time that stands still for its pictures."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.widgets import Input

from tests.serving import Place, a_place
from tests.tui.fixed import NOW


@pytest.fixture
def place(tmp_path: Path, surroundings: Path) -> Iterator[Place]:
    """Give a store's path; its server, if a test starts one, is ended."""
    with a_place(tmp_path) as found:
        yield found


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no cursor that blinks, nothing half-way moved, no age that grows, and times of one day in one place."""
    monkeypatch.setattr("textual.constants.COLOR_SYSTEM", "truecolor")
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr(Input.cursor_blink, "_default", False)
    monkeypatch.setattr("pilotmtc.tui.base.monotonic", lambda: 0.0)
    for module in ("app", "screens.task_list"):
        monkeypatch.setattr(f"pilotmtc.tui.{module}.time", SimpleNamespace(monotonic=lambda: 0.0, time=lambda: NOW))
    clock = SimpleNamespace(localtime=lambda at=NOW: time.gmtime(at), strftime=time.strftime)
    monkeypatch.setattr("pilotmtc.text.numbers.time", clock)
