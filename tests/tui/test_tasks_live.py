"""The table of tasks stays what its filter and its order say."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from pilotmtc.model import Task, TaskId
from pilotmtc.protocol.client.tasks import GetTasks, Tasks
from pilotmtc.protocol.client.watch import GetOverview
from pilotmtc.protocol.records import Filter
from pilotmtc.session import Session
from pilotmtc.states import TaskState
from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.base import Base
from pilotmtc.tui.widgets.tables.listing import HELD, Listing
from tests.serving import Place
from tests.tui.driving import Driver, drive
from tests.tui.fixed import FixedGateway, running
from tests.tui.fixed_tasks import attempt, mixed, pages, scan


def drive_tasks(
    tasks: Sequence[Task], filter_: str, script: Callable[[Driver, Callable[[Sequence[Task]], None]], Awaitable[None]]
) -> None:
    """Show the tasks of a filter; `script` gets what tells of other tasks."""

    async def main() -> None:
        gateway = FixedGateway({GetOverview: running(), GetTasks: pages(tuple(tasks))})
        app = MtcApp(gateway)

        def tell(others: Sequence[Task]) -> None:
            gateway.answers = {**gateway.answers, GetTasks: pages(tuple(others))}
            assert isinstance(app.screen, Base)
            app.screen.take_news()

        async with app.run_test(size=(100, 30)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            app.open_tasks(filter_)
            await screen.see("scan")
            await script(screen, tell)

    asyncio.run(main())


def test_filtered_list_shows_what_comes_and_lets_go_what_leaves() -> None:
    tasks = {task.id: task for task in mixed()}
    ids = [str(id_) for id_, task in tasks.items() if task.state is TaskState.RUNNING]

    async def script(screen: Driver, tell: Callable[[Sequence[Task]], None]) -> None:
        table = screen.table("tasks")
        await screen.until(lambda: table.keys == ids)
        await screen.press("down", "down")
        ended = replace(tasks[TaskId(28)], state=TaskState.DONE, last=attempt(28), started_at=None)
        begun = scan(24, TaskState.RUNNING)
        tell([{28: ended, 24: begun}.get(int(task.id), task) for task in tasks.values()])
        await screen.see("✓ DONE")  # for some seconds
        await screen.until(lambda: table.keys == ["24", *(id_ for id_ in ids if id_ != "28")])
        assert table.current == "27"  # the cursor stays on its task

    drive_tasks(list(tasks.values()), "state:running", script)


def test_order_by_value_is_kept_as_tasks_end() -> None:
    tasks = [scan(id_, TaskState.DONE, attempt(id_, ago_s=1000.0 - id_)) for id_ in range(1, 11)]

    async def script(screen: Driver, tell: Callable[[Sequence[Task]], None]) -> None:
        table = screen.table("tasks")
        await screen.press("s", "down", "down", "enter")
        await screen.see("ended last first")
        await screen.until(lambda: table.keys[:2] == ["10", "9"])
        tell([*tasks, scan(11, TaskState.DONE, attempt(11, ago_s=1.0))])
        await screen.until(lambda: table.keys[:2] == ["11", "10"])

    drive_tasks(tasks, "", script)


def test_order_by_value_says_where_it_ends_and_goes_on_before() -> None:
    tasks = [scan(id_, TaskState.DONE, attempt(id_, elapsed_s=float(id_))) for id_ in range(1, 2001)]

    async def script(screen: Driver, tell: Callable[[Sequence[Task]], None]) -> None:
        table = screen.table("tasks")
        await screen.press("s", "down", "down", "down", "enter")
        await screen.see("200 of 1,000,100 tasks · longest first")
        while len(table.keys) < HELD:
            held = len(table.keys)
            table.move_cursor(row=held - 1)
            await screen.until(lambda held=held: len(table.keys) > held)  # type: ignore[misc]
        assert table.keys[0] == "2000"
        table.move_cursor(row=HELD - 1)
        await screen.press("down")
        await screen.see("These are the first 750, longest first")

    drive_tasks(tasks, "", script)


def test_window_says_nothing_of_what_it_did_not_reach() -> None:
    listing = Listing(Filter(states=(TaskState.RUNNING,)))
    tasks = [scan(id_, TaskState.RUNNING) for id_ in (5, 10, 15, 20)]
    listing.take_next(Tasks(tuple(tasks)))
    assert listing.take_window(5, Tasks((tasks[2],), 15)) == [10]
    assert list(listing.rows) == [5, 10, 15, 20]
    assert listing.take_window(0, Tasks((scan(3, TaskState.RUNNING), *tasks), 0)) == []
    assert list(listing.rows) == [3, 5, 10, 15, 20]
    assert not listing.below
    assert listing.take_window(20, Tasks((scan(25, TaskState.RUNNING),), 25)) == []
    assert (list(listing.rows)[-1], listing.below) == (25, 25)  # there are more than fit into a page


def test_list_of_a_deleted_campaign_says_so_and_asks_no_more(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("true", range(3))
        session.cancel(campaign=1)

        async def script(screen: Driver) -> None:
            await screen.see("● live")
            screen.app.open_tasks("campaign:1")
            await screen.see("⊘ CANCELED", "3 tasks")
            session.delete(1)
            await screen.see("campaign 1 was deleted", "Campaign 1 was deleted.")
            session.submit("true")
            await screen.press("escape")
            await screen.see("○ 1 ready")
            assert sum("was deleted" in one.text for one in screen.app.said) == 1

        drive(str(place.path), script)


def test_deleted_tasks_leave_a_list_of_all(place: Place) -> None:
    with Session(place.path) as session:
        for _ in range(2):
            session.submit("true", range(3))
        session.cancel(campaign=1)

        async def script(screen: Driver) -> None:
            await screen.see("● live")
            screen.app.open_tasks("")
            await screen.see("⊘ CANCELED", "6 tasks")
            table = screen.table("tasks")
            session.delete(1)
            await screen.until(lambda: table.keys == ["4", "5", "6"])

        drive(str(place.path), script)
