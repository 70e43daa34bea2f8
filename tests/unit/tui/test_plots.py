"""Lines of the recent past."""

import pytest
from msgspec.structs import replace

from pilotmtc.protocol.client.watch import Overview
from pilotmtc.protocol.records import Series
from pilotmtc.session.look.overview import Board
from pilotmtc.text.numbers import rate
from pilotmtc.tui.widgets.plots import RecentPast

NOW = 1_000.0


def past(series: Series, since_at: float = 0.0, later_s: float = 0.0) -> RecentPast:
    board = Board()
    news = Overview(1, NOW, since_at, series)
    board.take(news)
    if later_s:
        board.take(replace(news, now=NOW + later_s, series=Series(series.step_s, 0.0)))
    return RecentPast(board)


def points(line: tuple[list[float], list[float]]) -> list[tuple[float, float]]:
    return [(round(age * 60, 3), height) for age, height in zip(*line, strict=True)]


def test_what_ended_in_a_step_is_as_wide_as_the_step() -> None:
    found = past(Series(2.0, NOW - 8.0, ended=(0, 14, 12, 0)))
    assert points(found.a_second((0, 14, 12, 0))) == [
        (-8, 0.0), (-6, 0.0), (-6, 7.0), (-4, 7.0), (-4, 6.0), (-2, 6.0), (-2, 0.0), (0, 0.0),
    ]  # fmt: skip
    assert points(found.level((0, 2, 2, 2))) == [(-8, 0), (-6, 0), (-6, 2), (0, 2)]


def test_steps_of_which_there_was_only_a_part_count_as_that() -> None:
    series = Series(30.0, NOW - 80.0, ended=(20, 30, 20))
    assert points(past(series, since_at=NOW - 70.0).a_second(series.ended)) == [(-70, 1.0), (0, 1.0)]


def test_a_step_that_has_hardly_begun_makes_no_mountain() -> None:
    series = Series(2.0, NOW - 4.1, ended=(2, 1, 1))
    assert max(past(series).a_second(series.ended)[1]) < 1.1


def test_without_news_nothing_ends_and_cores_stay_as_they_were() -> None:
    found = past(Series(2.0, NOW - 4.0, ended=(2, 2)), later_s=20.0)
    assert points(found.a_second((2, 2))) == [(-24, 1.0), (-20, 1.0), (-20, 0.0), (0, 0.0)]
    assert points(found.level((3, 3))) == [(-24, 3), (0, 3)]


def test_no_past_is_no_line() -> None:
    assert past(Series(2.0, NOW)).a_second(()) == past(Series(2.0, NOW)).level(()) == ([], [])


@pytest.mark.parametrize(
    ("minutes", "ticks"),
    [(0.2, [-1, 0]), (3.4, [-3, -2, -1, 0]), (10, [-10, -8, -6, -4, -2, 0]), (30, [-30, -25, -20, -15, -10, -5, 0])],
)
def test_ages_below_the_plots_are_round(minutes: float, ticks: list[int]) -> None:
    assert past(Series(2.0, NOW - minutes * 60, ended=(0,)), since_at=-1e9).ticks() == ticks


@pytest.mark.parametrize(
    ("a_second", "short", "long"),
    [
        (0.0, "0", "0 tasks/s"), (0.0005, "1.8/h", "1.8 tasks/h"), (0.0055, "20/h", "20 tasks/h"),
        (0.25, "0.25", "0.25 tasks/s"), (31.2, "31", "31 tasks/s"), (1234.0, "1,234", "1,234 tasks/s"),
        (0.000001, "0", "0 tasks/s"),
    ],
)  # fmt: skip
def test_rates_are_of_the_hour_when_the_second_says_nothing(a_second: float, short: str, long: str) -> None:
    assert (rate(a_second), rate(a_second, "tasks")) == (short, long)
