"""How far a pool is, as it is shown."""

import sys
from typing import Any

import pytest

from pilotmtc.executor import progress
from pilotmtc.executor.progress import PoolProgress, Words, progress_of
from pilotmtc.model import Campaign, CampaignId
from pilotmtc.states import TaskState


class Place:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, campaign: Campaign) -> None:
        self.shown.append(f"{campaign.counts.get(TaskState.DONE, 0)}/{campaign.received}")

    def hide(self) -> None:
        self.shown.append("hidden")


def of(done: int, all_: int) -> Campaign:
    return Campaign(CampaignId(1), "", "", 0.0, all_, True, {TaskState.DONE: done})


def test_what_is_quick_is_not_shown() -> None:
    place = Place()
    show = PoolProgress(place)
    show(of(0, 3))
    show(of(3, 3))
    assert place.shown == []


def test_work_is_shown_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUICK_S", 0.0)
    place = Place()
    show = PoolProgress(place)
    for done in (0, 1, 3):
        show(of(done, 3))
    show(of(3, 4))
    show.finish(of(4, 4))
    show.finish(of(4, 4))
    assert place.shown == ["0/3", "1/3", "3/3", "hidden", "3/4", "4/4", "hidden"]


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    assert progress_of(None) is None
    assert progress_of(True) is None
    assert progress_of(False) is None


def test_bar_stays_away_from_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "screen_width", lambda _: 80)
    assert progress_of(None) is not None
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert progress_of(None) is None
    assert progress_of(True) is not None


class Shell:
    """What IPython has of a notebook."""

    def __init__(self) -> None:
        self.display = self
        self.written: list[str] = []
        self.get_ipython = type("ZMQInteractiveShell", (), {})

    def __call__(self, thing: Words, display_id: bool) -> Any:
        assert display_id
        self.update(thing)
        return self

    def update(self, thing: Words) -> None:
        self.written.append(f"{thing!r} | {thing._repr_html_()}")


def test_line_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUICK_S", 0.0)
    shell = Shell()
    monkeypatch.setattr(shell, "display", type("Module", (), {"display": shell}))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    show = progress_of(None)
    assert show is not None
    show(of(0, 3))
    show(of(3, 3))
    first, last = shell.written
    assert first == '0/3 finished: 0 done | <progress value="0" max="3"></progress> 0/3 finished: 0 done'
    assert last.startswith("3/3 finished: 3 done")
