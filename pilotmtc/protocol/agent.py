"""Requests of agents, about their own pilot."""

from pilotmtc.model import Claimed, PilotId, Resources, Result, TaskId, Template
from pilotmtc.protocol.base import (
    CLIENTS_AND_AGENTS,
    USER_AND_STEWARDS,
    Done,
    Effect,
    Handling,
    Reply,
    Request,
    WaitsFor,
)
from pilotmtc.protocol.records import NodeState, OutputTail
from pilotmtc.states import PilotState


class Orders(Reply, frozen=True):
    """What the agent has to do.

    Attributes
    ----------
    number
        Grows with each new order.
    cancel
        Attempts to stop: ``(task, attempt)``. Each answer lists them until they have ended.
    drain
        Finish running tasks, release the others, take no new ones, and exit.
    kill
        Exit now: kill tasks, which go back to the store.
    lease_s
        How long the renewed lease is valid.
    peek
        Running attempts ``(task, attempt)`` whose output a user wants to see: send `ReportOutput`.
    """

    number: int
    lease_s: float
    cancel: tuple[tuple[TaskId, int], ...] = ()
    drain: bool = False
    kill: bool = False
    peek: tuple[tuple[TaskId, int], ...] = ()


class AttachPilot(Request[Orders], frozen=True, tag="attach_pilot"):
    """An agent has started (NEW or PENDING becomes ACTIVE) or is back. Safe to repeat.

    A pilot that was given up because it was silent becomes ACTIVE again. The answer is a `StateError` if the pilot has
    ended for another reason: then the agent must exit.

    Attributes
    ----------
    holds
        Attempts that the agent runs: ``(task, attempt)``. ``cancel`` in the answer has those that it must stop, such as
        tasks that another pilot has claimed in the meantime.
    largest
        The capacity of its largest node; None if it has no node yet.
    note
        A remark for users, shown while the pilot is active.
    """

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    host: str
    pid: int
    nodes: int
    cores: int
    holds: tuple[tuple[TaskId, int], ...] = ()
    largest: Resources | None = None
    note: str = ""


class EndPilot(Request[Done], frozen=True, tag="end_pilot"):
    """End the pilot; tasks that it still holds go back to the store. Safe to repeat: a final state does not change."""

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.WRITE)

    pilot: PilotId
    state: PilotState
    reason: str = ""


class Batch(Reply, frozen=True):
    """Claimed tasks, in order, with the templates and resources (by id) that they refer to.

    Attributes
    ----------
    resources
        Without resources that are limited in the whole store, which counts them itself.
    limited
        There are no tasks only because other tasks use all units of a limit.
    """

    number: int
    tasks: tuple[Claimed, ...] = ()
    templates: dict[int, Template] = {}
    resources: dict[int, Resources] = {}
    limited: bool = False


class Claim(Request[Batch], frozen=True, tag="claim"):
    """Ask for tasks.

    Safe to repeat: a pilot numbers its claims from 1, and sends one at a time. The same number gets the same tasks
    again (those that the pilot still holds); a lower number gets none.

    Attributes
    ----------
    total
        Capacity of the pilot's largest node. Tasks of which a rank does not fit there are left out.
    want
        The largest sum of each resource over all tasks. The first task in order may exceed it, unless `backfill`.
    limit
        The largest number of tasks.
    time_left_s
        Tasks with a longer time limit or expected duration are left out; 0: no limit.
    wait_s
        How long the server waits for tasks before it answers that there are none.
    within_s
        Only tasks with a time limit up to this; 0: any tasks.
    nodes
        The kinds of nodes of a pilot with several nodes: ``(how many, capacity)``. Tasks that do not fit in all of them
        together are left out. Empty: one node, with `total`.
    """

    handling = Handling(
        said_by=CLIENTS_AND_AGENTS,
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
        """Return whether the reply has tasks."""
        return bool(reply.tasks)


class Started(Request[Done], frozen=True, tag="started"):
    """Tasks that have started: ``(task, attempt, started_at, node, slot)``.

    Safe to repeat: stale and finished attempts are ignored. Node and slot are as in `Result`.
    """

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    tasks: tuple[tuple[TaskId, int, float, str, str], ...]


class Finished(Reply, frozen=True):
    """The store has dealt with all results of the request; the agent may forget them.

    `recorded` counts new results, `again` those recorded before, `stale` those of attempts that the pilot no longer
    holds.
    """

    recorded: int = 0
    again: int = 0
    stale: int = 0


class Finish(Request[Finished], frozen=True, tag="finish"):
    """Record results.

    Safe to repeat: each (task, attempt) is recorded once, and only if the pilot holds it; or if the pilot held it when
    it was given up, and no other pilot has claimed the task since.
    """

    handling = Handling(
        said_by=CLIENTS_AND_AGENTS | USER_AND_STEWARDS, effect=Effect.WRITE, bulky=True, sign_of_life=True
    )

    pilot: PilotId
    results: tuple[Result, ...]


class Release(Request[Done], frozen=True, tag="release"):
    """Give back claimed tasks that were not started: ``(task, attempt)``. Safe to repeat."""

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.WRITE, sign_of_life=True)

    pilot: PilotId
    tasks: tuple[tuple[TaskId, int], ...]


class Heartbeat(Request[Orders], frozen=True, tag="heartbeat"):
    """Renew the pilot's lease and ask for orders. Safe to repeat.

    It renews the lease when it arrives and when it is answered, but not while it waits.

    Attributes
    ----------
    seen
        ``Orders.number`` of the last answer. The server waits up to `wait_s` for a higher one.
    busy
        Cores in use.
    nodes
        The state of the pilot's nodes; empty in most heartbeats.
    """

    handling = Handling(
        said_by=CLIENTS_AND_AGENTS,
        effect=Effect.WRITE,
        waits_for=WaitsFor.ORDERS,
        longest_wait_s=20.0,
        sign_of_life=True,
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
    """Report what tasks have written so far, as requested in ``Orders.peek``. Safe to repeat, and to lose."""

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.READ)

    pilot: PilotId
    written: tuple[OutputTail, ...]
