"""What overviews add up to."""

from typing import Any

from msgspec.structs import replace

from pilotmtc.model import Pilot, PilotDescription, PilotId
from pilotmtc.session.board import Board, notices
from pilotmtc.states import PilotState, TaskState
from pilotmtc.wire.views import Overview, Series

NOW = 1_700_000_000.0
S = TaskState
QUIET = Overview(1, NOW, NOW - 600.0, Series(2.0, NOW))


def a_pilot(number: int = 1, **more: Any) -> Pilot:
    return Pilot(
        **{
            "id": PilotId(number), "description": PilotDescription(), "state": PilotState.ACTIVE,
            "created_at": NOW - 900.0, "started_at": NOW - 800.0, "seen_at": NOW, "cores": 2, "busy": 2,
        } | more
    )  # fmt: skip


def board_of(*news: Overview) -> Board:
    board = Board()
    for one in news:
        board.take(one)
    return board


def said(board: Board) -> list[str]:
    return [notice.text for notice in notices(board)]


def test_a_pilot_of_which_there_is_no_news_is_not_silent_unless_the_server_says_so() -> None:
    first = replace(QUIET, whole=True, pilots=(a_pilot(),))
    later = replace(QUIET, now=NOW + 500.0)
    assert said(board_of(first, later)) == []
    assert said(board_of(first, replace(later, silent=(PilotId(1),), pilots=(a_pilot(seen_at=NOW + 440.0),)))) == [
        "pilot 1 has not been heard of for 1m00s"
    ]
