"""What is counted in the server's memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.store.activity import Activity, Meter, Ring


def test_a_steady_pace_is_told_as_it_is() -> None:
    meter = Meter(0.0)
    for second in range(1, 121):
        meter.add(50, 5, float(second))
    pace = meter.pace(7, 120.0)
    assert pace.lately == pytest.approx(50, rel=0.05)
    assert pace.average == pytest.approx(50, rel=0.02)
    assert (pace.id, pace.ended, pace.failed) == (7, 6000, 600)
    assert meter.pace(7, 300.0).lately < 0.01


def test_series_hold_what_ended_and_the_mean_of_busy_cores() -> None:
    activity = Activity(0.0)
    activity.level(1, 0, 8, 0.0)
    activity.level(1, 8, 8, 5.0)
    activity.over(1, 10, 1)
    activity.committed(5.0)
    activity.level(1, 4, 8, 6.0)
    series = activity.series(600.0, 8.0, 1000.0)
    assert series.step_s == 2.0
    assert series.start_at == 992.0
    assert series.ended == (0, 0, 10, 0, 0)
    assert series.failed == (0, 0, 1, 0, 0)
    assert series.busy[:4] == (0, 0, 4, 4)
    assert series.cores[:4] == (8, 8, 8, 8)


def test_what_is_rolled_back_does_not_count() -> None:
    activity = Activity(0.0)
    activity.over(1, 10, 0)
    mark = activity.mark()
    activity.over(1, 5, 0)
    activity.rewind(mark)
    activity.committed(1.0)
    activity.over(1, 99, 0)
    activity.rewind(0)
    activity.committed(2.0)
    activity.fold(3.0)
    assert activity.campaigns[1].total == 10


def test_a_long_sleep_costs_no_more_than_the_memory_has_room_for() -> None:
    ring = Ring(2.0, 300, 0.0)
    ring.advance(10_000_000.0, 3, 4)
    series = ring.series(10_000_000.0, 0.0)
    assert len(series.ended) <= 300
    assert series.start_at + len(series.ended) * 2.0 == pytest.approx(0.0, abs=2.0)


@given(st.lists(st.tuples(st.floats(0, 900), st.integers(0, 9)), max_size=40))
def test_nothing_that_ended_is_lost_or_counted_twice_while_it_is_remembered(steps: list[tuple[float, int]]) -> None:
    activity = Activity(0.0)
    now = 0.0
    for gap, ended in steps:
        now += min(gap, 86_000 / (len(steps) + 1))
        activity.over(1, ended, 0)
        activity.committed(now)
    total = sum(ended for _, ended in steps)
    assert sum(activity.series(86_400.0, now, 0.0).ended) == total
    assert total == 0 or activity.campaigns[1].total == total


def test_the_finest_series_that_shows_all_of_the_span_is_given() -> None:
    activity = Activity(0.0)
    assert [activity.series(span, 1.0, 0.0).step_s for span in (60, 600, 7200, 86_400, 1e9)] == [2, 2, 30, 300, 300]
