"""Pilots in virtual time, against what can be worked out by hand and against list scheduling."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotmtc.agent.core.core import CLAIM_WAIT_BLOCKED_S
from pilotmtc.errors import UsageError
from pilotmtc.model import Resources
from pilotmtc.report.greedy import makespan
from pilotmtc.report.plan import Plan, make_plan, parse_shape, plan_lines
from pilotmtc.report.simulate import Costs, Outcome, Shape, simulate
from pilotmtc.report.work import Failure, Work

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
@example([(1, 1.0), (1, 2.0), (1, 1.0), (1, 1.0), (1, 1.0), (1, 1.0)], 2, 1, 2)
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
        best = makespan(tasks, pilots * nodes * cores)
        # A pilot takes a task ahead for each core: the last of these may wait for it while another pilot has nothing.
        ahead = 0.0 if pilots == 1 else 2 * max(duration for _, duration in tasks)
        assert found.finish_s <= best + ahead + 2 * ANSWER_S + 0.05 * len(tasks)


def test_task_waits_for_those_that_it_needs() -> None:
    work = work_of((ONE, 10.0), (ONE, 20.0), (ONE, 5.0), (ONE, 1.0))
    work.depend(2, 0)
    work.depend(2, 1)
    work.depend(3, 2, well=False)
    found = simulate(work, Shape(1, 1, 4), FREE)
    assert found.finish_s == pytest.approx(26.0, abs=3 * ANSWER_S)
    assert (found.left, found.useful_core_s) == (0, 36.0)


def test_task_that_needs_one_that_never_runs_is_left() -> None:
    work = work_of((Resources(cores=9), 10.0), (ONE, 20.0))
    work.depend(1, 0)
    assert simulate(work, Shape(1, 1, 4), FREE).left == 2


def test_failures_are_followed_by_retries_after_a_pause() -> None:
    work = Work()
    one = work.kind_of(ONE)
    task = work.add(one, 10.0, [Failure(5.0, 0.0, one), Failure(5.0, 100.0, work.kind_of(Resources(cores=2)))])
    found = simulate(work, Shape(1, 1, 2), FREE)
    assert found.finish_s == pytest.approx(120.0, abs=3 * ANSWER_S)
    assert (found.left, found.useful_core_s, work.took_s(task)) == (0, 5.0 + 5.0 + 2 * 10.0, 20.0)


def test_what_needs_a_failed_task_is_skipped_or_runs_as_it_asked() -> None:
    work = work_of((ONE, 10.0))
    bad = work.add(0, 10.0, well=False)
    skipped, after_it, anyway = (work.add(0, 1.0) for _ in range(3))
    work.depend(skipped, bad)
    work.depend(skipped, 0)
    work.depend(after_it, skipped)
    work.depend(anyway, bad, well=False)
    found = simulate(work, Shape(1, 1, 1), FREE)
    assert (found.left, found.useful_core_s, work.skipped()) == (0, 21.0, {skipped, after_it})
    plan = make_plan(work, [Shape(1, 1, 1)], Costs(), 5)
    assert (plan.failures, plan.failed, plan.skipped, plan.work_core_s) == (1, 1, 2, 21.0)
    assert "1 attempt will fail, 1 task for good, 2 tasks will be skipped" in plan_lines(plan)
    assert plan.rows[0].static_s is None


def test_tasks_come_by_priority_and_no_more_at_once_than_the_campaign_may() -> None:
    work = Work(max_running=2)
    for priority, duration in ((0, 30.0), (0, 10.0), (9, 20.0), (9, 20.0), (0, 10.0)):
        work.add(work.kind_of(ONE), duration, priority=priority)
    found = simulate(work, Shape(2, 1, 4), FREE)
    assert found.finish_s == pytest.approx(20.0 + 30.0, abs=4 * ANSWER_S)  # the two of priority 9, then 30 | 10 + 10


def test_long_task_does_not_end_a_plan_early() -> None:
    """Claims that find nothing are repeated many times while it runs."""
    work = work_of((ONE, 300_000.0), (Resources(cores=2), 10.0))
    assert simulate(work, Shape(1, 1, 2), FREE).left == 0


@given(st.data())
@settings(max_examples=60)
def test_any_graph_of_tasks_ends_between_its_bounds(data: st.DataObject) -> None:
    """Not before its longest path, nor before all cores together could; and not later than one after the other."""
    work = Work()
    paths: list[float] = []
    for task in range(data.draw(st.integers(1, 25))):
        one = work.kind_of(Resources(cores=data.draw(st.integers(1, 2))))
        fails = [Failure(took, 0.0, one) for took in data.draw(st.lists(st.floats(1.0, 9.0), max_size=2))]
        work.add(one, data.draw(st.floats(1.0, 50.0)), fails)
        needs = data.draw(st.sets(st.integers(0, task - 1), max_size=3)) if task else set()
        for need in needs:
            work.depend(task, need)
        paths.append(work.took_s(task) + max((paths[need] for need in needs), default=0.0))
    pilots, cores = data.draw(st.integers(1, 2)), data.draw(st.integers(2, 4))
    found = simulate(work, Shape(pilots, 1, cores), FREE)
    total = sum(work.took_s(task) for task in range(len(work)))
    assert found.left == 0
    assert found.useful_core_s == pytest.approx(work.core_s())
    assert found.finish_s >= max(paths) - 1e-6
    assert found.finish_s >= work.core_s() / (pilots * cores) - 1e-6
    # A claim under way has asked for less than there may be room for by now.
    assert found.finish_s <= total + (CLAIM_WAIT_BLOCKED_S + ANSWER_S) * 3 * len(work)


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
