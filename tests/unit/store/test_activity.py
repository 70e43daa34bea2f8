"""What is counted in the server's memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.clock import FakeClock
from pilotmtc.store.live.activity import Activity, Meter, Ring


def test_a_steady_pace_is_told_as_it_is() -> None:
    meter = Meter(0.0)
    for second in range(1, 121):
        meter.add(50, 5, float(second))
    pace = meter.pace(7, 120.0, 64)
    assert pace.lately == pytest.approx(50, rel=0.05)
    assert (pace.id, pace.ended, pace.failed) == (7, 6000, 600)
    assert meter.pace(7, 300.0, 0).lately == 0


def test_series_hold_what_ended_and_the_mean_of_busy_cores() -> None:
    clock = FakeClock(990.0)
    activity = Activity(clock)
    for busy, then_s in ((0, 5.0), (8, 0.0)):
        activity.level(1, busy, 8)
        activity.commit()
        clock.advance(then_s)
    activity.tasks_ended(1, 10, 1)
    activity.commit()
    clock.advance(1.0)
    activity.level(1, 4, 8)
    activity.commit()
    clock.advance(2.0)
    series = activity.series(600.0)
    assert series.step_s == 2.0
    assert series.start_at == 990.0
    assert series.ended == (0, 0, 10, 0, 0)
    assert series.failed == (0, 0, 1, 0, 0)
    assert series.busy[:4] == (0, 0, 4, 4)
    assert series.cores[:4] == (8, 8, 8, 8)


def test_what_is_rolled_back_does_not_count() -> None:
    clock = FakeClock()
    activity = Activity(clock)
    activity.tasks_ended(1, 10, 0)
    mark = activity.mark()
    activity.tasks_ended(1, 5, 0)
    activity.rewind(mark)
    activity.commit()
    activity.tasks_ended(1, 99, 0)
    activity.rewind(0)
    activity.commit()
    activity.series(60.0)
    assert activity.campaigns[1].total == 10


def test_a_long_sleep_costs_no_more_than_the_memory_has_room_for() -> None:
    ring = Ring(2.0, 300, 0.0)
    ring.advance(10_000_000.0, 3, 4)
    series = ring.series(1e9, 10_000_000.0, 0.0)
    assert len(series.ended) <= 300
    assert series.start_at + len(series.ended) * 2.0 == pytest.approx(0.0, abs=2.0)


@given(st.lists(st.tuples(st.floats(0, 900), st.integers(0, 9)), max_size=40))
def test_nothing_that_ended_is_lost_or_counted_twice_while_it_is_remembered(steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    activity = Activity(clock)
    for gap, ended in steps:
        clock.advance(min(gap, 86_000 / (len(steps) + 1)))
        activity.tasks_ended(1, ended, 0)
        activity.commit()
    total = sum(ended for _, ended in steps)
    assert sum(activity.series(86_400.0).ended) == total
    assert total == 0 or activity.campaigns[1].total == total


def test_the_finest_series_that_shows_all_of_the_span_is_given() -> None:
    clock = FakeClock()
    activity = Activity(clock)
    clock.advance(1e6)
    spans = (60, 600, 7200, 86_400, 1e9)
    assert [activity.series(span).step_s for span in spans] == [2, 2, 30, 300, 300]
    assert len(activity.series(1800).ended) <= 61


@pytest.mark.parametrize(("age_s", "step_s"), [(1.0, 2), (599.0, 2), (700.0, 30)])
def test_the_finest_series_that_shows_all_there_has_been_is_given(age_s: float, step_s: float) -> None:
    clock = FakeClock()
    activity = Activity(clock)
    clock.advance(age_s)
    assert activity.series(1800).step_s == step_s


def test_the_first_step_is_as_long_as_the_time_since_counting_began() -> None:
    clock = FakeClock()
    clock.advance(1.5)
    activity = Activity(clock)
    activity.level(1, 8, 8)
    activity.commit()
    clock.advance(3.5)
    assert activity.series(600.0).busy == (8, 8, 8)


@pytest.mark.parametrize(("cores", "duration_s"), [(2, 20.0), (8, 60.0), (64, 60.0), (200, 5.0)])
def test_the_pace_of_tasks_that_end_together_stays_near_what_it_is(cores: int, duration_s: float) -> None:
    meter = Meter(0.0)
    for turn in range(1, 16):
        meter.add(cores, 0, turn * duration_s)
        paces = [meter.pace(1, (turn + share) * duration_s, cores).lately for share in (0.1, 0.5, 0.9)]
        if turn > 2:
            assert paces == pytest.approx([cores / duration_s] * 3, rel=0.6)


def test_what_runs_much_longer_than_what_ended_before_slows_the_pace_down() -> None:
    meter = Meter(0.0)
    meter.add(28, 0, 10.0)
    assert meter.pace(1, 70.0, 2).lately == pytest.approx(2 / 60, rel=0.01)
    assert meter.pace(1, 900.0, 2).lately <= 2 / 890
    assert meter.pace(1, 30.0, 0).lately == 0
