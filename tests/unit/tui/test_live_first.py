"""What is shown first, and commands."""

import pytest
from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, Pilot, PilotDescription, PilotId
from pilotmtc.protocol.client.watch import Overview
from pilotmtc.protocol.records import Series
from pilotmtc.session.look.overview import Board
from pilotmtc.states import PilotState, TaskState
from pilotmtc.tui.widgets.command_line import Command, parse_command
from pilotmtc.tui.widgets.tables.live_first import campaigns_first, pilots_first

NOW = 10_000.0


def board_of(pilots: tuple[Pilot, ...] = (), campaigns: tuple[Campaign, ...] = ()) -> Board:
    board = Board()
    board.take(Overview(1, NOW, 0.0, Series(1.0, 0.0), whole=True, pilots=pilots, campaigns=campaigns))
    return board


def pilot_of(id_: int, state: PilotState, ended_at: float | None = None) -> Pilot:
    return Pilot(PilotId(id_), PilotDescription(), state, 0.0, ended_at=ended_at)


def campaign_of(id_: int, *states: TaskState, sealed: bool = True) -> Campaign:
    return Campaign(CampaignId(id_), str(id_), "", 0.0, 9, sealed, dict.fromkeys(states, 1))


def test_live_pilots_come_first_and_those_that_ended_long_ago_are_folded() -> None:
    board = board_of((
        pilot_of(1, PilotState.DONE, 100.0), pilot_of(2, PilotState.ACTIVE), pilot_of(3, PilotState.PENDING),
        pilot_of(4, PilotState.FAILED, NOW - 30.0), pilot_of(5, PilotState.DRAINING), pilot_of(6, PilotState.ACTIVE),
        pilot_of(7, PilotState.CANCELED, 200.0),
    ))  # fmt: skip
    shown, folded = pilots_first(board, unfolded=False)
    assert ([pilot.id for pilot in shown], folded) == ([6, 2, 5, 3, 4], 2)
    shown, folded = pilots_first(board, unfolded=True)
    assert ([pilot.id for pilot in shown], folded) == ([6, 2, 5, 3, 4, 7, 1], 0)


def test_some_that_ended_are_shown_if_nothing_else_is_there() -> None:
    board = board_of(tuple(pilot_of(id_, PilotState.DONE, float(id_)) for id_ in range(1, 6)))
    shown, folded = pilots_first(board, unfolded=False)
    assert ([pilot.id for pilot in shown], folded) == ([5, 4, 3], 2)


def test_campaigns_that_run_come_before_those_that_wait_and_those_that_are_over() -> None:
    s = TaskState
    campaigns = (
        campaign_of(1, s.DONE), campaign_of(2, s.READY), campaign_of(3, s.DONE, s.RUNNING), campaign_of(4, s.DONE),
        campaign_of(5, s.DONE, sealed=False),
    )  # fmt: skip
    shown, folded = campaigns_first(board_of(campaigns=campaigns), {1}, unfolded=False)
    assert ([one.id for one in shown], folded) == ([3, 5, 2, 1], 1)
    fresh = replace(campaigns[3], created_at=NOW - 60.0)  # it was over before anybody looked
    shown, folded = campaigns_first(board_of(campaigns=(*campaigns[:3], fresh)), (), unfolded=False)
    assert ([one.id for one in shown], folded) == ([3, 2, 4], 1)
    over = tuple(replace(one, counts={s.FAILED: 1}, sealed=True) for one in campaigns)
    shown, folded = campaigns_first(board_of(campaigns=over), (), unfolded=False)
    assert ([one.id for one in shown], folded) == ([5, 4, 3], 2)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("task 812", Command("task", 812)), (":812", Command("task", 812)), ("c scan", Command("campaign", 2)),
        ("campaign HIGGS", Command("campaign", 3)), ("c 1", Command("campaign", 1)), ("p 3", Command("pilot", 3)),
        ("tasks state:failed mass>3", Command("tasks", text="state:failed mass>3")), ("pilots", Command("overview")),
        ("q", Command("quit")),
    ],
)  # fmt: skip
def test_commands_are_read(line: str, command: Command) -> None:
    assert parse_command(line, {1: "scan of old", 2: "scan", 3: "the higgs"}) == command


@pytest.mark.parametrize("line", ["fly", "task", "task x", "c", "c none", "pilot 1 2"])
def test_what_is_no_command_says_what_is(line: str) -> None:
    with pytest.raises(UsageError, match=r"task 812|number"):
        parse_command(line, {1: "scan"})
