"""Tasks that are always the same, for pictures that are compared."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pilotmtc.model import Attempt, CampaignId, Pilot, PilotId, Resources, Task, TaskId, Template
from pilotmtc.protocol.client.tasks import (
    Explain,
    Explanation,
    GetOutput,
    GetTail,
    GetTask,
    GetTasks,
    Output,
    Tail,
    TaskDetail,
    Tasks,
)
from pilotmtc.protocol.records import Neighbour
from pilotmtc.states import Cause, TaskState
from pilotmtc.tui.widgets.tables.listing import ORDERS
from tests.tui.fixed import NOW

S = TaskState
Neighbours = tuple[Neighbour, ...]


def attempt(
    task: int, number: int = 1, cause: Cause = Cause.EXIT, code: int | None = 0, elapsed_s: float = 97.3,
    message: str | None = None, ago_s: float = 600.0,
) -> Attempt:  # fmt: skip
    """Return how an attempt ended."""
    signal = 11 if cause is Cause.SIGNAL else None
    return Attempt(
        TaskId(task), number, cause, PilotId(2), code if cause is Cause.EXIT else None, signal,
        node=f"c1-{task % 64 + 1:02}", slot=str(task % 48), started_at=NOW - ago_s - elapsed_s, elapsed_s=elapsed_s,
        cpu_s=0.97 * elapsed_s, memory_bytes=(120 + 37 * task % 800) << 20, stdout_bytes=2_345, stderr_bytes=120,
        message=message, recorded_at=NOW - ago_s,
    )  # fmt: skip


def scan(id_: int, state: TaskState, last: Attempt | None = None, *, tries: int | None = None) -> Task:
    """Return a task of the large campaign."""
    live = state in (S.CLAIMED, S.RUNNING)
    return Task(
        TaskId(id_), CampaignId(1), state, tries if tries is not None else last.attempt if last else int(live), 0,
        ("./scan", "--mass", "{mass}", "--seed", "{seed}"), False,
        {"mass": f"{120 + id_ % 100 / 10:.1f}", "seed": str(id_ % 97)},
        Resources(memory_bytes=2 << 30, time_limit_s=600.0), max_retries=2,
        failures=int(last is not None and last.attempt > 1),
        pilot=PilotId(2) if live else None, started_at=NOW - 13.0 - id_ % 50 if state is S.RUNNING else None, last=last,
    )  # fmt: skip


def render(id_: int, state: TaskState, last: Attempt | None = None, *, unmet: int = 0, name: str = "") -> Task:
    """Return a task of the small campaign."""
    return Task(
        TaskId(id_), CampaignId(2), state, last.attempt if last else 0, 5,
        ("render --scene 'night sky' --frame {frame} | gzip > frame-{frame}.gz",), True, {"frame": str(id_ % 100)},
        Resources(cores=4), unmet=unmet, name=name or f"frame-{id_ % 100}", tags=("night", "4k"), last=last,
    )  # fmt: skip


def mixed() -> tuple[Task, ...]:
    """Return tasks in all states and with all ends, and commands that are hard to show."""
    ended = [scan(id_, S.DONE, attempt(id_, elapsed_s=80.0 + id_ * 7 % 90)) for id_ in range(1, 19)]
    odd = [
        scan(19, S.FAILED, attempt(19, 3, Cause.SIGNAL, elapsed_s=0.012)),
        scan(20, S.FAILED, attempt(20, 3, Cause.OOM, elapsed_s=7_300.0)),
        scan(21, S.FAILED, attempt(21, 3, Cause.TIMEOUT, elapsed_s=600.0)),
        scan(22, S.FAILED, attempt(22, 1, Cause.LAUNCH_ERROR, elapsed_s=0.0, message="./scan: no such file")),
        scan(23, S.CANCELED, attempt(23, 1, Cause.CANCELED, elapsed_s=3.1)),
        scan(24, S.READY, attempt(24, 1, Cause.NODE_LOST, elapsed_s=86_500.0)),
        replace(scan(25, S.RUNNING), cancel=True),
        *(scan(id_, S.RUNNING) for id_ in range(26, 34)),
        scan(34, S.CLAIMED), scan(35, S.CLAIMED), *(scan(id_, S.READY) for id_ in range(36, 40)),
    ]  # fmt: skip
    last = [
        render(1_000_040, S.FAILED, attempt(1_000_040, code=137, elapsed_s=61.0)),
        render(1_000_041, S.WAITING, unmet=1),
        render(1_000_042, S.WAITING, unmet=1_200, name="merge \x1b[31mall\nframes"),
        render(1_000_043, S.SKIPPED),
        replace(render(1_000_044, S.READY), command=("printf 'übergröße 東京 ✓\\n'; exit {frame}",), priority=-12_345),
    ]
    return (*ended, *odd, *last)


def failed() -> tuple[Task, ...]:
    """Return tasks that failed alike."""
    return tuple([render(id_, S.FAILED, attempt(id_, code=137, elapsed_s=61.0)) for id_ in range(1_000_001, 1_000_041)])


def near(
    task: Task, *attempts: Attempt, needs: Neighbours = (), needed_by: Neighbours = (), blockers: tuple[Task, ...] = (),
    pilots: tuple[Pilot, ...] = (), ahead: int = 0,
) -> dict[type, Any]:  # fmt: skip
    """Return what a store says of a task that is looked at from near."""
    template = Template(
        task.command, task.shell, tuple(task.params), {"OMP_NUM_THREADS": "1", "SCAN_DATA": "/scratch/me/higgs/data"},
        cwd="/scratch/me/higgs", max_retries=task.max_retries,
    )  # fmt: skip
    return {
        Explain: Explanation(NOW, task, template, needs, None, blockers, pilots, ahead),
        GetTask: TaskDetail(task, template, attempts, needs, needed_by),
    }


def previews(tasks: tuple[Task, ...]) -> dict[type, Any]:
    """Return what a store that has `tasks` says to the pane that shows one of them."""
    by_id = {task.id: task for task in tasks}

    def explained(request: Explain) -> Explanation:
        task = by_id[request.task]
        return Explanation(NOW, task, Template(task.command, task.shell, tuple(task.params)))

    def wrote(request: GetOutput) -> Output:
        lines = "".join(f"step {number} of task {request.task}\n" for number in range(1, 31)).encode()
        return Output(True, 1, lines, b"", len(lines))

    return {Explain: explained, GetOutput: wrote, GetTail: Tail()}


def pages(tasks: tuple[Task, ...]) -> Callable[[GetTasks], Tasks]:
    """Return what a store that has `tasks` says; of filters it knows ids and states alone."""

    def page(request: GetTasks) -> Tasks:
        wish = request.filter
        found = [
            task
            for task in tasks
            if (wish.ids is None or task.id in wish.ids)
            and (wish.states is None or task.state in wish.states)
            and (not request.after or (task.id < request.after if request.newest else task.id > request.after))
        ]
        if request.newest:
            found.reverse()
        if request.largest:
            assert request.largest in ORDERS
            found.sort(key=lambda task: -float(getattr(task.last, request.largest)) if task.last else 0.0)
        return Tasks(tuple(found[: request.limit]))

    return page
