"""List scheduling against a slow one that looks at every moment."""

from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.report.greedy import makespan
from pilotmtc.report.measure.distribution import distribution, percentile


def test_list_scheduling_by_hand() -> None:
    assert makespan([(1, 3.0), (1, 3.0), (1, 2.0)], 2) == 5.0
    assert makespan([(2, 3.0), (2, 3.0)], 2) == 6.0
    assert makespan([(2, 3.0), (3, 1.0), (1, 3.0)], 3) == 4.0  # the last one fits beside the first
    assert makespan([(8, 1.0)], 4) == 1.0
    assert makespan([], 4) == 0.0


def naive(tasks: list[tuple[int, int]], cores: int) -> int:
    waiting = list(tasks)
    running: list[list[int]] = []
    now = 0
    while waiting or running:
        free = cores - sum(need for need, _ in running)
        for task in list(waiting):
            if task[0] <= free:
                waiting.remove(task)
                running.append([task[0], task[1] + now])
                free -= task[0]
        now += 1
        running = [one for one in running if one[1] > now]
    return now


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=14), st.integers(4, 7))
def test_list_scheduling_is_that_of_a_slow_one(tasks: list[tuple[int, int]], cores: int) -> None:
    assert makespan([(need, float(duration)) for need, duration in tasks], cores) == naive(tasks, cores)


@given(st.lists(st.floats(1e-6, 1e9), min_size=1))
def test_histogram_has_all_values(values: list[float]) -> None:
    found = distribution(values)
    assert sum(found.counts) == found.count == len(values)
    assert list(found.edges) == sorted(found.edges)
    assert found.least <= found.p10 <= found.median <= found.p90 <= found.p99 <= found.most
    assert found.least <= found.mean <= found.most


def test_percentiles_are_values() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], part) for part in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1, 1, 2, 3, 4]
