"""What clients say about tasks."""

from pilotmtc.model import Attempt, Campaign, Pilot, Task, TaskId, Template
from pilotmtc.protocol.base import GUESTS, Changed, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import Filter, OutputTail
from pilotmtc.states import TaskState


class Cancel(Request[Changed], frozen=True, tag="cancel"):
    """Cancel tasks: those not started at once, running ones through their agents. `key` makes it safe to repeat."""

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter


class Retry(Request[Changed], frozen=True, tag="retry"):
    """Run FAILED, CANCELED and SKIPPED tasks again, their failures forgotten. `key` makes it safe to repeat."""

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter


class Edit(Request[Changed], frozen=True, tag="edit"):
    """Change tasks that have not started (WAITING, READY; also final ones, for a later retry); None leaves as is.

    `key` makes it safe to repeat.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter
    priority: int | None = None
    cores: int | None = None
    gpus: float | None = None
    memory_bytes: int | None = None
    named: dict[str, float] | None = None
    time_limit_s: float | None = None
    expected_s: float | None = None
    ranks: int | None = None
    ranks_per_node: int | None = None


class Tasks(Reply, frozen=True):
    """A page. `next` is the `after` of the following page, 0 when this was the last."""

    tasks: tuple[Task, ...]
    next: int = 0


class GetTasks(Request[Tasks], frozen=True, tag="tasks"):
    """A page of tasks in order of id, after `after` (or, with `newest`, before it, descending; 0 is no bound).

    The server looks at so many tasks only as keeps others from waiting: a page may hold fewer than `limit`, or none,
    and not be the last.

    Attributes
    ----------
    largest
        ``priority``, ``elapsed_s``, ``cpu_s``, ``memory_bytes`` or ``recorded_at``: the page then holds, of all tasks
        that it looked at, the `limit` with the largest values, largest first, and those that have none yet last; who
        wants those of all tasks asks for all pages and merges them. A running task's time is that until now.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, bulky_reply=True)

    filter: Filter = Filter()
    after: int = 0
    limit: int = 100
    newest: bool = False
    largest: str = ""


class TaskDetail(Reply, frozen=True):
    """A task, all its attempts, and its neighbours: ``(id, state, well)`` (at most 100 each way)."""

    task: Task | None = None
    template: Template | None = None
    attempts: tuple[Attempt, ...] = ()
    needs: tuple[tuple[TaskId, TaskState, bool], ...] = ()
    needed_by: tuple[tuple[TaskId, TaskState, bool], ...] = ()


class GetTask(Request[TaskDetail], frozen=True, tag="task"):
    """All about one task."""

    handling = Handling(said_by=GUESTS, effect=Effect.READ, bulky_reply=True)

    task: TaskId


class Output(Reply, frozen=True):
    """`found` is False when no attempt is recorded. Sizes are of what was written, not of what is here."""

    found: bool
    attempt: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None


class GetOutput(Request[Output], frozen=True, tag="output"):
    """What an attempt wrote, as far as the store has it; `attempt` 0 is the newest recorded."""

    handling = Handling(said_by=GUESTS, effect=Effect.READ, bulky_reply=True)

    task: TaskId
    attempt: int = 0


class Tail(Reply, frozen=True):
    """The answer to `GetTail`.

    Attributes
    ----------
    attempt
        The one that runs; 0 if none does, and then `GetOutput` has what there is.
    at
        When the store was told, by its host's clock; 0 if it has not been yet, and `written` is None.
    """

    attempt: int = 0
    at: float = 0.0
    written: OutputTail | None = None


class GetTail(Request[Tail], frozen=True, tag="tail"):
    """What a task that runs has written so far. Its agent is asked for that.

    Attributes
    ----------
    since
        ``Tail.at`` of the last answer. The server holds this one back up to `wait_s`, until there is a newer one or
        the task does not run any more.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES)

    task: TaskId
    since: float = 0.0
    wait_s: float = 0.0

    def worth_sending(self, reply: Tail) -> bool:
        """Return whether it is newer than the last one, or the task does not run."""
        return reply.at != self.since or not reply.attempt


AHEAD_MAX = 10_000  # ready tasks that are counted as going before another one


class Explanation(Reply, frozen=True):
    """The answer to `Explain`.

    Attributes
    ----------
    task
        None if there is none of that number; `needs` as in `TaskDetail`.
    blockers
        Tasks that it waits for and that are not over, or ended too badly for it; ten at the most.
    pilots
        Those that are not over.
    ahead
        Ready tasks that go before it, up to `AHEAD_MAX`.
    """

    now: float
    task: Task | None = None
    template: Template | None = None
    needs: tuple[tuple[TaskId, TaskState, bool], ...] = ()
    campaign: Campaign | None = None
    blockers: tuple[Task, ...] = ()
    pilots: tuple[Pilot, ...] = ()
    ahead: int = 0


class Explain(Request[Explanation], frozen=True, tag="explain"):
    """All that says why a task is where it is."""

    handling = Handling(said_by=GUESTS, effect=Effect.READ)

    task: TaskId


class Words(Reply, frozen=True):
    """Names of parameters, and tags of new tasks."""

    params: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class GetWords(Request[Words], frozen=True, tag="words"):
    """Words that filters may be made of."""

    handling = Handling(said_by=GUESTS, effect=Effect.READ)
