"""The tasks of a campaign over two of its parameters."""

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from pilotmtc.model import Task
from pilotmtc.session.look.grid import Cell, grid_of
from pilotmtc.states import TaskState
from pilotmtc.tui.widgets.heat_map import heat_map
from tests.tui.fixed_tasks import attempt, scan

DONE, FAILED, READY = TaskState.DONE, TaskState.FAILED, TaskState.READY


def task(id_: int, params: Mapping[str, object], state: TaskState = DONE, elapsed_s: float = 1.0) -> Task:
    made = scan(id_, state, attempt(id_, elapsed_s=elapsed_s) if state in (DONE, FAILED) else None)
    return replace(made, params={name: str(value) for name, value in params.items()})


def test_cells_have_states_and_the_median_of_durations() -> None:
    grid = grid_of([
        task(1, {"x": 2, "y": "b"}), task(2, {"x": 10, "y": "a"}, FAILED, 3.0), task(3, {"x": 10, "y": "a"}, DONE, 5.0),
        task(4, {"x": 3, "y": "a"}, READY), task(5, {"x": 10, "y": "b"}, READY),
        task(6, {"x": 3, "z": 1}), task(7, {}),
    ])  # fmt: skip
    assert grid is not None
    assert (grid.across, grid.columns, grid.down, grid.rows) == ("x", ("2", "3", "10"), "y", ("a", "b"))
    assert grid.cells == {
        ("2", "b"): Cell({DONE: 1}, 1.0),
        ("10", "a"): Cell({FAILED: 1, DONE: 1}, 4.0),
        ("3", "a"): Cell({READY: 1}, None),
        ("10", "b"): Cell({READY: 1}, None),
    }  # fmt: skip
    states, durations = ([line.plain for line in heat_map(grid, 7, 80, timed=timed)] for timed in (False, True))
    assert states == ["── States: y down, x across (m: durations)", "a   ○ ✗ ", "b ✓   ○ ", "  2  10"]
    assert durations[1:] == ["a   · ██", "b ░░  · ", "  2  10", "░░ from 1s  ██ from 4s"]


@pytest.mark.parametrize(
    "params",
    [
        [],
        [{"x": n} for n in range(9)],
        [{"x": n, "y": 1} for n in range(9)],
        [{"x": n, "y": n} for n in range(9)],
        [{"x": n % 41, "y": n} for n in range(82)],
    ],
)
def test_there_is_no_map_without_two_parameters_of_few_values(params: list[dict[str, int]]) -> None:
    assert grid_of([task(n, one) for n, one in enumerate(params, 1)]) is None


def test_what_is_left_out_is_said() -> None:
    grid = grid_of([task(1 + 30 * y + x, {"x": x, "y": y}) for x in range(30) for y in range(2)])
    assert grid is not None
    title = heat_map(grid, 1000, 40, timed=False)[0].plain
    assert "19 of 30 values" in title
    assert "of 60 tasks that were read" in title
