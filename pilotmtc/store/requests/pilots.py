"""Pilots: they are entered, report for duty, renew their leases, get orders, and end or are given up."""

import re

import msgspec

from pilotmtc.errors import StateError, UsageError
from pilotmtc.model import PilotId, Result, TaskId
from pilotmtc.protocol.agent import AttachPilot, EndPilot, Heartbeat, Orders
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, DrainPilot, Pilots
from pilotmtc.states import PILOT_FINAL, TASK_HELD, Cause, PilotState
from pilotmtc.store.file.bounds import check_numbers
from pilotmtc.store.file.transaction import Ledger, Seat
from pilotmtc.store.requests.claim import take_back
from pilotmtc.store.requests.finish import find_again, held, record
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.query import pilots_where, store_path
from pilotmtc.store.requests.reconcile import NOT_HEARD, End, silence

_HELD = """SELECT id, state, attempt, pilot_id, campaign_id, template_id, cancel, failures, crashes, started_at
    FROM task INDEXED BY task_held WHERE pilot_id = ? AND state IN (2, 3) ORDER BY id"""
_CONTROL_KEPT_S = 86400.0
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
LONGEST_NAP_S = 10.0
_AT_ONCE = 10_000  # tasks whose pause is over; others wait for the next turn
ALARM = 0.5  # of the lease: when that is left, a pilot's scheduler is asked
_SILENT = 0.25  # of the lease: that much is left when it is time to say that a pilot has not been heard of
_DEAF = 0.25  # of the lease: a server that was deaf for longer judges as if it had just been started


@handles(CreatePilot)
def create_pilot(ledger: Ledger, request: CreatePilot) -> Pilots:
    """Enter a pilot, or find the one that this key has made."""
    if not request.key:
        raise UsageError("a pilot needs a key: make one with uuid4")
    check_numbers(request.description, "a pilot")
    campaign = request.description.campaign
    if campaign is not None and not ledger.execute("SELECT 1 FROM campaign WHERE id = ?", (campaign,)).fetchone():
        raise UsageError(f"there is no campaign {campaign} for the pilot to work on")
    body = msgspec.json.encode(request.description).decode()
    scheduler = request.description.scheduler
    directory = request.directory
    if scheduler:
        if not _KEY.fullmatch(request.key):  # it names the job and its directory
            raise UsageError(f"{request.key!r} cannot be a pilot's key: letters, digits, dots, dashes and underscores")
        directory = directory or f"{store_path(ledger)}.d/pilots/{request.key}"
    new = ledger.execute(
        "INSERT INTO pilot(key, description, campaign_id, state, created_at, directory, scheduler, watched) "
        "VALUES (?, ?, ?, 0, ?, ?, ?, ?) ON CONFLICT(key) DO NOTHING",
        (request.key, body, campaign, ledger.clock.now(), directory, scheduler, scheduler != ""),
    )
    ledger.touch()
    if new.rowcount:
        ledger.ask_scheduler(scheduler, at_once=True)
    return Pilots(pilots_where(ledger, "key = ?", (request.key,)))


@handles(AttachPilot)
def attach(ledger: Ledger, request: AttachPilot) -> Orders:
    """Make the pilot ACTIVE, or greet it when it comes back, even if it was given up meanwhile."""
    seat = ledger.seat(request.pilot)
    if not _given_up(ledger, request.pilot, seat):
        _refuse_final(request.pilot, seat)
    if seat.state in (PilotState.NEW, PilotState.PENDING, PilotState.FAILED):
        ledger.pilot_moved(request.pilot, seat.state, PilotState.ACTIVE)
        ledger.ask_scheduler(seat.scheduler, at_once=False)
        if seat.drain:
            ledger.pilot_moved(request.pilot, PilotState.ACTIVE, PilotState.DRAINING)
    (busy,) = ledger.execute(
        "UPDATE pilot SET host = ?, pid = ?, nodes = ?, cores = ?, seen_at = ?, "
        "reason = coalesce(nullif(?, ''), reason) WHERE id = ? RETURNING busy",
        (request.host, request.pid, request.nodes, request.cores, ledger.clock.now(), request.note, request.pilot),
    ).fetchone()
    if request.largest is not None and request.largest.cores:  # else what was known of nodes that are lost stays
        ledger.execute(
            "UPDATE pilot SET node_cores = ?, node_memory_bytes = ? WHERE id = ?",
            (request.largest.cores, request.largest.memory_bytes, request.pilot),
        )
    ledger.renew(request.pilot)
    ledger.touch()
    ledger.activity.level(request.pilot, busy, request.cores, ledger.clock.monotonic())
    ledger.activity.event(request.pilot, ledger.clock.now(), f"its agent attached from {request.host}")
    orders = _orders(ledger, request.pilot, ledger.seat(request.pilot))
    if not request.holds:
        return orders
    rows = held(ledger, [task for task, _ in request.holds])
    find_again(ledger, request.pilot, request.holds, rows)
    gone = tuple(
        (task, attempt)
        for task, attempt in request.holds
        if not ((row := rows.get(task)) and row[1] in TASK_HELD and row[2:4] == (attempt, request.pilot))
    )
    return msgspec.structs.replace(orders, cancel=orders.cancel + gone)


def _given_up(ledger: Ledger, pilot: PilotId, seat: Seat) -> bool:
    """Return whether the pilot is over for no other reason than that it was not heard of."""
    if seat.state is not PilotState.FAILED:
        return False
    (reason,) = ledger.execute("SELECT reason FROM pilot WHERE id = ?", (pilot,)).fetchone()
    return bool(reason == NOT_HEARD)


@handles(Heartbeat)
def heartbeat(ledger: Ledger, request: Heartbeat) -> Orders:
    """Renew the lease and answer the orders."""
    seat = ledger.seat(request.pilot)
    _refuse_final(request.pilot, seat)
    if request.pilot not in ledger.leases:
        raise StateError(f"pilot {request.pilot} is {seat.state.name}: its agent must attach first")
    ledger.renew(request.pilot)
    (cores,) = ledger.execute(
        "UPDATE pilot SET seen_at = ?, busy = ? WHERE id = ? RETURNING cores",
        (ledger.clock.now(), request.busy, request.pilot),
    ).fetchone()
    if ledger.activity.level(request.pilot, request.busy, cores, ledger.clock.monotonic()):
        ledger.touch()
    if request.nodes:
        ledger.activity.nodes[request.pilot] = request.nodes
    orders = _orders(ledger, request.pilot, seat)
    peek = ledger.peeks.questions(request.pilot)
    return msgspec.structs.replace(orders, peek=peek) if peek else orders


def _refuse_final(pilot: PilotId, seat: Seat) -> None:
    if seat.state in PILOT_FINAL:
        raise StateError(f"pilot {pilot} is {seat.state.name}: its agent must stop")


def _orders(ledger: Ledger, pilot: PilotId, seat: Seat) -> Orders:
    cancel: tuple[tuple[TaskId, int], ...] = ()
    if seat.orders:  # else there is nothing to look for among what may be thousands
        cancel = tuple(
            ledger.execute(
                "SELECT id, attempt FROM task INDEXED BY task_held WHERE pilot_id = ? AND state IN (2, 3) "
                "AND cancel = 1 ORDER BY id",
                (pilot,),
            ).fetchall()
        )
    return Orders(seat.orders, ledger.lease_s, cancel, seat.drain, seat.kill)


@handles(EndPilot)
def end_pilot(ledger: Ledger, request: EndPilot) -> Done:
    """Close the pilot's book."""
    if request.state not in PILOT_FINAL:
        raise UsageError(f"a pilot cannot end as {request.state.name}")
    seat = ledger.seat(request.pilot)
    if seat.state not in PILOT_FINAL:
        end(ledger, request.pilot, seat, End(request.state, request.reason))
    return Done()


def end(ledger: Ledger, pilot: PilotId, seat: Seat, how: End) -> None:
    """End the pilot. What ran in it is over: if `how` has no cause, lost with a pilot that failed, else preempted."""
    state, reason = how.state, how.reason
    if seat.state is PilotState.NEW and state is PilotState.DONE:
        ledger.pilot_moved(pilot, PilotState.NEW, PilotState.PENDING)
        seat = seat._replace(state=PilotState.PENDING)
    ledger.pilot_moved(pilot, seat.state, state, reason)
    rows = {row[0]: row for row in ledger.execute(_HELD, (pilot,))}
    take_back(ledger, pilot, [row for row in rows.values() if row[1] == 2], lost=True)
    cause = how.cause or (Cause.PILOT_LOST if state is PilotState.FAILED else Cause.PREEMPTED)
    results = [
        Result(id_, row[2], cause, started_at=row[9] or 0.0, message=reason or f"the pilot ended as {state.name}")
        for id_, row in rows.items()
        if row[1] == 3
    ]
    record(ledger, pilot, results, rows, lost=True)
    ledger.leases.pop(pilot, None)
    ledger.ask_scheduler(seat.scheduler, at_once=False)


@handles(DrainPilot)
def drain_pilot(ledger: Ledger, request: DrainPilot) -> Changed:
    """Order the pilot to take nothing new; one that has not started drains as soon as it does, or is canceled."""
    seat = ledger.seat(request.pilot)
    if seat.state in PILOT_FINAL:
        return Changed(0, 1)
    if seat.scheduler and seat.state in (PilotState.NEW, PilotState.PENDING):
        return cancel_pilot(ledger, CancelPilot(request.pilot))  # it has nothing to finish
    if seat.drain:
        return Changed(0)
    ledger.execute("UPDATE pilot SET drain = 1 WHERE id = ?", (request.pilot,))
    ledger.activity.event(request.pilot, ledger.clock.now(), "was told to drain")
    if seat.state is PilotState.ACTIVE:
        ledger.pilot_moved(request.pilot, PilotState.ACTIVE, PilotState.DRAINING)
    ledger.order([request.pilot])
    return Changed(1)


@handles(CancelPilot)
def cancel_pilot(ledger: Ledger, request: CancelPilot) -> Changed:
    """Order the pilot to end now; one that has no agent yet is over at once."""
    seat = ledger.seat(request.pilot)
    if seat.state in PILOT_FINAL and not seat.scheduler:
        return Changed(0, 1)
    # A job that the scheduler may have is over only when the scheduler says so: it must not start after all.
    if seat.state in (PilotState.NEW, PilotState.PENDING) and not (seat.scheduler and seat.submits):
        end(ledger, request.pilot, seat, End(PilotState.CANCELED, "canceled before it started"))
        ledger.execute("UPDATE pilot SET watched = 0 WHERE id = ?", (request.pilot,))
        return Changed(1)
    if seat.kill:
        return Changed(0)
    ledger.execute("UPDATE pilot SET kill = 1 WHERE id = ?", (request.pilot,))
    ledger.activity.event(request.pilot, ledger.clock.now(), "was told to end at once")
    ledger.order([request.pilot])
    ledger.ask_scheduler(seat.scheduler, at_once=True)
    return Changed(1)


# -- what is due by the clock -----------------------------------------------------------------------------------


def is_due(ledger: Ledger) -> bool:
    """Return whether `do_due` has something to do."""
    now = ledger.clock.monotonic()
    lost = any(expiry <= now for expiry in ledger.leases.values())
    return lost or _silent(ledger) != ledger.silent or _pause(ledger) <= 0


def do_due(ledger: Ledger) -> None:
    """Give up pilots whose lease has run out, tell of those that are silent; let tasks go whose pause is over; forget
    old replies."""
    now = ledger.clock.monotonic()
    for pilot in [PilotId(pilot) for pilot, expiry in ledger.leases.items() if expiry <= now]:
        seat = ledger.seat(pilot)
        ledger.leases.pop(pilot)
        if seat.state not in (PilotState.ACTIVE, PilotState.DRAINING):
            continue
        end(ledger, pilot, seat, silence(seat.job, seat.native_state, seat.reason, kill=seat.kill))
    if (silent := _silent(ledger)) != ledger.silent:
        ledger.silent = silent
        ledger.touch()
    wall = ledger.clock.now()
    if ledger.execute(
        "UPDATE task SET not_before = NULL WHERE id IN (SELECT id FROM task WHERE not_before <= ? LIMIT ?)",
        (wall, _AT_ONCE),
    ).rowcount:
        ledger.claimable()
    ledger.execute("DELETE FROM control WHERE at < ?", (wall - _CONTROL_KEPT_S,))


def forgive(ledger: Ledger, deaf_s: float) -> bool:
    """Prolong all leases by the time in which no sign of life could be taken in.

    After a long time all begin anew, as after a restart, for agents may have given up the connection and need time to
    come back. Returns whether they do.
    """
    newest = ledger.clock.monotonic() + ledger.lease_s
    anew = deaf_s > _DEAF * ledger.lease_s
    for pilot, expiry in ledger.leases.items():
        ledger.leases[pilot] = newest if anew else min(expiry + deaf_s, newest)
    return anew


def nap(ledger: Ledger) -> float:
    """Return seconds until something may be due."""
    if ledger.wishes:
        return 0.0
    now = ledger.clock.monotonic()
    left = [expiry - now for expiry in ledger.leases.values()]
    # A quiet pilot is first asked about at its scheduler, then said to be silent, then given up.
    marks = [one - part * ledger.lease_s for part in (ALARM, _SILENT) for one in left if one > part * ledger.lease_s]
    return max(0.0, min([LONGEST_NAP_S, _pause(ledger), *left, *marks]))


def _silent(ledger: Ledger) -> frozenset[int]:
    """Return the pilots whose leases will soon have run out."""
    alarm = ledger.clock.monotonic() + _SILENT * ledger.lease_s
    return frozenset([pilot for pilot, expiry in ledger.leases.items() if expiry <= alarm])


def _pause(ledger: Ledger) -> float:
    (first,) = ledger.execute("SELECT min(not_before) FROM task WHERE not_before IS NOT NULL").fetchone()
    return LONGEST_NAP_S if first is None else first - ledger.clock.now()
