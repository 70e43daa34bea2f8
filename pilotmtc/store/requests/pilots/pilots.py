"""The life of pilots: they are created, attach, renew their leases, get orders, and end or are given up."""

import re

import msgspec

from pilotmtc.errors import StateError, UsageError
from pilotmtc.model import PilotId, Result, TaskId
from pilotmtc.protocol.agent import AttachPilot, EndPilot, Heartbeat, Orders
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, DrainPilot, HoldPilot, Pilots
from pilotmtc.states import PILOT_FINAL, Cause, PilotState
from pilotmtc.store.file.bounds import check_numbers
from pilotmtc.store.file.pilot_status import PilotStatus, give_order, move_pilot, pilot_status
from pilotmtc.store.file.task_status import CLAIMED, HELD, RUNNING, tasks_by_id, tasks_of_pilot
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.file.values import remove_unused
from pilotmtc.store.requests.growth import raise_some
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.look.query import pilots_where
from pilotmtc.store.requests.pilots.reconcile import NOT_HEARD, End, end_of_silent
from pilotmtc.store.requests.tasks.claim import take_back
from pilotmtc.store.requests.tasks.finish import find_again, record

_CONTROL_KEPT_S = 86400.0
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
LONGEST_NAP_S = 10.0
_AT_ONCE = 10_000  # tasks whose pause ends in one turn; others wait for the next turn
_HAS_CAMPAIGN = "SELECT 1 FROM campaign WHERE id = ? AND deleted_at IS NULL"
_CREATE = f"""INSERT INTO pilot(key, description, campaign_id, state, created_at, directory, scheduler, watched)
    VALUES (?, ?, ?, {PilotState.NEW:d}, ?, ?, ?, ?) ON CONFLICT(key) DO NOTHING"""
# Record where an agent is; an empty note keeps the last one.
_ATTACH = """UPDATE pilot SET host = ?, pid = ?, nodes = ?, cores = ?, seen_at = ?,
    reason = coalesce(nullif(?, ''), reason) WHERE id = ? RETURNING busy"""
_SET_NODES = "UPDATE pilot SET node_cores = ?, node_memory_bytes = ? WHERE id = ?"
_SEE = "UPDATE pilot SET seen_at = ?, busy = ? WHERE id = ? RETURNING cores"
_TO_CANCEL = f"""SELECT id, attempt FROM task INDEXED BY task_held WHERE pilot_id = ? AND {HELD} AND cancel = 1
    ORDER BY id"""
_DRAIN = "UPDATE pilot SET drain = 1 WHERE id = ?"
_HOLD = "UPDATE pilot SET on_hold = ?1 WHERE id = ?2 AND on_hold != ?1"
_KILL = "UPDATE pilot SET kill = 1 WHERE id = ?"
_STOP_WATCHING = "UPDATE pilot SET watched = 0 WHERE id = ?"
# End the pause before a retry of tasks whose time has come.
_END_PAUSES = """UPDATE task SET not_before = NULL
    WHERE id IN (SELECT id FROM task WHERE not_before <= ? LIMIT ?)"""
_FIRST_PAUSE = "SELECT min(not_before) FROM task WHERE not_before IS NOT NULL"
_FORGET_REPLIES = "DELETE FROM control WHERE at < ?"


@handles(CreatePilot)
def create_pilot(tx: Transaction, request: CreatePilot) -> Pilots:
    """Create a pilot, or return the one that was created with this key."""
    if not request.key:
        raise UsageError("a pilot needs a key: make one with uuid4")
    check_numbers(request.description, "a pilot")
    campaign = request.description.campaign
    if campaign is not None and not tx.execute(_HAS_CAMPAIGN, (campaign,)).fetchone():
        raise UsageError(f"there is no campaign {campaign} for the pilot to work on")
    body = msgspec.json.encode(request.description).decode()
    scheduler = request.description.scheduler
    directory = request.directory
    if scheduler:
        if not _KEY.fullmatch(request.key):  # the job and its directory have its name
            raise UsageError(f"{request.key!r} cannot be a pilot's key: letters, digits, dots, dashes and underscores")
        directory = directory or f"{tx.store_path}.d/pilots/{request.key}"
    new = tx.execute(
        _CREATE,
        (request.key, body, campaign, tx.clock.now(), directory, scheduler, scheduler != ""),
    )
    tx.wakeups.changed()
    if new.rowcount:
        tx.wakeups.ask_scheduler(scheduler, at_once=True)
    return Pilots(pilots_where(tx, "key = ?", (request.key,)))


@handles(AttachPilot)
def attach(tx: Transaction, request: AttachPilot) -> Orders:
    """Make the pilot ACTIVE; it may come back after it was given up."""
    status = pilot_status(tx, request.pilot)
    if not _was_given_up(status):
        _refuse_final(request.pilot, status)
    if status.state in (PilotState.NEW, PilotState.PENDING, PilotState.FAILED):
        move_pilot(tx, request.pilot, status.state, PilotState.ACTIVE)
        tx.wakeups.ask_scheduler(status.scheduler, at_once=False)
        if status.drain:
            move_pilot(tx, request.pilot, PilotState.ACTIVE, PilotState.DRAINING)
    (busy,) = tx.execute(
        _ATTACH,
        (request.host, request.pid, request.nodes, request.cores, tx.clock.now(), request.note, request.pilot),
    ).fetchone()
    if request.largest is not None and request.largest.cores:  # 0: its nodes may be lost
        tx.execute(_SET_NODES, (request.largest.cores, request.largest.memory_bytes, request.pilot))
    tx.leases.renew(request.pilot)
    tx.wakeups.changed()
    tx.activity.level(request.pilot, busy, request.cores)
    tx.activity.event(request.pilot, f"its agent attached from {request.host}")
    orders = _orders(tx, request.pilot, pilot_status(tx, request.pilot))
    if not request.holds:
        return orders
    tasks = tasks_by_id(tx, [task for task, _ in request.holds])
    find_again(tx, request.pilot, request.holds, tasks, running=True)
    gone = tuple(
        (id_, attempt)
        for id_, attempt in request.holds
        if not ((task := tasks.get(id_)) and task.is_held(request.pilot, attempt))
    )
    return msgspec.structs.replace(orders, cancel=orders.cancel + gone)


def _was_given_up(status: PilotStatus) -> bool:
    """Return whether the pilot has ended only because it was silent."""
    return status.state is PilotState.FAILED and status.reason == NOT_HEARD


@handles(Heartbeat)
def heartbeat(tx: Transaction, request: Heartbeat) -> Orders:
    """Renew the lease and return the orders."""
    status = pilot_status(tx, request.pilot)
    _refuse_final(request.pilot, status)
    if request.pilot not in tx.leases:
        raise StateError(f"pilot {request.pilot} is {status.state.name}: its agent must attach first")
    tx.leases.renew(request.pilot)
    (cores,) = tx.execute(_SEE, (tx.clock.now(), request.busy, request.pilot)).fetchone()
    if tx.activity.level(request.pilot, request.busy, cores):
        tx.wakeups.changed()
    if request.nodes:
        tx.activity.nodes_are(request.pilot, request.nodes)
    orders = _orders(tx, request.pilot, status)
    peek = tx.running_output.questions(request.pilot)
    return msgspec.structs.replace(orders, peek=peek) if peek else orders


def _refuse_final(pilot: PilotId, status: PilotStatus) -> None:
    if status.state in PILOT_FINAL:
        raise StateError(f"pilot {pilot} is {status.state.name}: its agent must stop")


def _orders(tx: Transaction, pilot: PilotId, status: PilotStatus) -> Orders:
    cancel: tuple[tuple[TaskId, int], ...] = ()
    if status.orders:  # otherwise none of perhaps thousands of tasks is canceled
        cancel = tuple(tx.execute(_TO_CANCEL, (pilot,)).fetchall())
    return Orders(status.orders, tx.leases.lease_s, cancel, status.drain, status.kill)


@handles(EndPilot)
def end_pilot(tx: Transaction, request: EndPilot) -> Done:
    """End the pilot as its agent says."""
    if request.state not in PILOT_FINAL:
        raise UsageError(f"a pilot cannot end as {request.state.name}")
    status = pilot_status(tx, request.pilot)
    if status.state not in PILOT_FINAL:
        end(tx, request.pilot, status, End(request.state, request.reason))
    return Done()


def end(tx: Transaction, pilot: PilotId, status: PilotStatus, how: End) -> None:
    """End the pilot and its tasks. Without a cause in `how`, tasks of a FAILED pilot are lost, others preempted."""
    state, reason = how.state, how.reason
    if status.state is PilotState.NEW and state is PilotState.DONE:
        move_pilot(tx, pilot, PilotState.NEW, PilotState.PENDING)
        status = status._replace(state=PilotState.PENDING)
    move_pilot(tx, pilot, status.state, state, reason)
    tasks = tasks_of_pilot(tx, pilot)
    take_back(tx, pilot, [task for task in tasks.values() if task.state == CLAIMED], lost=True)
    cause = how.cause or (Cause.PILOT_LOST if state is PilotState.FAILED else Cause.PREEMPTED)
    message = reason or f"the pilot ended as {state.name}"
    results = [
        Result(task.id, task.attempt, cause, started_at=task.started_at or 0.0, message=message)
        for task in tasks.values()
        if task.state == RUNNING
    ]
    record(tx, pilot, results, tasks, lost=True)
    tx.leases.end(pilot)
    tx.wakeups.ask_scheduler(status.scheduler, at_once=False)


@handles(DrainPilot)
def drain_pilot(tx: Transaction, request: DrainPilot) -> Changed:
    """Tell the pilot to take no new tasks; cancel it if it still waits in a queue."""
    status = pilot_status(tx, request.pilot)
    if status.state in PILOT_FINAL:
        return Changed(0, 1)
    if status.scheduler and status.state in (PilotState.NEW, PilotState.PENDING):
        return cancel_pilot(tx, CancelPilot(request.pilot))  # it has no tasks to finish
    if status.drain:
        return Changed(0)
    tx.execute(_DRAIN, (request.pilot,))
    tx.activity.event(request.pilot, "was told to drain")
    if status.state is PilotState.ACTIVE:
        move_pilot(tx, request.pilot, PilotState.ACTIVE, PilotState.DRAINING)
    give_order(tx, [request.pilot])
    return Changed(1)


@handles(HoldPilot)
def hold_pilot(tx: Transaction, request: HoldPilot) -> Changed:
    """Let the pilot take no more tasks, or let it take some again."""
    if pilot_status(tx, request.pilot).state in PILOT_FINAL:
        return Changed(0, 1)
    if not tx.execute(_HOLD, (request.hold, request.pilot)).rowcount:
        return Changed(0)
    tx.activity.event(request.pilot, "was put on hold" if request.hold else "was released")
    tx.wakeups.changed()
    tx.wakeups.tasks_ready()
    return Changed(1)


@handles(CancelPilot)
def cancel_pilot(tx: Transaction, request: CancelPilot) -> Changed:
    """Tell the pilot to end now; without an agent, it ends at once."""
    status = pilot_status(tx, request.pilot)
    if status.state in PILOT_FINAL and not status.scheduler:
        return Changed(0, 1)
    # If the scheduler may have the job, the pilot ends only when the scheduler says so: it might still start.
    if status.state in (PilotState.NEW, PilotState.PENDING) and not (status.scheduler and status.submits):
        end(tx, request.pilot, status, End(PilotState.CANCELED, "canceled before it started"))
        tx.execute(_STOP_WATCHING, (request.pilot,))
        return Changed(1)
    if status.kill:
        return Changed(0)
    tx.execute(_KILL, (request.pilot,))
    tx.activity.event(request.pilot, "was told to end at once")
    give_order(tx, [request.pilot])
    tx.wakeups.ask_scheduler(status.scheduler, at_once=True)
    return Changed(1)


# -- what the clock makes due -----------------------------------------------------------------------------------


def is_due(tx: Transaction) -> bool:
    """Return whether `do_due` has something to do."""
    leases = tx.leases
    return (
        bool(leases.expired())
        or leases.nearly_expired() != leases.silent
        or _pause_s(tx) <= 0
        or _start_s(tx) <= 0
        or bool(tx.caches.raising)
    )


def do_due(tx: Transaction) -> None:
    """Give up pilots with expired leases, announce silent ones, end pauses before retries, forget old replies."""
    for pilot in tx.leases.expired():
        status = pilot_status(tx, pilot)
        tx.leases.end(pilot)
        if status.state in (PilotState.ACTIVE, PilotState.DRAINING):
            how = end_of_silent(status.job, status.native_state, status.reason, kill=status.kill)
            end(tx, pilot, status, how)
    tx.leases.note_silent()
    now = tx.clock.now()
    if tx.execute(_END_PAUSES, (now, _AT_ONCE)).rowcount:
        tx.wakeups.tasks_ready()
    if due := [campaign for campaign, at in tx.caches.starts_at.items() if at <= now]:
        for campaign in due:
            del tx.caches.starts_at[campaign]
        tx.wakeups.tasks_ready()
    for campaign in list(tx.caches.raising):
        raise_some(tx, campaign)
    tx.execute(_FORGET_REPLIES, (now - _CONTROL_KEPT_S,))
    remove_unused(tx)


def nap_s(tx: Transaction) -> float:
    """Return the time until something may be due."""
    if tx.caches.pending_changes or tx.caches.raising:
        return 0.0
    return max(0.0, min([LONGEST_NAP_S, _pause_s(tx), _start_s(tx), *tx.leases.deadlines_s()]))


def _pause_s(tx: Transaction) -> float:
    """Return the time until the first pause before a retry ends."""
    first: float | None = tx.execute(_FIRST_PAUSE).fetchone()[0]
    return LONGEST_NAP_S if first is None else first - tx.clock.now()


def _start_s(tx: Transaction) -> float:
    """Return the time until the first campaign may start tasks for which pilots wait."""
    return min([LONGEST_NAP_S, *(at - tx.clock.now() for at in tx.caches.starts_at.values())])
