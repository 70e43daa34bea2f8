"""Requests of agents, about their own pilot."""

from pilotmtc.model import Claimed, PilotId, Resources, Result, TaskId, Template
from pilotmtc.protocol.base import AGENTS, STEWARDS, Done, Effect, Handling, Reply, Request, WaitsFor
from pilotmtc.protocol.records import NodeState, OutputTail
from pilotmtc.states import PilotState


class Orders(Reply, frozen=True):
    """What the agent has to do.

    Attributes
    ----------
    number
        Grows with every new order.
    cancel
        Attempts to end: ``(task, attempt)``. Listed in each answer until they have ended.
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
    """An agent has started (NEW or PENDING becomes ACTIVE) or is back. Safe to repeat.

    A pilot that was given up because it was silent becomes ACTIVE again. `StateError` is the answer when the pilot has
    ended for another reason: the agent must stop.

    Attributes
    ----------
    holds
        Attempts that run at the agent: ``(task, attempt)``. The answer's ``cancel`` has those that it must end, such as
        tasks that another pilot has claimed meanwhile.
    largest
        The capacity of its largest node; None if it has no node yet.
    note
        A remark for users, shown while the pilot works.
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
    """End the pilot; tasks that it still holds go back. Safe to repeat: a final state stays."""

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE)

    pilot: PilotId
    state: PilotState
    reason: str = ""


class Batch(Reply, frozen=True):
    """Claimed tasks, in order, with the templates and resources (by id) that they mention.

    Attributes
    ----------
    resources
        Less what is limited in the whole store: that is counted there.
    limited
        There are no tasks only because others have all units of a limit.
    """

    number: int
    tasks: tuple[Claimed, ...] = ()
    templates: dict[int, Template] = {}
    resources: dict[int, Resources] = {}
    limited: bool = False


class Claim(Request[Batch], frozen=True, tag="claim"):
    """Ask for tasks.

    Safe to repeat: a pilot numbers its claims from 1 and has one under way. The same number again gets the same tasks
    (those that it still holds), a lower number gets none.

    Attributes
    ----------
    total
        Capacity of the pilot's largest node. A task is not given if one of its ranks does not fit in it.
    want
        How much of each resource to give at most, summed over tasks; the first task in order is given even
        if it exceeds `want`, unless `backfill`.
    limit
        The largest number of tasks.
    time_left_s
        Tasks with a time limit or expected duration above it are not given; 0 is no limit.
    wait_s
        The server waits this long for tasks before it answers that there are none.
    within_s
        Only tasks with a time limit up to this are given; 0 is any.
    nodes
        The kinds of nodes of a pilot with several: ``(how many, capacity)``. A task of many ranks is not given if it
        does not fit in all of them together. Empty: one node of `total`.
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
    """Tasks that have started: ``(task, attempt, started_at, node, slot)``.

    Safe to repeat: stale and finished attempts are ignored. Node and slot are as in `Result`.
    """

    handling = Handling(said_by=AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    tasks: tuple[tuple[TaskId, int, float, str, str], ...]


class Finished(Reply, frozen=True):
    """All results of the request are recorded or refused; the agent may forget them.

    `recorded` are new; `again` were recorded before; `stale` are of attempts that the pilot no longer holds.
    """

    recorded: int = 0
    again: int = 0
    stale: int = 0


class Finish(Request[Finished], frozen=True, tag="finish"):
    """Record results.

    Safe to repeat: each (task, attempt) is recorded once, and only if the pilot holds it, or held it when it was given
    up and no other pilot has claimed the task since.
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
        ``Orders.number`` of the last answer. The server waits for a higher one, up to `wait_s`.
    busy
        Slots (cores) in use.
    nodes
        The state of the pilot's nodes, which only some heartbeats report; empty: no report.
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
    """Report what tasks have written so far, as ``Orders.peek`` asks. Safe to repeat, and to lose."""

    handling = Handling(said_by=AGENTS, effect=Effect.READ)

    pilot: PilotId
    written: tuple[OutputTail, ...]
