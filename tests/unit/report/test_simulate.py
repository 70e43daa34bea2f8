"""Pilots in virtual time, against what can be worked out by hand and against list scheduling."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotmtc.agent.core.core import CLAIM_WAIT_BLOCKED_S
from pilotmtc.errors import UsageError
from pilotmtc.model import Resources
from pilotmtc.report.greedy import makespan
from pilotmtc.report.plan import Plan, make_plan, parse_shape, plan_lines
from pilotmtc.report.simulate import Costs, Outcome, Shape, Work, simulate

ANSWER_S = 0.1  # claims take a moment
FREE = Costs()
ONE = Resources()


def work_of(*tasks: tuple[Resources, float]) -> Work:
    work = Work()
    for need, duration in tasks:
        work.add(work.kind_of(need), duration)
    return work


def run(shape: Shape, *tasks: tuple[Resources, float], costs: Costs = FREE) -> Outcome:
    return simulate(work_of(*tasks), shape, costs)


def test_tasks_of_one_core_fill_the_slots() -> None:
    found = run(Shape(1, 1, 2), *[(ONE, 10.0)] * 5, costs=Costs(1.0, 0.5))
    assert found.finish_s == pytest.approx(1.0 + 10.5 + 10.5 + 10.0, abs=ANSWER_S)
    assert (found.useful_core_s, found.left) == (50.0, 0)
    assert found.core_s == pytest.approx(2 * found.finish_s)


def test_pilots_share_tasks_and_each_ends_with_its_last_one() -> None:
    found = run(Shape(2, 1, 1, wait_s=100.0), (ONE, 10.0), (ONE, 30.0), (ONE, 10.0))
    assert found.finish_s == pytest.approx(130.0, abs=ANSWER_S)
    assert found.core_s == pytest.approx(20.0 + 30.0, abs=ANSWER_S)


def test_wide_task_waits_for_all_its_cores() -> None:
    wide = Resources(cores=2, ranks=2)
    found = run(Shape(1, 2, 2), (ONE, 4.0), (wide, 5.0), (ONE, 1.0))
    assert found.finish_s == pytest.approx(9.0, abs=ANSWER_S)


def test_memory_limits_how_many_run_side_by_side() -> None:
    need = Resources(memory_bytes=3 << 30)
    found = run(Shape(1, 1, 8, memory_bytes=7 << 30), *[(need, 50.0)] * 4)
    # A claim that is under way when room becomes free has asked for less: another one follows when it has expired.
    assert 100.0 <= found.finish_s <= 100.0 + CLAIM_WAIT_BLOCKED_S + ANSWER_S


def test_what_does_not_fit_is_left() -> None:
    found = run(Shape(1, 2, 4), (Resources(cores=5), 1.0), (ONE, 1.0), (Resources(gpus=1), 1.0))
    assert (found.left, found.useful_core_s) == (2, 1.0)


def test_walltime_ends_pilots_with_work_left() -> None:
    found = run(Shape(1, 1, 1, walltime_s=100.0), *[(ONE, 40.0)] * 4)
    assert (found.left, found.useful_core_s) == (2, 80.0)
    assert found.core_s == pytest.approx(90.0)  # the third was stopped in time for the pilot to end well
    expected = Resources(expected_s=40.0)
    found = run(Shape(1, 1, 1, walltime_s=100.0), *[(expected, 40.0)] * 4)
    assert (found.left, found.useful_core_s) == (2, 80.0)


@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 2]), st.floats(0.5, 50.0)), min_size=1, max_size=40),
    st.integers(1, 3), st.integers(1, 3), st.integers(2, 4),
)  # fmt: skip
@settings(max_examples=40)
def test_all_tasks_run_about_as_soon_as_by_list_scheduling(
    tasks: list[tuple[int, float]], pilots: int, nodes: int, cores: int
) -> None:
    found = run(Shape(pilots, nodes, cores), *[(Resources(cores=need), duration) for need, duration in tasks])
    total = sum(need * duration for need, duration in tasks)
    assert found.left == 0
    assert found.useful_core_s == pytest.approx(total)
    assert found.finish_s >= max(duration for _, duration in tasks)
    assert found.finish_s >= total / (pilots * nodes * cores)
    if all(need == 1 for need, _ in tasks):
        assert found.finish_s <= makespan(tasks, pilots * nodes * cores) + 2 * ANSWER_S + 0.05 * len(tasks)


def plan_of(*shapes: str, tasks: int = 20) -> Plan:
    work = work_of(*[(ONE, 10.0)] * tasks)
    return make_plan(work, [parse_shape(text, Shape(1, 1, 2)) for text in shapes], Costs(), tasks)


def test_best_shape_ends_nearly_first_with_the_fewest_core_hours() -> None:
    plan = plan_of("1x1", "1x5", "1x20")
    assert [round(row.finish_s or 0) for row in plan.rows] == [100, 20, 10]
    assert plan.best == "1x20x2"
    assert plan.reason.startswith("it ends first; 1x1x2 needs least")
    assert plan_of("1x20", "20x1").best == "20x1x2"  # those without a task end at once
    assert plan.rows[1].static_s == 20.0


def test_plan_says_when_nothing_runs_all_tasks() -> None:
    plan = make_plan(work_of((Resources(cores=8), 1.0)), [Shape(1, 1, 2)], Costs(), 0)
    assert (plan.best, plan.rows[0].finish_s, plan.rows[0].left) == ("", None, 1)
    assert plan_lines(plan)[-1] == "none of them runs all tasks"
    assert max(map(len, plan_lines(plan_of("1x1", "1x5"), width=80))) <= 120


@pytest.mark.parametrize("text", ["", "10", "0x1", "1x2x3x4", "-1x2", "1x2x", "9999x9999", "axb"])
def test_shapes_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"shape|cores"):
        parse_shape(text, Shape(1, 1, 2))
