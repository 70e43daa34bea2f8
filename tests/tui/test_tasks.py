"""The tasks screen, by its keys, against a real store."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pilotmtc.model import Task
from pilotmtc.protocol.client.tasks import GetTasks, Tasks
from pilotmtc.protocol.client.watch import Overview
from pilotmtc.protocol.records import Filter
from pilotmtc.session import Session
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.overview import Board
from pilotmtc.states import TaskState
from pilotmtc.tui.screens.tasks import TasksScreen
from pilotmtc.tui.widgets.tables.listing import HELD, PAGE, Listing
from pilotmtc.tui.widgets.tables.task_table import TaskTable
from tests.serving import Place
from tests.tui.driving import Driver, drive
from tests.tui.fixed import NOW
from tests.tui.fixed_tasks import mixed


async def _open(screen: Driver, filter_: str = "") -> TaskTable:
    await screen.see("● live")
    screen.app.open_tasks(filter_)
    await screen.until(lambda: isinstance(screen.app.screen, TasksScreen) and screen.app.screen.query("#tasks"))
    return screen.app.screen.query_one("#tasks", TaskTable)


async def _type(screen: Driver, text: str) -> None:
    names = {" ": "space", ":": "colon", ">": "greater_than_sign", ",": "comma", '"': "quotation_mark"}
    await screen.press(*[names.get(char, char) for char in text])


async def _until_other(screen: Driver, table: TaskTable, key: str, at: int) -> None:
    await screen.until(lambda: table.keys[at] != key)


def _run(place: Place, command: str, values: list[int]) -> list[Task]:
    """Run a task for each value and return them."""
    with Session(place.path) as session:
        campaign = session.submit(command, values)
        session.pilots.wait(session.pilots.submit(cores=2, idle="0.2s").id, 60)
        return list(session.tasks(campaign=campaign))


def _states(place: Place) -> list[str]:
    with Session(place.path) as session:
        return [task.state.name for task in session.tasks()]


# -- paging -----------------------------------------------------------------------------------------------------


def test_ten_thousand_tasks_are_paged_to_the_end_and_back_and_few_are_held(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", range(10_000))

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.see("10,000 tasks · in order of id", "echo 0")
        assert len(table.keys) == PAGE
        while table.keys[-1] != "10000":
            last = table.keys[-1]
            table.move_cursor(row=table.row_count - 1)
            await _until_other(screen, table, last, -1)
            assert table.current == last  # the cursor stays on its task
            assert len(table.keys) <= HELD + PAGE
            low = int(table.keys[0])
            assert table.keys == [str(id_) for id_ in range(low, low + len(table.keys))]
        table.move_cursor(row=table.row_count - 1)
        await screen.see("echo 9999")
        low = int(table.keys[0])
        assert low > 1
        while int(table.keys[0]) > low - 3 * PAGE:
            first = table.keys[0]
            table.move_cursor(row=0)
            await _until_other(screen, table, first, 0)
            assert table.current == first
        assert len(table.keys) <= HELD + PAGE
        await screen.press("g")
        await screen.until(lambda: table.keys[0] == "1" and table.current == "1")

    drive(str(place.path), script)


def test_end_goes_to_the_newest_and_home_to_the_top_of_it(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", range(1000))

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: table.current == "1")
        await screen.press("G")
        await screen.see("newest first")
        await screen.until(lambda: table.current == "1000")
        await screen.press("pagedown")
        await screen.press("home")
        await screen.until(lambda: table.current == "1000")
        await screen.press("end")
        await screen.see("in order of id")
        await screen.until(lambda: table.current == "1")

    drive(str(place.path), script)


def test_what_is_submitted_meanwhile_is_appended_at_the_end_and_states_go_on(place: Place) -> None:
    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.see("0 tasks")
        with Session(place.path) as session:
            session.submit("exit {}", [0, 3])
            await screen.see("2 tasks", "○ READY")
            assert table.keys == ["1", "2"]
            session.pilots.submit(cores=1, idle="0.5s")
            await screen.see("✓ DONE", "✗ FAILED", "exit 3")
            session.submit("true")
            await screen.until(lambda: table.keys == ["1", "2", "3"])

    drive(str(place.path), script)


def test_news_costs_one_request_for_what_is_in_sight(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(place.path) as session:
        session.submit("true", range(500), retries=1)

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) >= PAGE)
        asked: list[GetTasks] = []
        send = StoreLink.send

        def noted(link, request):  # type: ignore[no-untyped-def]  # as the link's own
            if isinstance(request, GetTasks):
                asked.append(request)
            return send(link, request)

        news: list[object] = []
        take = Board.take

        def taken(board: Board, overview: Overview) -> None:
            news.append(overview)
            take(board, overview)

        monkeypatch.setattr(StoreLink, "send", noted)
        monkeypatch.setattr(Board, "take", taken)
        with Session(place.path) as session:
            session.cancel(ids=[2])
        await screen.see("⊘ CANCELED")
        looks = [request for request in asked if not request.after]  # an answer may come in pages
        assert 1 <= len(looks) <= len(news) + 1  # one may have been under way
        for request in asked:
            assert request.filter.ids is not None
            assert len(request.filter.ids) <= screen.app.size.height

    drive(str(place.path), script)


# -- filter -----------------------------------------------------------------------------------------------------


def test_filter_completes_and_errors_point_at_what_is_wrong(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {mass}", {"mass": range(10)}, tags=["night"])
        session.cancel(ids=[3, 4])

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) == 10)
        await screen.press("slash")
        await _type(screen, "st")
        await screen.see("state:")
        await screen.press("tab")
        await _type(screen, "canc")
        await screen.see("canceled")
        await screen.press("tab", "enter")
        await screen.see("tasks state:canceled", "2 tasks")
        assert table.keys == ["3", "4"]
        assert table.has_focus
        await screen.press("slash")
        await _type(screen, " stat:x")
        await screen.press("enter")
        await screen.see("did you mean state?", "^^^^^^")
        await screen.press("escape")
        await screen.until(lambda: table.has_focus and "^^^^^^" not in screen.text())
        assert table.keys == ["3", "4"]
        await screen.press("slash", "ctrl+u")
        await _type(screen, "ta")
        await screen.press("tab")
        await screen.see("night")
        await screen.press("tab")
        await _type(screen, " mass>7")
        await screen.press("enter")
        await screen.until(lambda: table.keys == ["9", "10"])
        await screen.press("slash", "ctrl+u")
        await _type(screen, "mass>70")
        await screen.press("enter")
        await screen.see("0 tasks")
        assert table.keys == []
        await screen.press("r", "c", "e", "o", "y", "Y", "space", "a", "enter", "end", "home")  # of nothing
        assert isinstance(screen.app.screen, TasksScreen)

    drive(str(place.path), script, (80, 24))


# -- order ------------------------------------------------------------------------------------------------------


def test_stopped_server_leaves_the_keys_alive(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", range(1000))

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: table.current == "1")
        os.kill(place.server(), signal.SIGSTOP)
        await screen.press("G", "c")
        await screen.see("looking", "echo 0", "being loaded")
        assert isinstance(screen.app.screen, TasksScreen)
        os.kill(place.server(), signal.SIGCONT)
        await screen.until(lambda: table.current == "1000")

    drive(str(place.path), script)


@pytest.mark.parametrize("follow", [False, True])
def test_filter_that_the_store_refuses_is_said_where_it_was_written(place: Place, follow: bool) -> None:
    with Session(place.path) as session:
        session.submit("echo {mass}", {"mass": [1, 2, 3]})

    async def script(screen: Driver) -> None:
        table = await _open(screen, "mass>1")
        await screen.until(lambda: table.keys == ["2", "3"])
        if follow:
            await screen.press("f")
            await screen.until(lambda: table.keys == ["3", "2"])
        await screen.press("slash", "home", "n", "enter")
        await screen.see("no task has a parameter 'nmass': did you mean 'mass'?", "tasks mass>1", "nmass>1", "2 tasks")
        await screen.press("home", "delete", "end", "backspace", "2", "enter")
        await screen.see("tasks mass>2")
        await screen.until(lambda: table.keys == ["3"])
        assert "no task has" not in screen.text()

    drive(str(place.path), script)


def test_tasks_are_sorted_by_values_of_all_of_them(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("true", range(5000))
        session.edit({"priority": 7}, ids=[3210])
        session.edit({"priority": 9}, ids=[4321])

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: table.current == "1")
        await screen.press("s")
        await screen.see("Sort tasks", "Highest priority first", "Longest first")
        await screen.press("end", "enter")
        await screen.until(lambda: table.keys[:3] == ["4321", "3210", "1"])
        await screen.see("highest priority first")
        assert len(table.keys) == 200
        await screen.press("end")
        await screen.until(lambda: table.cursor_row == 199)
        await screen.press("s", "escape")
        await screen.press("s", "home", "enter")
        await screen.see("in order of id")
        await screen.until(lambda: table.keys[0] == "1")

    drive(str(place.path), script)


def test_newest_are_followed_as_they_come(place: Place) -> None:
    async def script(screen: Driver) -> None:
        table = await _open(screen)
        with Session(place.path) as session:
            session.submit("echo {}", range(300))
            await screen.see("300 tasks")
            await screen.press("f")
            await screen.see("following")
            await screen.until(lambda: table.current == "300")
            session.submit("echo one more")
            await screen.until(lambda: table.current == "301")
            await screen.press("down", "down")
            await screen.until(lambda: table.current == "299")
            session.submit("echo another")
            await screen.until(lambda: table.keys[0] == "302")
            assert table.current == "299"  # the cursor stays where it was put
            await screen.press("f")
            await screen.see("newest first")

    drive(str(place.path), script)


# -- deeds ------------------------------------------------------------------------------------------------------


def test_the_task_under_the_cursor_is_retried_after_a_question(place: Place) -> None:
    _run(place, "exit {}", [0, 3])

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) == 2)
        await screen.press("r")
        await screen.see("Nothing to retry: no task of these is FAILED")
        await screen.press("down", "r")
        await screen.see("Retry 1 task (id 2)?", "Each runs again with all its retries")
        await screen.press("n")
        assert _states(place) == ["DONE", "FAILED"]
        await screen.press("r")
        await screen.see("Retry 1 task (id 2)?")
        await screen.press("enter")  # which alone does nothing
        assert _states(place) == ["DONE", "FAILED"]
        await screen.press("r")
        await screen.see("Retry 1 task (id 2)?")
        await screen.press("y")
        await screen.see("1 task will run again", "○ READY")
        assert _states(place) == ["DONE", "READY"]

    drive(str(place.path), script)


def test_marked_tasks_are_what_the_keys_speak_of(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", range(5))
        session.cancel(ids=[2])

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) == 5)
        await screen.press("space", "space", "space")
        await screen.see("● 3 marked")
        assert table.current == "4"
        await screen.press("y")
        assert screen.app.clipboard == "1 2 3"
        await screen.press("Y")
        assert screen.app.clipboard == "echo 0\necho 1\necho 2"
        await screen.press("c")
        await screen.see(
            "Cancel 2 tasks (ids 1, 3)?", "1 more will be skipped: not waiting, ready or running", "never start"
        )
        await screen.press("y")
        await screen.see("2 tasks canceled")
        assert _states(place) == ["CANCELED", "CANCELED", "CANCELED", "READY", "READY"]
        await screen.press("escape")
        await screen.until(lambda: "marked ·" not in screen.text())
        assert isinstance(screen.app.screen, TasksScreen)
        await screen.press("a")
        await screen.see("● 5 marked")
        await screen.press("a")
        await screen.until(lambda: "marked ·" not in screen.text())
        await screen.press("y")
        assert screen.app.clipboard == "4"

    drive(str(place.path), script)


def test_capitals_speak_of_all_that_the_filter_finds(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {n}", {"n": range(3000)})

    async def script(screen: Driver) -> None:
        table = await _open(screen, "n>=100")
        await screen.until(lambda: table.keys and table.keys[0] == "101")
        await screen.press("C")
        await screen.see("Cancel all tasks that `n>=100` finds", "2,900")
        await screen.press("y")
        await screen.see("2,900 tasks canceled", "⊘ CANCELED")
        await screen.press("R")
        await screen.see("Retry all tasks that `n>=100` finds", "2,900")
        await screen.press("y")
        await screen.see("2,900 tasks will run again", "○ READY")
        await screen.press("E")
        await screen.see("Edit all tasks that `n>=100` finds", "2,900")
        await _type(screen, "5")
        await screen.press("ctrl+s")
        await screen.see("2,900 tasks changed")
        with Session(place.path) as session:
            assert {task.priority for task in session.tasks(filter="n>=100")} == {5}
            assert {task.priority for task in session.tasks(filter="n<100")} == {0}
        await screen.press("R")
        await screen.see("Nothing to retry")

    drive(str(place.path), script)


def test_edit_form_comes_again_with_what_was_written_until_it_can_be(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", range(2))

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) == 2)
        await screen.press("e")
        await screen.see("Edit 1 task (id 1)", "Priority", "Time limit")
        await screen.press("ctrl+s")
        await screen.see("nothing to change")
        await _type(screen, "4")
        await screen.press("enter", "enter", "enter")
        await _type(screen, "lots")
        await screen.press("enter")
        await _type(screen, "90m")
        await screen.press("enter")
        await _type(screen, "3")
        await screen.press("enter")
        await _type(screen, "printf {}")
        await screen.press("enter")
        await screen.see("✗", "'lots'", "90m", "printf {}")
        await screen.press("ctrl+u")  # in the field that is wrong
        await _type(screen, "2G")
        await screen.press("ctrl+s")
        await screen.see("1 task changed")
        with Session(place.path) as session:
            task = session.task(1).task
        assert task is not None
        assert (task.command, task.max_retries) == (("printf {}",), 3)
        assert task.priority == 4
        assert task.resources.memory_bytes == 2 << 30
        assert task.resources.time_limit_s == 5400
        await screen.press("e")
        await screen.see("Edit 1 task")
        await screen.press("escape")
        await screen.see("in order of id")
        assert isinstance(screen.app.screen, TasksScreen)

    drive(str(place.path), script)


# -- what others have written -----------------------------------------------------------------------------------


def test_hostile_text_is_shown_and_not_obeyed(place: Place) -> None:
    commands = [
        "echo [red]loud[/red] [/nonsense",
        "printf '\x1b[31mred\x07\x9b'",
        "echo " + "x" * 100_000,
        "echo 日本語の名前" * 40,
    ]
    with Session(place.path) as session:
        for number, command in enumerate(commands):
            session.submit(command, task_name=f"[bold]{number}", tags=["[link=x]"])

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: len(table.keys) == 4)
        await screen.press("v")  # the pane beside the table
        await screen.see("echo [red]loud", "\\x1b[31mred\\x07\\x9b", "echo xxxx", "echo 日本語", "[bold]0", "[link=x]")
        assert "\x1b" not in screen.text()
        assert "\x9b" not in screen.text()
        await screen.press("slash")
        await _type(screen, "[red]")
        await screen.press("enter")
        await screen.see("0 tasks")

    drive(str(place.path), script, (210, 30))


def test_columns_are_those_that_there_is_room_for(place: Place) -> None:
    tasks = _run(place, "echo {}", [1])
    assert tasks[0].state is TaskState.DONE

    def at(size: tuple[int, int]) -> str:
        shown: list[str] = []

        async def script(screen: Driver) -> None:
            await _open(screen)
            await screen.see("COMMAND", "✓ DONE", "echo 1")
            if size[0] > 100:
                await screen.press("v")  # the pane beside the table
                await screen.see("PARAMS")
            shown.append(screen.text())

        drive(str(place.path), script, size)
        return shown[0]

    narrow = at((80, 24))
    assert all(word in narrow for word in ("TASK", "STATE", "ELAPSED", "END", "COMMAND"))
    assert "TAGS" not in narrow
    wide = at((200, 50))
    assert all(
        word in wide for word in ("ATTEMPT", "CPU", "MEMORY", "PILOT", "NODE", "NAME", "TAGS", "PARAMS", "COMMAND")
    )


# -- the pager --------------------------------------------------------------------------------------------------


def test_output_is_shown_by_the_pager_of_the_user(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(place, "echo to stdout; echo to stderr >&2; exit {}", [3])
    pager = place.path.parent / "pager"
    pager.write_text('#!/bin/sh\ncat "$@" > "$(dirname "$0")/seen"\n')
    pager.chmod(0o755)
    lent: list[bool] = []

    @contextmanager
    def suspend(app: object) -> Iterator[None]:
        lent.append(True)
        yield

    async def script(screen: Driver) -> None:
        table = await _open(screen)
        await screen.until(lambda: table.keys)
        await screen.press("o")
        await screen.see("No pager", "no terminal for a pager")
        monkeypatch.setattr("pilotmtc.tui.app.MtcApp.suspend", suspend)  # which needs a terminal
        monkeypatch.setenv("PAGER", str(pager))
        await screen.press("o")
        await screen.until((place.path.parent / "seen").exists)
        monkeypatch.setenv("PAGER", "/nowhere/less")
        await screen.press("o")
        await screen.see("/nowhere/less: No such file")
        monkeypatch.setenv("PAGER", "less '")
        await screen.press("o")
        await screen.see("No closing quotation")

    drive(str(place.path), script)
    assert (place.path.parent / "seen").read_text() == "to stdout\nto stderr\n"
    assert lent == [True, True]


def test_running_tasks_are_among_the_longest_and_those_without_a_time_come_last() -> None:
    listing = Listing(Filter(), "elapsed_s")
    tasks = {task.id: task for task in mixed()}
    listing.take_next(Tasks(tuple(tasks.values()), 0), NOW)
    found = [tasks[id_].state for id_ in listing.rows]
    running = [id_ for id_ in listing.rows if tasks[id_].state is TaskState.RUNNING]
    assert running == sorted(running, key=lambda id_: tasks[id_].started_at or 0.0)
    assert found.index(TaskState.RUNNING) < found.index(TaskState.CLAIMED)
    assert set(found[-5:]) <= {TaskState.READY, TaskState.WAITING, TaskState.CLAIMED, TaskState.SKIPPED}
