"""What agents say to the store's server about their own pilot, and what it answers."""

from pilotmtc.model import Claimed, PilotId, Resources, Result, TaskId, Template
from pilotmtc.protocol.base import AGENTS, STEWARDS, Done, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import NodeState, OutputTail
from pilotmtc.states import PilotState


class Orders(Reply, frozen=True):
    """What the agent should do.

    Attributes
    ----------
    number
        Grows with every new order.
    cancel
        Held attempts that the user wants ended: ``(task, attempt)``. Given again until they have ended.
    drain
        Finish what runs, release the rest, take nothing new, leave.
    kill
        End now: tasks are killed and given back.
    lease_s
        The lease now runs this long.
    peek
        Running attempts ``(task, attempt)`` whose output somebody wants to see: answer with `ReportOutput`.
    """

    number: int
    lease_s: float
    cancel: tuple[tuple[TaskId, int], ...] = ()
    drain: bool = False
    kill: bool = False
    peek: tuple[tuple[TaskId, int], ...] = ()


class AttachPilot(Request[Orders], frozen=True, tag="attach_pilot"):
    """An agent reports for duty (NEW or PENDING becomes ACTIVE) or comes back. Safe to repeat.

    A pilot that was given up because it was not heard of becomes ACTIVE again. Raises `StateError` at the server when
    the pilot is over for another reason: the agent must stop.

    Attributes
    ----------
    holds
        Attempts that run at the agent: ``(task, attempt)``. Those that are no longer its own, because others have
        claimed the tasks meanwhile, say, are in the answer's ``cancel``.
    largest
        What its largest node has; None if there is none yet.
    note
        What people should know of it while it works.
    """

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    host: str
    pid: int
    nodes: int
    cores: int
    holds: tuple[tuple[TaskId, int], ...] = ()
    largest: Resources | None = None
    note: str = ""


class EndPilot(Request[Done], frozen=True, tag="end_pilot"):
    """The pilot is over; tasks it still holds go back. Safe to repeat: a final state stays."""

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE)

    pilot: PilotId
    state: PilotState
    reason: str = ""


class Batch(Reply, frozen=True):
    """Claimed tasks, in order, with the templates and resources (by id) that they mention."""

    number: int
    tasks: tuple[Claimed, ...] = ()
    templates: dict[int, Template] = {}
    resources: dict[int, Resources] = {}


class Claim(Request[Batch], frozen=True, tag="claim"):
    """Ask for tasks.

    Safe to repeat: a pilot numbers its claims from 1 and has one under way; the same number again answers the same
    tasks (those it still holds), a lower one answers nothing.

    Attributes
    ----------
    total
        Capacity of the pilot's largest node: a task of which a rank does not fit in it is not given.
    want
        How much of each resource to give at most, summed over tasks; the first task in order is given even
        if it exceeds `want`, unless `backfill`.
    limit
        Number of tasks at the most.
    time_left_s
        Tasks with a time limit or expected duration above it are not given; 0 is no limit.
    wait_s
        The server holds the answer back this long when there is nothing to give.
    within_s
        Only tasks with a time limit up to this are given; 0 asks for none.
    nodes
        Of a pilot with several nodes its kinds of nodes: ``(how many, capacity)``; a wide task that does not fit in
        them all together is not given. Empty is one of `total`.
    """

    handling = Handling(
        said_by=AGENTS,
        effect=Effect.WRITE,
        waits_for=WaitsFor.TASKS,
        bulky_reply=True,
        sign_of_life=True,
        repeat_key="number",
    )

    pilot: PilotId
    number: int
    total: Resources
    want: Resources
    limit: int
    time_left_s: float = 0.0
    backfill: bool = False
    wait_s: float = 0.0
    nodes: tuple[tuple[int, Resources], ...] = ()
    within_s: float = 0.0

    def worth_sending(self, reply: Batch) -> bool:
        """Return whether there are tasks."""
        return bool(reply.tasks)


class Started(Request[Done], frozen=True, tag="started"):
    """Tasks that run now: ``(task, attempt, started_at, node, slot)``.

    Safe to repeat: stale and finished attempts are ignored. Node and slot are as in `Result`.
    """

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    tasks: tuple[tuple[TaskId, int, float, str, str], ...]


class Finished(Reply, frozen=True):
    """All results of the request are dealt with and may be forgotten.

    `recorded` are new; `again` were there already; `stale` were of attempts that the pilot no longer held.
    """

    recorded: int = 0
    again: int = 0
    stale: int = 0


class Finish(Request[Finished], frozen=True, tag="finish"):
    """Results. Safe to repeat: each (task, attempt) is recorded once, and only if the pilot holds it, or held it when
    it was given up and nobody has claimed the task since.
    """

    handling = Handling(said_by=AGENTS | STEWARDS, effect=Effect.WRITE, bulky=True, sign_of_life=True)

    pilot: PilotId
    results: tuple[Result, ...]


class Release(Request[Done], frozen=True, tag="release"):
    """Give back claimed tasks that were not started: ``(task, attempt)``. Safe to repeat."""

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    tasks: tuple[tuple[TaskId, int], ...]


class Heartbeat(Request[Orders], frozen=True, tag="heartbeat"):
    """Renew the pilot's lease and ask for orders. Safe to repeat.

    It renews the lease when it comes and when it is answered, but not while it waits.

    Attributes
    ----------
    seen
        ``Orders.number`` of the last answer; the server holds its answer back until there is a higher one or
        `wait_s` has passed.
    busy
        Slots (cores) in use.
    nodes
        The pilot's nodes. Only some of the beats tell; empty says nothing about them.
    """

    handling = Handling(
        said_by=AGENTS, effect=Effect.WRITE, waits_for=WaitsFor.ORDERS, longest_wait_s=20.0, sign_of_life=True
    )

    pilot: PilotId
    seen: int = 0
    busy: int = 0
    wait_s: float = 0.0
    nodes: tuple[NodeState, ...] = ()

    def worth_sending(self, reply: Orders) -> bool:
        """Return whether there are new orders."""
        return reply.number > self.seen or bool(reply.peek)


class ReportOutput(Request[Done], frozen=True, tag="peeked"):
    """An agent's answer to ``Orders.peek``. Safe to repeat, and to lose: who still looks asks again."""

    handling = Handling(said_by=AGENTS, effect=Effect.READ)

    pilot: PilotId
    written: tuple[OutputTail, ...]
