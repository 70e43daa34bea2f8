"""The overview, against a real store with a real pilot."""

import asyncio
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from msgspec.structs import replace

from pilotmtc.model import CampaignId, TaskId
from pilotmtc.protocol.client.watch import GetOverview, Overview
from pilotmtc.protocol.records import FailureGroup
from pilotmtc.session import Session
from pilotmtc.session.look.overview import Board, notices
from pilotmtc.states import Cause, TaskState
from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.screens.overview import OverviewScreen
from pilotmtc.tui.screens.task import TaskScreen
from pilotmtc.tui.screens.tasks import TasksScreen
from pilotmtc.tui.widgets.windows.dialogs import Confirm
from tests.serving import Place
from tests.tui.driving import Driver, drive
from tests.tui.fixed import FixedGateway, empty, running


def test_empty_store_says_so(place: Place) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("● live", "0 tasks", "Pilots", "Campaigns", "Nothing was submitted yet", "pilotmtc submit")

    drive(str(place.path), script, (80, 24))


def test_what_runs_is_shown_as_it_goes(place: Place) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("● live", "0 tasks")
        with Session(place.path) as session:
            session.submit("exit {}", [0, 0, 3], name="three")
            await screen.see("3 ready", "3 tasks could run, and no pilot is active", "three")
            pilot = session.pilots.submit(cores=1, idle="1s")
            await screen.see("2 done", "1 failed", "1 task of campaign 1 (three) failed with exit code 3")
            session.pilots.wait(pilot.id, 30)
            await screen.see("✓ DONE")

    drive(str(place.path), script)


def test_enter_leads_from_what_needs_attention_to_its_tasks_and_back(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("exit {}", [0, 3])
        session.pilots.wait(session.pilots.submit(cores=1, idle="0.1s").id, 30)

    async def script(screen: Driver) -> None:
        await screen.see("1 task of campaign 1 failed with exit code 3")
        screen.table("notices").focus()
        await screen.press("enter")
        await screen.see("tasks state:failed campaign:1 exit:3", "✗ FAILED", "exit 3")
        assert screen.table("tasks").keys == ["2"]
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, TaskScreen))
        await screen.see("task 2")
        await screen.press("escape")
        await screen.until(lambda: isinstance(screen.app.screen, TasksScreen))
        await screen.press("escape")
        await screen.see("overview")

    drive(str(place.path), script)


def test_data_stay_and_are_marked_when_the_server_dies_and_come_anew(place: Place) -> None:
    async def script(screen: Driver) -> None:
        with Session(place.path) as session:
            session.submit("true")
            await screen.see("1 ready")
            server = place.server()
            os.kill(server, signal.SIGSTOP)
            try:
                screen.app.heard_at = (screen.app.heard_at or 0.0) - 60.0
                await screen.see("○ NO LINK", "1 ready")
            finally:
                place.kill()
            session.submit("true")
            await screen.see("● live", "2 ready", timeout_s=40.0)

    drive(str(place.path), script)


def test_killed_server_is_started_anew_by_a_key_that_asks_for_something(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("echo {}", [1, 2], name="early")

    async def script(screen: Driver) -> None:
        await screen.see("● live", "2 ready", "early")
        first = place.kill()
        await screen.press("t")
        await screen.see("○ READY", "/ to filter")
        await screen.press("c", "y")
        await screen.see("⊘ CANCELED")
        await screen.press("escape")
        await screen.see("● live", "1 canceled", "1 ready", "early")
        assert place.server() not in (0, first)

    drive(str(place.path), script)


def test_store_of_a_newer_pilotmtc_is_refused_and_says_what_to_do(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("true")
    place.kill()
    with closing(sqlite3.connect(place.path)) as db:
        db.execute("PRAGMA user_version = 99")

    async def script(screen: Driver) -> None:
        await screen.see(
            "○ NO LINK, no data yet", "newer pilotmtc (schema 99", "upgrade pilotmtc", "Ctrl-R tries again"
        )

    drive(str(place.path), script)


def test_what_was_marked_as_seen_is_folded_until_there_is_more_of_it(place: Place) -> None:
    def fail(session: Session, code: int) -> None:
        session.submit(f"exit {code}", name=f"code {code}")
        session.pilots.wait(session.pilots.submit(cores=1, idle="0.1s").id, 30)

    with Session(place.path) as session:
        fail(session, 3)
        fail(session, 4)

    async def script(screen: Driver) -> None:
        await screen.see("2 new", "1 task of campaign 2 (code 4) failed with exit code 4, ", "exit code 3")
        screen.table("notices").focus()
        await screen.press("a")
        await screen.see("1 new, 1 seen: z")
        assert "exit code 4" not in screen.text()
        await screen.press("a")
        await screen.see("Needs attention · 2 seen: z")
        await screen.press("z")
        await screen.see("exit code 4", "exit code 3")
        await screen.press("a")  # new again
        await screen.see("1 new, 1 seen")
        await screen.press("A")
        await screen.see("Needs attention · 2 seen")

    drive(str(place.path), script)

    with Session(place.path) as session:
        board = Board()
        board.take(session.overview())
        assert [notice.seen for notice in notices(board)] == [True, True]
        session.retry(campaign=1)
        session.pilots.wait(session.pilots.submit(cores=1, idle="0.1s").id, 30)

    async def later(screen: Driver) -> None:
        await screen.see("1 new, 1 seen: z", "exit code 3")  # in another window, for it is in the store

    drive(str(place.path), later)


def quiet_app(overview: Overview) -> MtcApp:
    return MtcApp(FixedGateway({GetOverview: overview}))


def test_time_goes_on_while_there_is_no_news_but_not_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    later_s = 0.0

    async def main() -> None:
        nonlocal later_s
        app = quiet_app(running())
        monkeypatch.setattr("pilotmtc.tui.base.monotonic", lambda: (app.heard_at or 0.0) + later_s)
        async with app.run_test(size=(120, 40)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("1h00m", "waits in the queue of boulder for 10m00s", "4h")
            overview = app.screen
            assert isinstance(overview, OverviewScreen)
            later_s = 20.0
            overview._tick()
            await screen.see("59m40s", "waits in the queue of boulder for 10m20s")
            later_s = 25.0
            app.push_screen(Confirm("Wait?"))
            await screen.see("Wait?")
            await screen.press("escape")
            await screen.see("59m35s")
            later_s = 100.0
            overview._tick()
            await pilot.pause(0.1)
            await screen.see("59m35s", "waits in the queue of boulder for 10m25s")

    asyncio.run(main())


def test_nothing_is_said_of_tasks_before_anything_is_known() -> None:
    async def main() -> None:
        app = MtcApp(FixedGateway({}, trouble="no route to host"))

        async def never(request: object) -> object:
            return await asyncio.Event().wait()

        app.gateway.do = never  # type: ignore[method-assign,assignment]
        async with app.run_test(size=(80, 24)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("no route to host", "PILOT")
            for words in ("0 tasks", "cores", "ATTENTION"):
                assert words not in screen.text()

    asyncio.run(main())


def test_what_needs_attention_has_three_lines_until_it_is_unfolded() -> None:
    groups = tuple(FailureGroup(CampaignId(1), Cause.EXIT, code, None, "", 1, TaskId(code)) for code in range(1, 13))
    news = replace(empty(), tasks={TaskState.FAILED: 12}, failures=groups, looked_at=12)

    async def main() -> None:
        app = quiet_app(news)
        async with app.run_test(size=(80, 24)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("12 new", "exit code 12", "exit code 10", "CAMPAIGN")
            assert "exit code 9" not in screen.text()
            screen.table("notices").focus()
            await screen.press("z")
            await screen.see("exit code 12", "exit code 2 ", "CAMPAIGN")

    asyncio.run(main())


def test_report_on_a_campaign_is_shown_and_read_again(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("exit {}", [0, 3])
        session.pilots.wait(session.pilots.submit(cores=1, idle="0.1s").id, 30)

    async def script(screen: Driver) -> None:
        await screen.see("1 failed")
        screen.table("campaigns").focus()
        await screen.press("s")
        await screen.see("report on campaign 1", "1 done, 1 failed", "Where the time of cores went", "EXIT 3")
        await screen.press("r")
        await screen.see("Where the time of cores went")
        await screen.press("escape")
        await screen.see("overview")

    drive(str(place.path), script, (120, 60))
