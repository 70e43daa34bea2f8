"""Requests of clients about tasks."""

from msgspec import Struct

from pilotmtc.model import (
    Attempt,
    Campaign,
    CampaignId,
    Pilot,
    Task,
    TaskId,
    Template,
    Value,
    Version,
)
from pilotmtc.protocol.base import CLIENTS, Changed, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import Filter, Limit, Neighbour, OutputTail
from pilotmtc.states import Cause, TaskState


class Cancel(Request[Changed], frozen=True, tag="cancel"):
    """Cancel tasks: waiting ones at once, running ones through their agents. `key` makes it safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter


class Retry(Request[Changed], frozen=True, tag="retry"):
    """Run FAILED, CANCELED and SKIPPED tasks again with all their retries. `key` makes it safe to repeat.

    Attributes
    ----------
    done
        Run DONE tasks again, too. Their earlier attempts stay on record.
    dependents
        Run again also what depends on them, if it is over.
    changed
        Only those that would run something else now than they did, as far as the store has been told (`SetProgram`).
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter
    done: bool = False
    dependents: bool = False
    changed: bool = False


class Edit(Request[Changed], frozen=True, tag="edit"):
    """Change tasks that have not started, or that have not ended well (for a later retry). None: no change.

    `key` makes it safe to repeat. Fields have the names of those of `Resources` and `Template`.

    Attributes
    ----------
    command, shell
        The new command must be given the same values as that of before.
    env
        Variables that are added or replaced.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

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
    grace_s: float | None = None
    signal_first: str | None = None
    command: tuple[str, ...] | None = None
    shell: bool = False
    env: dict[str, str] | None = None
    max_retries: int | None = None
    backoff_s: float | None = None
    retry_on: tuple[str, ...] | None = None
    no_retry_on: tuple[str, ...] | None = None
    retry_memory: float | None = None
    max_memory_bytes: int | None = None
    retry_time: float | None = None
    max_output_bytes: int | None = None
    watch: tuple[str, ...] | None = None


class HoldTasks(Request[Changed], frozen=True, tag="hold_tasks"):
    """Put tasks that no pilot has on hold, so that no pilot takes them, or release them (`hold` False).

    `key` makes it safe to repeat.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    filter: Filter
    hold: bool = True


class Tasks(Reply, frozen=True):
    """A page of tasks. `next` is the `after` of the following page; 0: this was the last one."""

    tasks: tuple[Task, ...]
    next: int = 0


class GetTasks(Request[Tasks], frozen=True, tag="tasks"):
    """Get a page of tasks with ids above `after`; or with `newest`, below `after` in descending order. 0: no bound.

    The server looks at a limited number of tasks, so that other clients need not wait: a page may hold fewer than
    `limit`, or none, without being the last.

    Attributes
    ----------
    largest
        ``priority``, ``elapsed_s``, ``cpu_s``, ``memory_bytes`` or ``recorded_at``. The page then has the `limit`
        largest of the tasks that the server looked at, largest first and those without a value last. To find the
        largest of all tasks, get all pages and merge them. For a running task, ``elapsed_s`` is the time until now.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    filter: Filter = Filter()
    after: int = 0
    limit: int = 100
    newest: bool = False
    largest: str = ""


class TaskDetail(Reply, frozen=True):
    """A task, all its attempts, and the tasks that it depends on or that depend on it (at most 100 each).

    Attributes
    ----------
    versions
        What the attempts ran, by number.
    """

    task: Task | None = None
    template: Template | None = None
    attempts: tuple[Attempt, ...] = ()
    needs: tuple[Neighbour, ...] = ()
    needed_by: tuple[Neighbour, ...] = ()
    versions: dict[int, Version] = {}


class GetTask(Request[TaskDetail], frozen=True, tag="task"):
    """Get everything about a task."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    task: TaskId


class Dependency(Struct, frozen=True, array_like=True, gc=False):
    """`task` waits for `needs`; `well` is as in `After`."""

    task: TaskId
    needs: TaskId
    well: bool


class Dependencies(Reply, frozen=True):
    """A page. `next` is the `after` of the following page; `(0, 0)`: this was the last one."""

    dependencies: tuple[Dependency, ...]
    next: tuple[int, int] = (0, 0)


class GetDependencies(Request[Dependencies], frozen=True, tag="dependencies"):
    """Get a page of what tasks of a campaign wait for, or have waited for, in order of `task` and `needs`.

    Attributes
    ----------
    after
        The task, and what it needs, behind which the page begins.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaign: CampaignId
    after: tuple[int, int] = (0, 0)


class Output(Reply, frozen=True):
    """The answer to `GetOutput`.

    `found` is False if no attempt is recorded. Sizes are of all that was written, which may be more than is here.
    """

    found: bool
    attempt: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None


class GetOutput(Request[Output], frozen=True, tag="output"):
    """Get an attempt's output, as far as the store has it; `attempt` 0: the newest recorded one."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    task: TaskId
    attempt: int = 0


class ReturnedCall(Struct, frozen=True, array_like=True):
    """How a call of a function ended.

    Attributes
    ----------
    attempt
        The newest recorded attempt, to which all that follows belongs; 0 if there is none, and then `cause` is None.
    value
        What it returned (exit code 0) or raised, pickled; None if it did neither.
    value_text
        The same for people.
    stderr
        What it wrote, as far as the store has it; of DONE tasks left out.
    """

    task: TaskId
    attempt: int
    state: TaskState
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    node: str = ""
    message: str | None = None
    value: Value | None = None
    value_text: str = ""
    stderr: bytes = b""


class Returned(Reply, frozen=True):
    """The answer to `GetReturned`.

    Attributes
    ----------
    rows
        In the order of the request, without tasks that are not over.
    asked
        How many of the request's tasks were looked at: ask again for the others, whose values had no room in this
        answer.
    """

    rows: tuple[ReturnedCall, ...] = ()
    asked: int = 0


MAX_RETURNED = 1000


class GetReturned(Request[Returned], frozen=True, tag="returned"):
    """Get how tasks that are over have ended, and what they returned; up to `MAX_RETURNED` at a time."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    tasks: tuple[TaskId, ...]


class KnownCall(Struct, frozen=True, array_like=True):
    """A call as the store knows it, by which a client knows it again.

    Attributes
    ----------
    function, code
        The function's name, and the digest of its pickle.
    args
        The call's ``identity``, or else the SHA-256 of its pickled arguments.
    inputs
        Tasks whose results are among the arguments.
    """

    task: TaskId
    state: TaskState
    function: str
    code: str
    args: bytes
    inputs: tuple[TaskId, ...] = ()


class KnownCalls(Reply, frozen=True):
    """A page. `next` is the `after` of the following page, 0 when this was the last."""

    calls: tuple[KnownCall, ...]
    next: int = 0


class GetCalls(Request[KnownCalls], frozen=True, tag="calls"):
    """Get a page of the calls of a campaign, of ids above `after`.

    The server looks at a limited number of calls, so that other clients need not wait: a page may hold few, or none,
    without being the last.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaign: CampaignId
    after: int = 0


class Tail(Reply, frozen=True):
    """The answer to `GetTail`.

    Attributes
    ----------
    attempt
        The running attempt; 0: none runs, so use `GetOutput`.
    at
        When the store received the output, by its host's clock; 0, with `written` None, before that.
    """

    attempt: int = 0
    at: float = 0.0
    written: OutputTail | None = None


class GetTail(Request[Tail], frozen=True, tag="tail"):
    """Get what a running task has written so far; the store asks its agent for it.

    Attributes
    ----------
    since
        ``Tail.at`` of the last answer. The server waits up to `wait_s` for newer output, or for the end of the task.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, waits_for=WaitsFor.CHANGES)

    task: TaskId
    since: float = 0.0
    wait_s: float = 0.0

    def worth_sending(self, reply: Tail) -> bool:
        """Return whether the output is newer than the last one, or the task does not run."""
        return reply.at != self.since or not reply.attempt


AHEAD_MAX = 10_000  # ready tasks before a task are counted up to this number


class Explanation(Reply, frozen=True):
    """The answer to `Explain`.

    Attributes
    ----------
    task
        None if there is no such task; `needs` as in `TaskDetail`.
    blockers
        Up to ten dependencies that have not ended or did not succeed.
    pilots
        All that have not ended.
    ahead
        Number of ready tasks before it, up to `AHEAD_MAX`.
    limits
        The limits of the store.
    """

    now: float
    task: Task | None = None
    template: Template | None = None
    needs: tuple[Neighbour, ...] = ()
    campaign: Campaign | None = None
    blockers: tuple[Task, ...] = ()
    pilots: tuple[Pilot, ...] = ()
    ahead: int = 0
    limits: tuple[Limit, ...] = ()


class Explain(Request[Explanation], frozen=True, tag="explain"):
    """Get all facts that explain the state of a task."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ)

    task: TaskId


class Words(Reply, frozen=True):
    """The answer to `GetWords`: names of parameters, and tags of new tasks."""

    params: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class GetWords(Request[Words], frozen=True, tag="words"):
    """Get words for the completion of filters."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ)
