"""What overviews add up to."""

from typing import Any

from msgspec.structs import replace

from pilotmtc.model import Awaited, Campaign, CampaignId, Pilot, PilotDescription, PilotId, TaskId
from pilotmtc.protocol.client.watch import Overview
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.session.look.overview import Board, notices
from pilotmtc.states import Cause, PilotState, TaskState

NOW = 1_700_000_000.0
S = TaskState
QUIET = Overview(1, NOW, NOW - 600.0, Series(2.0, NOW))


def a_pilot(number: int = 1, **more: Any) -> Pilot:
    pilot = Pilot(PilotId(number), PilotDescription(), PilotState.ACTIVE, NOW - 900.0, NOW - 800.0, seen_at=NOW)
    return replace(pilot, **more)


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
        "pilot 1 has not reported for 1m00s"
    ]


def a_campaign(counts: dict[TaskState, int]) -> Campaign:
    return Campaign(CampaignId(1), "k", "scan", NOW - 900.0, sum(counts.values()), True, counts)


def test_a_campaign_ends_at_the_pace_that_is_shown_or_nobody_knows_when() -> None:
    campaign = a_campaign({S.DONE: 28, S.RUNNING: 2, S.READY: 6})
    slow = board_of(replace(QUIET, campaigns=(campaign,), campaign_paces=(Pace(1, 0.002, 28, 0),)))
    assert slow.eta_s(campaign) == 4000.0
    still = board_of(replace(QUIET, campaigns=(campaign,), campaign_paces=(Pace(1, 0.0, 28, 0),)))
    assert still.eta_s(campaign) is None
    assert still.eta_s(a_campaign({S.DONE: 28})) is None
    assert slow.eta_s(a_campaign({S.DONE: 28, S.READY: 8})) is None


def test_the_filter_of_a_signal_is_of_that_signal_only() -> None:
    def group(signal: int) -> FailureGroup:
        return FailureGroup(CampaignId(5), Cause.SIGNAL, None, signal, "", 1, TaskId(7))

    news = replace(QUIET, tasks={S.FAILED: 2}, failures=(group(2), group(40)), looked_at=2)
    assert [(one.text, one.tasks) for one in notices(board_of(news))] == [
        ("1 task of campaign 5 failed by SIGINT", "state:failed campaign:5 cause:signal signal:INT"),
        ("1 task of campaign 5 failed by signal 40", "state:failed campaign:5 cause:signal signal:40"),
    ]


def test_what_stops_everything_comes_first_then_the_worst_and_of_that_the_newest() -> None:
    def group(task: int) -> FailureGroup:
        return FailureGroup(CampaignId(task), Cause.EXIT, 3, None, "", 1, TaskId(task))

    over = a_pilot(2, state=PilotState.FAILED, ended_at=NOW - 12.0, reason="killed")
    news = replace(
        QUIET, pilots=(over, a_pilot(1, state=PilotState.FAILED, ended_at=NOW, reason="lost")),
        tasks={S.FAILED: 2, S.READY: 577}, failures=(group(7), group(9)), looked_at=2,
    )  # fmt: skip
    assert said(board_of(news)) == [
        "577 tasks could run, and no pilot is active",
        "pilot 2 failed 12s ago: killed",
        "pilot 1 failed just now: lost",
        "1 task of campaign 9 failed with exit code 3",
        "1 task of campaign 7 failed with exit code 3",
    ]


def test_tasks_whose_own_pilots_are_gone_are_told_of_though_others_are_there() -> None:
    mine = replace(a_campaign({S.READY: 5}), own_pilots=True)
    other = replace(a_campaign({S.READY: 2}), id=CampaignId(2))
    own = a_pilot(2, description=PilotDescription(campaign=CampaignId(1)))
    news = replace(QUIET, pilots=(a_pilot(1),), campaigns=(mine, other), tasks={S.READY: 7})
    words = "5 tasks of campaign 1 could run, and its own pilots have ended"
    assert [(one.text, one.tasks) for one in notices(board_of(news))] == [(words, "state:ready campaign:1")]
    assert said(board_of(replace(news, pilots=()))) == [words, "2 tasks could run, and no pilot is active"]
    assert said(board_of(replace(news, pilots=(own,)))) == []
    assert said(board_of(replace(news, pilots=(replace(own, state=PilotState.DONE),))))[0] == words


def test_time_goes_on_between_news() -> None:
    pilot = a_pilot(description=PilotDescription(walltime_s=898.0))
    campaign = a_campaign({S.RUNNING: 1})
    news = replace(
        QUIET, pilots=(pilot,), campaigns=(campaign,), tasks={S.RUNNING: 1}, campaign_paces=(Pace(1, 0.1, 1, 0),)
    )
    board = board_of(news)
    assert said(board) == ["pilot 1 ends in 1m38s, and 1 task is left"]
    board.age_s = 5.0
    assert said(board) == ["pilot 1 ends in 1m33s, and 1 task is left"]
    assert board.eta_s(campaign) == 5.0
    board.take(replace(QUIET, seq=2, now=NOW + 10.0))
    assert said(board) == []


def test_a_pace_goes_down_while_nothing_ends() -> None:
    campaign = a_campaign({S.DONE: 28, S.RUNNING: 2, S.READY: 6})
    news = replace(
        QUIET, pilots=(a_pilot(busy=2),), campaigns=(campaign,), campaign_paces=(Pace(1, 9.0, 28, 0),),
        pilot_paces=(Pace(1, 9.0, 28, 0),),
    )  # fmt: skip
    board = board_of(news)
    assert (board.pace, board.pilot_rate(board.pilots[1])) == (9.0, 9.0)
    board.age_s = 10.0
    assert (board.pace, board.pilot_rate(board.pilots[1]), board.eta_s(campaign)) == (0.2, 0.2, 30.0)


def test_the_past_stays_when_there_is_no_news() -> None:
    past = Series(2.0, NOW - 4.0, (1, 2), (0, 0), (1, 1), (2, 2))
    board = board_of(replace(QUIET, series=past), replace(QUIET, now=NOW + 20.0))
    assert (board.series, board.series_at) == (past, NOW)


def test_each_campaign_that_waits_in_vain_for_the_same_one_is_told() -> None:
    waits = Awaited(CampaignId(9), "mesh", False, 0, 1)
    two = tuple(replace(a_campaign({S.READY: 3}), id=CampaignId(number), after=(waits,)) for number in (1, 2))
    found = notices(board_of(replace(QUIET, campaigns=two)))
    assert len({notice.key for notice in found if "could run after" in notice.text}) == 2


def test_tasks_on_hold_are_none_that_could_run() -> None:
    campaign = a_campaign({S.READY: 3})
    news = replace(QUIET, campaigns=(campaign,), tasks={S.READY: 3})
    assert said(board_of(replace(news, held={campaign.id: 2}))) == ["1 task could run, and no pilot is active"]
    assert said(board_of(replace(news, held={campaign.id: 3}))) == []
    deserted = replace(news, campaigns=(replace(campaign, own_pilots=True),))
    assert said(board_of(replace(deserted, held={campaign.id: 3}))) == []
    assert said(board_of(replace(deserted, held={campaign.id: 1}))) == [
        "2 tasks of campaign 1 could run, and its own pilots have ended"
    ]
