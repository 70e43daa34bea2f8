"""The overview's keys and words, against a store that always says the same."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import Campaigns, GetCampaigns, HoldCampaign
from pilotmtc.protocol.client.pilots import GetPilots, HoldPilot, Pilots
from pilotmtc.protocol.client.tasks import GetTasks, GetWords, Words
from pilotmtc.protocol.client.watch import GetOverview, Overview
from pilotmtc.protocol.records import FailureGroup
from pilotmtc.states import Cause
from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.screens.campaign import CampaignScreen
from pilotmtc.tui.screens.overview import OverviewScreen
from pilotmtc.tui.screens.tasks import TasksScreen
from pilotmtc.tui.widgets.cells import parts_bar, shares
from pilotmtc.tui.widgets.windows.dialogs import Confirm
from tests.tui.driving import Driver
from tests.tui.fixed import FixedGateway, empty, running
from tests.tui.fixed_pilot import from_near
from tests.tui.fixed_tasks import mixed, pages, previews


def drive_fixed(
    news: Overview, script: Callable[[Driver, MtcApp], Awaitable[None]], size: tuple[int, int] = (120, 40)
) -> None:
    """Run the screen on a store that says `news` until `script` is over."""

    async def main() -> None:
        app = MtcApp(FixedGateway({GetOverview: news, GetWords: Words(), **from_near()}))
        async with app.run_test(size=size) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            await script(screen, app)

    asyncio.run(main())


def test_enter_opens_the_notice_under_the_cursor_although_another_came_above_it() -> None:
    news = running(failures=True)

    async def script(screen: Driver, app: MtcApp) -> None:
        await screen.see("failed with exit code 137")
        table = screen.table("notices")
        table.focus()
        await screen.press("down")
        await screen.until(lambda: "exit:137" in (table.current or ""))
        more = (*(news.failures or ()), FailureGroup(CampaignId(2), Cause.EXIT, 1, None, "", 9, TaskId(1_000_099)))
        app.board.take(replace(news, seq=8, failures=more))
        app.screen.take_news()  # type: ignore[attr-defined]  # it is the overview
        await screen.see("failed with exit code 1")
        await screen.press("enter")
        await screen.until(lambda: isinstance(app.screen, TasksScreen))
        await screen.see("tasks state:failed campaign:2 exit:137")

    drive_fixed(news, script)


def test_keys_act_on_what_has_the_focus() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        await screen.see("Drain pilot", "Cancel pilot")
        screen.table("campaigns").focus()
        await screen.see("Cancel campaign", "Retry failed")
        assert "Drain pilot" not in screen.text()
        await screen.press("x", "d")
        assert not isinstance(app.screen, Confirm)
        await screen.press("down", "r")
        await screen.see("Retry all tasks that `campaign:2` finds", "42")
        await screen.press("n", "up", "c")
        await screen.see("Cancel all tasks that `campaign:1` finds")

    drive_fixed(running(failures=True), script)


def test_pilots_and_campaigns_are_put_on_hold_and_released() -> None:
    news = running()
    asked: list[object] = []

    def note(request: object) -> Changed:
        asked.append(request)
        return Changed(1)

    async def main() -> None:
        answers: dict[type, Any] = {
            GetOverview: news,
            GetPilots: lambda request: Pilots(tuple(one for one in news.pilots if one.id == request.id)),
            GetCampaigns: lambda request: Campaigns(tuple(one for one in news.campaigns if one.id == request.id)),
            HoldPilot: note,
            HoldCampaign: note,
        }
        app = MtcApp(FixedGateway(answers))
        async with app.run_test(size=(120, 40)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            await screen.press("H")
            await screen.see("Hold pilot 2")
            await screen.press("y")
            await screen.see("Pilot 2 is on hold.")
            held = tuple([replace(one, on_hold=one.id == 2) for one in news.pilots])
            app.board.take(replace(news, seq=8, pilots=held))
            app.screen.take_news()  # type: ignore[attr-defined]  # it is the overview
            await screen.see("pilot 2 is on hold: it takes nothing new until it is released")
            screen.table("pilots").focus()
            await screen.press("H")
            await screen.see("Release pilot 2")
            await screen.press("y")
            await screen.see("Pilot 2 is released.")
            screen.table("campaigns").focus()
            await screen.press("H")
            await screen.until(lambda: len(asked) == 3)
            held_campaigns = tuple([replace(one, on_hold=True) for one in news.campaigns])
            app.board.take(replace(news, seq=9, campaigns=held_campaigns))
            app.screen.take_news()  # type: ignore[attr-defined]
            await screen.see("(on hold)")
            await screen.press("H")
            await screen.until(lambda: len(asked) == 4)

    asyncio.run(main())
    first, second, third, fourth = asked
    assert (first, second) == (HoldPilot(PilotId(2)), HoldPilot(PilotId(2), hold=False))
    assert isinstance(third, HoldCampaign)
    assert fourth == replace(third, hold=False)
    assert third.hold


def test_keys_that_are_shown_follow_the_size_at_once_and_have_their_own_names() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        await screen.see("New pilot")
        await screen._pilot.resize_terminal(30, 24)
        await screen.until(lambda: "New pilot" not in screen.text() and "? Keys" in screen.text().splitlines()[-1])
        helps = [command.help for command in app.get_system_commands(app.screen)]
        assert "key ?" in helps
        assert not any("_" in help_ for help_ in helps)
        await screen._pilot.resize_terminal(120, 24)
        await screen.see("New pilot")

    drive_fixed(running(), script)


def test_notices_can_be_read_after_they_have_gone() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        app.notify("Pilot 3 is PENDING.", timeout=0.01)
        await screen.until(lambda: not app._notifications)
        await screen.press("exclamation_mark")
        await screen.see("Notices so far", "Pilot 3 is PENDING.")

    drive_fixed(running(), script)


def test_names_are_cut_with_an_ellipsis() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        await screen.until(lambda: re.search(r"QOSMax\w*… *$", screen.text(), re.MULTILINE))

    drive_fixed(running(), script, (80, 24))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(sum), st.integers(1, 200))
def test_bars_are_off_by_less_than_a_cell(counts: list[int], width: int) -> None:
    found = shares(counts, width)
    assert sum(found) == width
    for count, cells in zip(counts, found, strict=True):
        assert abs(cells - count / sum(counts) * width) < 1


def test_bar_tells_states_apart_without_colours_and_does_not_exaggerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert parts_bar([(30, "green"), (10, "red"), (5, "cyan"), (5, "blue"), (950, "bright_black")], 20).plain == (
        "█" + "░" * 19
    )
    assert len(set(parts_bar([(1, "cyan"), (1, "blue")], 2).plain)) == 2


def test_ended_pilots_are_folded_until_a_key_shows_them() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        table = screen.table("pilots")
        await screen.see("2 live · 1 ended: z")
        assert table.keys == ["2", "3"]
        await screen.press("j")
        await screen.until(lambda: table.current == "3")
        await screen.press("z")
        await screen.until(lambda: table.keys == ["2", "3", "1"])
        assert table.current == "3"
        await screen.press("z")
        await screen.until(lambda: table.keys == ["2", "3"])

    drive_fixed(running(), script)


def test_commands_and_keys_lead_to_every_screen_and_back() -> None:
    async def script(screen: Driver, app: MtcApp) -> None:
        await screen.see("higgs")
        await screen.press("colon", *"c higgs", "enter")
        await screen.see("campaign 1  higgs mass scan", "512,345 of 1,000,000 over", "31 tasks/s  ends in")
        await screen.see(" to ", "median", "Running now", "Ended last", "over its time limit")
        await screen.press("t")
        await screen.see("tasks campaign:1")
        await screen.press("colon", *"fly", "enter")
        await screen.see("'fly' is no command")
        await screen.press("colon", *"pilots", "enter")
        await screen.see("overview")
        await screen.press("slash", *"mass", "escape", "q")
        await screen.until(lambda: isinstance(app.screen, OverviewScreen))
        screen.table("campaigns").focus()
        await screen.press("t")
        await screen.until(lambda: isinstance(app.screen, TasksScreen) and bool(screen.table("tasks").keys))
        await screen.press("h")
        await screen.until(lambda: isinstance(app.screen, OverviewScreen))
        await screen.press("l")
        await screen.until(lambda: isinstance(app.screen, CampaignScreen))
        await screen.press("h")
        await screen.until(lambda: isinstance(app.screen, OverviewScreen))

    drive_fixed(running(), script)


@pytest.mark.parametrize("markup", [False, True])
def test_notices_show_what_others_wrote_as_text(markup: bool) -> None:
    evil = "x\x1b]0;title\x07\x9b31m\u202edesrever\x1b[2J\x1b[31mred"
    shown = r"x\x1b]0;title\x07\x9b31m\u202edesrever\x1b[2J"

    async def main() -> None:
        app = MtcApp(
            FixedGateway({GetOverview: empty(), GetTasks: pages(mixed()), GetWords: Words(), **previews(mixed())})
        )
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            screen = Driver(app, pilot)

            def obeyed() -> list[str]:
                return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", screen.text())

            await screen.see("● live")
            app.notify(evil, title=evil, severity="error", timeout=600, markup=markup)
            await screen.until(lambda: "".join(screen.text().split()).count("title") == 2)
            assert not obeyed()
            await screen.press("exclamation_mark")
            await screen.until(lambda: "Notices so far" in screen.text())
            assert shown in screen.text()
            assert not obeyed()

    asyncio.run(main())
