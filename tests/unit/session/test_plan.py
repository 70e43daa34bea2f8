"""What would be submitted, without submitting it."""

import pytest

from pilotmtc.campaign.file import loads
from pilotmtc.errors import UsageError
from pilotmtc.model import PilotDescription, Resources
from pilotmtc.session.run.fitting import room_for
from pilotmtc.session.submit.command_line import tasks_of
from pilotmtc.session.submit.plan import make_plan, places
from pilotmtc.states import PilotState
from tests.unit.session.test_explain import pilot


def test_first_and_last_tasks_are_expanded_and_all_are_counted() -> None:
    plan = make_plan(tasks_of(["./sim {x} {#:03d} {task_id}"], [], None, ["x=1..10000"], {"stdout": "/o/{x}"}))
    assert plan.tasks == 10_000
    assert [task.command for task in plan.first] == ["./sim 1 001 1", "./sim 2 002 2", "./sim 3 003 3"]
    assert [task.number for task in plan.last] == [9998, 9999, 10_000]
    assert (plan.last[2].stdout, plan.last[2].params) == ("/o/10000", {"x": "10000", "#": "10000"})
    assert [(one.tasks, one.resources) for one in plan.needs] == [(10_000, Resources())]


def test_needs_of_tables_are_counted_apart_and_dependencies_are_shown() -> None:
    file = """
    [[task]]
    name = "a-{x}"
    command = "a {x}"
    grid = { x = [1, 2] }
    [[task]]
    command = "b"
    cores = 2
    after = ["a-1", "a-2"]
    [[task]]
    command = "c"
    """
    plan = make_plan(loads(file).tasks())
    assert [(one.tasks, one.resources.cores) for one in plan.needs] == [(3, 1), (1, 2)]
    assert [task.number for task in (*plan.first, *plan.last)] == [1, 2, 3, 4]
    assert plan.first[2].after == ("a-1", "a-2")


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["a {x:01d}", ":::", *map(str, range(5000)), "b"], {}, "task 5001: 'b' cannot be the value"),
        (["a", ":::", "1", "1"], {"stdout": "{1}"}, "task 2 would write to"),
    ],
)
def test_errors_are_those_of_submitting(words: list[str], options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_plan(tasks_of(words, [], None, [], options))  # type: ignore[arg-type]


def test_no_tasks_are_an_error() -> None:
    with pytest.raises(UsageError, match="there are no tasks"):
        make_plan([])


def test_room_is_counted_over_nodes() -> None:
    asked = PilotDescription(cores=8, memory_bytes=10 << 30, nodes=3, scheduler="slurm://localhost/", named={"l": 2})
    assert room_for(Resources(cores=2), asked, {}) == 12
    assert room_for(Resources(memory_bytes=4 << 30), asked, {}) == 6
    assert room_for(Resources(named={"l": 1}), asked, {}) == 6
    assert room_for(Resources(named={"m": 0.5}), asked, {"m": 2.5}) == 5
    assert room_for(Resources(cores=2, ranks=6), asked, {}) == 2
    assert room_for(Resources(), PilotDescription(scheduler="slurm://localhost/"), {}) is None


def test_places_say_why_not() -> None:
    pilots = [pilot(id_=1), pilot(id_=2, gpus=2), pilot(PilotState.DRAINING, id_=3), pilot(id_=4, campaign=9)]
    found = places(Resources(gpus=1), pilots, {}, 0.0)
    assert found == {1: "has 0 GPUs a node, and the task needs 1", 2: "", 3: "is draining: it takes nothing new"}
