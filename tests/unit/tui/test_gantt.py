"""Slots against time: from attempts to cells."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from pilotmtc.model import CampaignId, TaskId
from pilotmtc.protocol.records import RunningTask, Span
from pilotmtc.states import Cause
from pilotmtc.tui.widgets.gantt import Bar, Gantt, cells_of, cores_of, lanes_of, utilisation, with_running


class _Alone(App[None]):
    def compose(self) -> ComposeResult:
        yield Gantt()


@pytest.mark.parametrize(
    ("slot", "cores"), [("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("", []), ("0-11;0-3", []), ("x", []), ("-1", [])]
)
def test_slots_are_read(slot: str, cores: list[int]) -> None:
    assert cores_of(slot) == cores


def test_attempts_and_what_runs_lie_on_their_cores_in_order_of_time() -> None:
    spans = [
        Span(TaskId(2), 1, "n1", "0", 20.0, 5.0, Cause.EXIT, 3),
        Span(TaskId(1), 1, "n1", "0-1", 10.0, 10.0, Cause.EXIT, 0),
        Span(TaskId(3), 1, "n0", "1", 10.0, 1.0, Cause.NODE_LOST, 0),
    ]
    running = [
        RunningTask(TaskId(4), 1, CampaignId(1), 26.0, "n1", "0"),
        RunningTask(TaskId(5), 1, CampaignId(1), 0.0),
    ]
    assert lanes_of(spans, running, 30.0) == {
        ("n0", 1): [Bar(10.0, 11.0, "lost")],
        ("n1", 0): [Bar(10.0, 20.0, "done"), Bar(20.0, 25.0, "failed"), Bar(26.0, 30.0, "runs")],
        ("n1", 1): [Bar(10.0, 20.0, "done")],
    }


def test_worst_in_a_cell_is_shown() -> None:
    bars = [Bar(0.0, 4.0, "done"), Bar(4.2, 4.4, "failed"), Bar(4.5, 9.0, "done")]
    assert cells_of(bars, 0.0, 1.0, 10) == ["done"] * 4 + ["failed"] + ["done"] * 5
    assert cells_of(bars, 0.0, 10.0, 1) == ["failed"]


def test_utilisation_is_the_share_of_time_that_was_used() -> None:
    lanes = {("n", 0): [Bar(0.0, 10.0, "done")], ("n", 1): [Bar(0.0, 5.0, "done")]}
    assert utilisation(lanes) == 0.75
    assert utilisation({}) == 0.0


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6))), st.floats(-1e6, 1e6), st.floats(0.1, 3600.0),
    st.integers(1, 300),
)  # fmt: skip
def test_cells_are_as_many_as_asked_for(times: list[tuple[float, float]], start: float, step: float, n: int) -> None:
    bars = [Bar(at, at + elapsed, "done") for at, elapsed in times]
    cells = cells_of(bars, start, step, n)
    assert len(cells) == n
    assert set(cells) <= {"", "done"}


def test_all_of_the_time_fills_the_screen_and_steps_of_zoom_are_fine() -> None:
    async def main() -> None:
        app = _Alone()
        async with app.run_test(size=(100, 10)) as pilot:
            gantt = app.query_one(Gantt)
            gantt.show({("n", 0): [Bar(0.0, 1000.0, "done")]})
            await pilot.pause()
            line = gantt.render_line(1).text
            assert 80 <= line.count("█") <= 84
            whole = gantt.step
            steps = [whole]
            for _ in range(3):
                gantt.action_zoom(-1)
                steps.append(gantt.step)
            assert all(1 < before / after <= 2.5 for before, after in pairwise(steps))
            gantt.action_fit()
            assert gantt.step == whole

    asyncio.run(main())


def test_running_tasks_are_added_to_what_has_ended() -> None:
    ended = {("a", 0): [Bar(0.0, 1.0, "done")], ("b", 0): [Bar(0.0, 1.0, "done")]}
    running = [RunningTask(TaskId(1), 1, CampaignId(1), 2.0, "a", "0-1")]
    assert with_running(ended, running, 3.0) == {
        ("a", 0): [Bar(0.0, 1.0, "done"), Bar(2.0, 3.0, "runs")],
        ("a", 1): [Bar(2.0, 3.0, "runs")],
        ("b", 0): [Bar(0.0, 1.0, "done")],
    }
    assert ended["a", 0] == [Bar(0.0, 1.0, "done")]
