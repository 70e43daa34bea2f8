"""Numbers of reports, computed by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from pilotmtc.model import CampaignId, PilotDescription, Resources
from pilotmtc.protocol.records import RunningTask
from pilotmtc.report.measure.clocks import shifts
from pilotmtc.report.measure.columns import RUNNING, cores_of, places_of
from pilotmtc.report.measure.make import Past, make_summary
from pilotmtc.report.records import CoreTime
from pilotmtc.report.report import Report
from pilotmtc.report.show.text import lines
from pilotmtc.states import Cause, TaskState
from tests.unit.report.past import T0, Row, attempts_of, past_of, pilot_of, row


def spent(time: CoreTime) -> dict[str, float]:
    """Return what is not zero."""
    return {name: round(amount, 6) for name, amount in asdict(time).items() if abs(amount) > 1e-6}


def core_s(*rows: Row, cores: int = 2, end: float | None = 20.0, **more: Any) -> dict[str, float]:
    return spent(make_summary(past_of(rows, pilot_of(cores, end=end), **more)).core_s)


def test_time_of_two_cores_is_told_apart() -> None:
    found = core_s(row(1.0, 4.0, "0"), row(2.0, 10.0, "1", task=2), row(5.5, 2.5, "0", task=3))
    # Core 0: 1 s start-up, 4 + 2.5 s work, 0.5 s between, 4 s tail; core 1: 2 s start-up, 10 s work; both leave 8 s.
    assert found == {"useful": 16.5, "startup": 3.0, "dispatch": 0.5, "tail": 4.0, "leaving": 16.0}
    assert sum(found.values()) == 2 * 20.0


def test_long_pauses_are_want_of_tasks() -> None:
    found = core_s(row(0.0, 5.0), row(8.0, 12.0, task=2), cores=1)
    assert found == {"useful": 17.0, "want_of_tasks": 3.0}


def test_cores_that_wait_for_a_wide_task_are_told_apart_from_the_pause_that_all_have() -> None:
    rows = [row(0.0, 4.0, "0"), row(0.0, 9.0, "1", task=2), row(9.5, 10.5, "0-1", task=3, resources=2)]
    found = core_s(*rows, needs={1: Resources(), 2: Resources(cores=2)})
    assert found == {"useful": 34.0, "dispatch": 1.0, "wide": 5.0}


def test_tasks_of_as_many_cores_wait_for_nothing_but_the_next_one() -> None:
    rows = [row(0.0, 10.0, "0-1"), row(10.2, 9.8, "0-1", task=2)]
    assert core_s(*rows, needs={1: Resources(cores=2)}) == {"useful": 39.6, "dispatch": 0.4}


@pytest.mark.parametrize(
    ("cause", "code", "where"),
    [
        (Cause.EXIT, 0, "useful"), (Cause.EXIT, 1, "failed"), (Cause.SIGNAL, 9, "failed"),
        (Cause.TIMEOUT, 15, "failed"), (Cause.OOM, 9, "failed"), (Cause.WALLTIME, 15, "lost"),
        (Cause.NODE_LOST, 0, "lost"),
        (Cause.PILOT_LOST, 0, "lost"), (Cause.PREEMPTED, 0, "lost"), (Cause.CANCELED, 15, "canceled"),
        (RUNNING, 0, "running"),
    ],
)  # fmt: skip
def test_attempts_count_by_how_they_ended(cause: int, code: int, where: str) -> None:
    assert core_s(row(0.0, 20.0, cause=int(cause), code=code), cores=1) == {where: 20.0}


def test_cores_without_any_task_are_unused() -> None:
    assert core_s(row(0.0, 20.0, "2"), cores=3) == {"useful": 20.0, "unused": 40.0}


def test_pilot_of_the_campaign_that_never_had_a_task_counts() -> None:
    summary = make_summary(past_of([row(0.0, 20.0)], pilot_of(1, end=20.0), pilot_of(4, end=10.0, id_=2)))
    assert spent(summary.core_s) == {"useful": 20.0, "unused": 40.0}
    assert summary.pilots[1].first_task_at is None


def test_what_was_lost_with_a_pilot_is_taken_from_its_idle_time() -> None:
    lost = row(10.0, 0.0, "", node="", task=2, cause=int(Cause.PILOT_LOST), recorded_at=T0 + 20.0)
    assert core_s(row(0.0, 9.0), lost, cores=1) == {"useful": 9.0, "lost": 10.0, "leaving": 1.0}


def test_shared_pilot_counts_from_the_campaigns_creation_to_its_last_task() -> None:
    shared = replace(pilot_of(1, begin=-100.0, end=500.0), description=PilotDescription())
    rows = [row(-80.0, 85.0, campaign=2, task=1), row(5.0, 10.0, task=2), row(15.0, 60.0, campaign=2, task=3)]
    assert spent(make_summary(past_of(rows, shared, created=-10.0)).core_s) == {"others": 15.0, "useful": 10.0}


def test_efficiency_is_useful_time_of_what_pilots_had_until_the_last_task() -> None:
    rows = [row(0.0, 10.0, "0"), row(0.0, 5.0, "1", task=2)]
    summary = make_summary(past_of(rows, pilot_of(2, end=100.0)))
    assert (summary.efficiency, summary.greedy_efficiency) == (0.75, 1.0)
    assert (summary.makespan_s, summary.turnaround_s) == (10.0, 20.0)
    late = make_summary(past_of([row(10.0, 10.0, "0")], pilot_of(1, end=100.0)))
    assert (late.efficiency, late.greedy_efficiency) == (0.5, 0.5)


def test_pilot_tells_when_it_was_submitted_started_and_full() -> None:
    rows = [row(1.0, 10.0, "0"), row(3.0, 5.0, "1", task=2), row(8.5, 2.0, "1", task=3)]
    (pilot,) = make_summary(past_of(rows, pilot_of(2, end=20.0))).pilots
    times = (pilot.submitted_at, pilot.started_at, pilot.first_task_at, pilot.full_at, pilot.last_task_at)
    assert [at - T0 for at in times if at is not None] == [-5.0, 0.0, 1.0, 3.0, 11.0]
    assert (pilot.attempts, pilot.greedy_s) == (3, 10.0)


def test_pauses_of_slots_are_distributed() -> None:
    rows = [row(at * 1.1, 1.0, task=at) for at in range(11)]
    gaps = make_summary(past_of(rows, pilot_of(1, end=20.0))).gaps_s
    assert gaps.count == 10
    assert gaps.median == pytest.approx(0.1)


def test_running_tasks_count_until_now() -> None:
    past = past_of([row(0.0, 5.0)], pilot_of(1), now=20.0)
    attempts = past.attempts
    attempts.add_running(RunningTask(7, 1, CampaignId(1), T0 + 5.0, "n1", "0"), 1, T0 + 20.0)  # type: ignore[arg-type]
    summary = make_summary(Past(attempts, past.campaigns, [*past.pilots.values()], T0 + 20.0))
    assert spent(summary.core_s) == {"useful": 5.0, "running": 15.0}
    assert [row.cause for row in Report(Past(attempts, past.campaigns, [], T0)).rows()] == ["EXIT", "RUNNING"]


def test_cores_in_use_over_time() -> None:
    rows = [row(0.0, 60.0, "0"), row(60.0, 60.0, "0", task=2), row(0.0, 60.0, "1", task=3)]
    used = make_summary(past_of(rows, pilot_of(4, end=120.0))).utilisation
    assert used.step_s == 1.0
    assert used.busy == (2.0,) * 60 + (1.0,) * 60
    assert used.cores == (4.0,) * 120


def test_there_is_no_time_before_anything_has_run() -> None:
    summary = make_summary(past_of([], pilot_of(4)))
    assert (summary.begin_at, summary.end_at, summary.makespan_s) == (None, None, 0.0)
    assert (summary.utilisation.start_at, summary.utilisation.busy) == (None, ())


@pytest.mark.parametrize(("off", "shift"), [(0.0, 0.0), (30.0, -30.0), (-30.0, 29.9), (0.05, 0.0), (-0.05, 0.0)])
def test_clocks_are_corrected_as_far_as_they_are_proved_wrong(off: float, shift: float) -> None:
    # A clock that is ahead lets results come before the tasks end; one that is late lets tasks start before the pilot.
    rows = [row(0.1 + off, 10.0, recorded_at=T0 + 10.2), row(10.2 + off, 10.0, recorded_at=T0 + 20.25)]
    attempts = attempts_of(rows)
    (found,) = shifts(attempts, {1: T0}).values()
    assert found == pytest.approx(shift, abs=0.11)


def test_clock_is_moved_between_bounds_that_contradict_each_other() -> None:
    rows = [row(-4.0, 10.0, recorded_at=T0 + 7.0), row(10.0, 10.0, recorded_at=T0 + 18.0)]
    assert list(shifts(attempts_of(rows), {1: T0}).values()) == [1.0]


def test_slow_node_is_found() -> None:
    rows = [row(at * 10.0, 10.0 + at % 3 * 0.1, node=f"n{at % 4}", task=at) for at in range(80)]
    rows = [replace_row(one, elapsed_s=15.0) if one["node"] == "n2" else one for one in rows]
    found = make_summary(past_of(rows, pilot_of(4, end=900.0))).nodes
    assert [node.node for node in found if node.slow] == ["n2"]
    assert found[0].factor == pytest.approx(1.5, rel=0.02)


def replace_row(one: Row, **new: Any) -> Row:
    return {**one, **new}


def test_deaths_are_counted_with_an_example() -> None:
    rows = [
        row(0.0, 5.0, task=4, cause=int(Cause.SIGNAL), code=11, node="n7"),
        row(5.0, 5.0, task=5, cause=int(Cause.SIGNAL), code=11, node="n7"),
        row(10.0, 1.0, task=6, code=2),
    ]
    found = make_summary(past_of(rows, pilot_of(1, end=20.0))).deaths
    assert [(one.cause, one.code, one.attempts, one.task, one.node) for one in found] == [
        ("SIGNAL", 11, 2, 4, "n7"), ("EXIT", 2, 1, 6, "n1"),
    ]  # fmt: skip


def asked(past: Past) -> dict[str, tuple[str, str]]:
    return {one.what: (one.now, one.ask) for one in make_summary(past).advice}


def test_less_is_advised_where_much_was_reserved_for_nothing() -> None:
    need = Resources(cores=8, memory_bytes=64 << 30, time_limit_s=36000.0)
    rows = [row(at * 10.0, 9.0, "0-7", task=at, cpu_s=11.0, memory_bytes=1 << 30) for at in range(10)]
    found = asked(past_of(rows, pilot_of(8, end=100.0), needs={1: need}))
    assert found == {"memory": ("64G", "1.2G"), "cores": ("8", "2"), "time limit": ("10h00m", "14s")}


def test_more_is_advised_where_limits_were_exceeded() -> None:
    need = Resources(memory_bytes=1 << 30, time_limit_s=60.0)
    rows = [row(0.0, 50.0, cpu_s=150.0), row(50.0, 60.0, task=2, cause=int(Cause.TIMEOUT), code=15)]
    rows.append(row(110.0, 5.0, task=3, cause=int(Cause.OOM), code=9))
    found = asked(past_of(rows, pilot_of(1, end=120.0), needs={1: need}))
    assert found == {"memory": ("1.0G", "2.0G"), "cores": ("1", "3"), "time limit": ("1m00s", "2m00s")}


def test_fewer_cores_are_advised_for_a_long_tail_and_more_where_there_is_none() -> None:
    tail = [row(0.0, 10.0, str(core), task=core) for core in range(7)] + [row(0.0, 80.0, "7", task=8)]
    assert asked(past_of(tail, pilot_of(8, end=80.0)))["cores of pilots"] == ("8", "1")
    even = [row(at * 10.0, 10.0, task=at) for at in range(64)]
    assert asked(past_of(even, pilot_of(1, end=640.0)))["cores of pilots"] == ("1", "up to 8")


def test_fewer_cores_are_advised_where_most_never_had_a_task() -> None:
    rows = [row(0.0, 10.0, "0"), row(0.0, 10.0, "1", task=2), row(10.0, 10.0, "0", task=3)]
    assert asked(past_of(rows, pilot_of(8, end=20.0)))["cores of pilots"] == ("8", "2")


def test_little_memory_is_advised_but_not_less_than_is_always_there() -> None:
    rows = [row(0.0, 10.0, memory_bytes=2 << 20)]
    assert asked(past_of(rows, pilot_of(1, end=20.0), needs={1: Resources(memory_bytes=1 << 30)}))["memory"] == (
        "1.0G", "64M",
    )  # fmt: skip


def test_shorter_walltime_is_advised() -> None:
    pilot = pilot_of(1, end=100.0)
    pilot = replace(pilot, description=replace(pilot.description, walltime_s=3600.0))
    assert asked(past_of([row(0.0, 100.0)], pilot))["walltime"] == ("1h00m", "2m00s")


@st.composite
def schedules(draw: st.DrawFn) -> Past:
    """Return what some pilots might have done: whatever the clocks say, cores are used by one task after another."""
    rows: list[Row] = []
    pilots = []
    for id_ in range(1, draw(st.integers(1, 3)) + 1):
        cores = draw(st.integers(1, 5))
        begin = draw(st.floats(-50.0, 50.0))
        free = [begin] * cores
        for _ in range(draw(st.integers(0, 12))):
            first = draw(st.integers(0, cores - 1))
            last = draw(st.integers(first, cores - 1))
            start = max(free[first : last + 1]) + draw(st.floats(-0.01, 5.0))
            elapsed = draw(st.floats(0.0, 20.0))
            free[first : last + 1] = [start + elapsed] * (last - first + 1)
            cause = draw(st.sampled_from([int(cause) for cause in Cause]))
            rows.append(row(
                start, elapsed, draw(st.sampled_from([f"{first}-{last}", f"{first}-{last}", ""])), pilot=id_,
                task=len(rows) + 1, campaign=draw(st.sampled_from([1, 1, 1, 2])), cause=cause,
                code=draw(st.sampled_from([0, 0, 1])), recorded_late_s=draw(st.floats(0.0, 3.0)),
            ))  # fmt: skip
        pilots.append(pilot_of(cores, begin=begin, end=draw(st.none() | st.just(max(free) + 5.0)), id_=id_))
    return past_of(rows, *pilots)


@given(schedules())
def test_core_time_adds_up_to_cores_times_time(past: Past) -> None:
    summary = make_summary(past)
    for pilot in summary.pilots:
        assert all(amount >= -1e-6 for amount in asdict(pilot.core_s).values())
        assert math.isclose(
            pilot.core_s.total, pilot.cores * (pilot.until_at - pilot.from_at), rel_tol=1e-9, abs_tol=1e-4
        )
    assert math.isclose(
        summary.core_s.total, sum(pilot.core_s.total for pilot in summary.pilots), rel_tol=1e-9, abs_tol=1e-4
    )
    assert summary.efficiency is None or -1e-9 <= summary.efficiency <= 1 + 1e-6
    text = lines(summary, width=100)
    assert [line for line in text if len(line) > 100] == []


def test_places_of_attempts() -> None:
    assert cores_of("0-3,8") == [0, 1, 2, 3, 8]
    assert places_of("n[1-2]", "0-1;3") == (("n1", 0), ("n1", 1), ("n2", 3))
    assert places_of("n[1-2]", "0") == (("n1", 0), ("n2", 0))
    assert places_of("", "0") == places_of("n1", "") == ()


def test_rows_have_times_of_the_store() -> None:
    (one,) = Report(past_of([row(30.0, 10.0, recorded_at=T0 + 11.0)], pilot_of(1, end=20.0))).rows()
    assert (one.started_at - T0, one.ended_at - T0, one.state, one.cores) == (1.0, 11.0, TaskState.DONE.name, 1)


def test_frame_has_the_rows() -> None:
    frame = Report(past_of([row(0.0, 2.5, name="a"), row(3.0, 1.0, task=2)], pilot_of(1, end=20.0))).to_pandas()
    assert list(frame["name"]) == ["a", ""]
    assert (frame["ended_at"] - frame["started_at"]).dt.total_seconds().tolist() == [2.5, 1.0]


def test_report_without_attempts_says_so() -> None:
    assert lines(make_summary(past_of([])))[-1] == "No task has started yet."
