"""What the table of tasks shows besides rows: the states with their numbers, and the task under the cursor."""

import asyncio
from collections.abc import Awaitable, Callable

from pilotmtc.session.look.filter import with_states
from pilotmtc.states import TaskState
from pilotmtc.tui.screens.tasks import TasksScreen
from pilotmtc.tui.widgets.preview import Preview
from tests.tui.driving import Driver
from tests.tui.fixed_tasks import mixed
from tests.tui.test_snapshots_tasks import app_of

S = TaskState


def drive_mixed(script: Callable[[Driver], Awaitable[None]], size: tuple[int, int], filter_: str = "") -> None:
    """Show some tasks in all states."""

    async def main() -> None:
        app = app_of()
        async with app.run_test(size=size) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            app.open_tasks(filter_)
            await screen.see("TASK")
            await script(screen)

    asyncio.run(main())


def test_states_of_a_filter_are_exchanged_and_nothing_else() -> None:
    assert with_states("", (S.RUNNING, S.CLAIMED)) == "state:running,claimed"
    assert with_states('campaign:1 state:failed tag:"a b"', (S.DONE,)) == 'campaign:1 tag:"a b" state:done'
    assert with_states('"state":done "state:done"', ()) == '"state:done"'


def test_a_state_is_shown_by_its_key_and_all_by_the_same_key_again() -> None:
    ids = {state: [str(task.id) for task in mixed() if task.state in state] for state in ((S.FAILED,), tuple(S))}

    async def script(screen: Driver) -> None:
        await screen.see("1 ◌ 20", "3 ▶ 3,972", "5 ✗ 42", "6 ⊘ 18")
        table = screen.table("tasks")
        await screen.until(lambda: table.keys == ids[tuple(S)])
        await screen.press("5")
        await screen.see("tasks state:failed", " ✗ 42 ")
        await screen.until(lambda: table.keys == ids[S.FAILED,])
        await screen.press("3")
        await screen.see("tasks state:running,claimed")
        await screen.press("3")
        await screen.until(lambda: table.keys == ids[tuple(S)])
        assert isinstance(screen.app.screen, TasksScreen)
        assert screen.app.screen.place == "tasks"

    drive_mixed(script, (80, 24))


def test_task_under_the_cursor_is_in_a_pane_where_there_is_room_and_on_demand_elsewhere() -> None:
    async def tall(screen: Driver) -> None:
        await screen.see("task 1  ✓ DONE", "step 30 of task 1")
        await screen.press("down")
        await screen.see("task 2  ✓ DONE", "step 30 of task 2")
        await screen.press("v")
        await screen.until(lambda: not screen.app.screen.query_one(Preview).display)

    async def small(screen: Driver) -> None:
        await screen.until(lambda: not screen.app.screen.query_one(Preview).display)
        await screen.press("v")
        await screen.see("task 1  ✓ DONE", "./scan --mass 120.1")

    drive_mixed(tall, (100, 60))
    drive_mixed(tall, (160, 45))
    drive_mixed(small, (80, 24))
