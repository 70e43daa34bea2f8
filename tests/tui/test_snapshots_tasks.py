"""What the table of tasks looks like."""

import pytest

from pilotmtc.model import Task
from pilotmtc.protocol.client.tasks import GetTasks, GetWords, Words
from pilotmtc.protocol.client.watch import Overview
from pilotmtc.tui.app import MtcApp
from tests.tui.fixed import empty, running
from tests.tui.fixed_tasks import failed, mixed, pages, previews
from tests.tui.stills import LARGE, MIDDLE, SMALL, Compare, app_with, shown, typed

pytestmark = pytest.mark.usefixtures("still")
ALL = running(failures=True)
MIXED = mixed()


def app_of(tasks: tuple[Task, ...] = MIXED, overview: Overview = ALL, trouble: str = "") -> MtcApp:
    words = Words(("frame", "mass", "seed"), ("4k", "night"))
    return app_with(overview, {GetTasks: pages(tasks), GetWords: words, **previews(tasks)}, trouble)


def tasks_screen(app: MtcApp) -> None:
    app.open_tasks("")


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
def test_tasks(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(app_of(), terminal_size=size, run_before=shown(tasks_screen, "scan"))


def test_no_tasks(snap_compare: Compare) -> None:
    assert snap_compare(app_of((), empty()), terminal_size=SMALL, run_before=shown(tasks_screen, "0 tasks"))


def test_failed_tasks(snap_compare: Compare) -> None:
    before = shown(lambda app: app.open_tasks("state:failed campaign:2"), "exit 137")
    assert snap_compare(app_of(failed()), terminal_size=SMALL, run_before=before)


def test_marked_tasks_in_light(snap_compare: Compare) -> None:
    keys = ("ctrl+t", *["down"] * 21, "space", "space", "down", "space")
    before = shown(tasks_screen, "scan", keys, "3 marked")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_marked_tasks_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    before = shown(tasks_screen, "scan", (*["down"] * 35, "space", "space", "down", "space"), "3 marked")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_newest_tasks_are_followed(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("f",), "following", "printf 'ü")
    assert snap_compare(app_of(), terminal_size=MIDDLE, run_before=before)


def test_orders_to_choose_from(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("s",), "Sort tasks")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_longest_tasks(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("s",), "Sort tasks", ("down", "down", "down", "enter"), "longest first")
    assert snap_compare(app_of(), terminal_size=MIDDLE, run_before=before)


@pytest.mark.parametrize("text", ["", "state:failed ta", "mass>3 exit:"], ids=("nothing", "a word", "a value"))
def test_filter_is_written(snap_compare: Compare, text: str) -> None:
    before = shown(tasks_screen, "scan", ("slash", *typed(text)))
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_filter_is_wrong(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("slash", *typed("state:failed sate:done"), "enter"), "sate")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_tasks_are_edited(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("end",), "printf 'ü", ("e",), "Edit 1 task")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_tasks_are_retried(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("a", "r"), "Retry 7 tasks")
    assert snap_compare(app_of(), terminal_size=SMALL, run_before=before)


def test_keys_of_tasks(snap_compare: Compare) -> None:
    before = shown(tasks_screen, "scan", ("question_mark",), "Filter")
    assert snap_compare(app_of(), terminal_size=MIDDLE, run_before=before)


def test_tasks_without_a_link(snap_compare: Compare) -> None:
    app = app_of(trouble="login.boulder: no route to host")

    def cut(app: MtcApp) -> None:
        tasks_screen(app)
        app.heard_at = -125.0

    assert snap_compare(app, terminal_size=SMALL, run_before=shown(cut, "scan", "2m05s"))
