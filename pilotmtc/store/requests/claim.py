"""Claim, Started, Release: tasks go out to agents and come back unstarted."""

import math
from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Any

import msgspec

from pilotmtc.errors import StateError
from pilotmtc.model import CampaignId, Claimed, PilotId, Resources, Result, TaskId
from pilotmtc.protocol.agent import Batch, Claim, Release, Started
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.records import RunningTask
from pilotmtc.resources.slots import SHARE, shares
from pilotmtc.states import PILOT_FINAL, Cause, PilotState
from pilotmtc.store.file.transaction import Ledger, id_list
from pilotmtc.store.file.views import ATTEMPT_BITS, ATTEMPT_MASK
from pilotmtc.store.requests.dependents import resolve
from pilotmtc.store.requests.finish import held, record
from pilotmtc.store.requests.handlers import handles

_decode_params = msgspec.json.Decoder(tuple[str, ...]).decode
_COLUMNS = "id, attempt, template_id, resources_id, priority, params, name, campaign_id"
_READY = f"""SELECT {_COLUMNS} FROM task INDEXED BY task_ready WHERE campaign_id = ? AND resources_id = ?
    AND state = 1 AND not_before IS NULL ORDER BY priority DESC, id LIMIT ?"""
_AGAIN = f"""SELECT {_COLUMNS} FROM task INDEXED BY task_held WHERE pilot_id = ? AND state IN (2, 3) AND claim_no = ?
    ORDER BY priority DESC, id"""
_TAKE = """UPDATE task SET state = 2, attempt = attempt + 1, pilot_id = ?, claim_no = ?, started_at = NULL
    WHERE id IN (SELECT value FROM json_each(?))"""
# min() over an index is one seek; a comparison of row values would walk through all that is ready.
_NEXT_CAMPAIGN = """SELECT min(campaign_id) FROM task INDEXED BY task_ready
    WHERE state = 1 AND not_before IS NULL AND campaign_id > ? AND campaign_id <= ?"""
_NEXT_RESOURCES = """SELECT min(resources_id) FROM task INDEXED BY task_ready
    WHERE state = 1 AND not_before IS NULL AND campaign_id = ? AND resources_id > ?"""
_EPSILON = 1e-9  # shares of GPUs are added up in floating point

Row = tuple[Any, ...]


@handles(Claim)
def claim(ledger: Ledger, request: Claim) -> Batch:
    """Give a batch that fits."""
    seat = ledger.seat(request.pilot)
    if seat.state in PILOT_FINAL:
        raise StateError(f"pilot {request.pilot} is {seat.state.name}: its agent must stop")
    if seat.state in (PilotState.NEW, PilotState.PENDING):
        raise StateError(f"pilot {request.pilot} is {seat.state.name}: its agent must attach first")
    ledger.renew(request.pilot)
    if request.number == seat.claim_no:
        rows: list[Row] = ledger.execute(_AGAIN, (request.pilot, request.number)).fetchall()
        return _batch(ledger, request.number, rows, 0)
    if request.number < ledger.claims.get(request.pilot, seat.claim_no):
        return Batch(request.number)  # a late copy: the agent would not know of what this gave it
    ledger.claims[request.pilot] = request.number
    if seat.state is PilotState.DRAINING or seat.drain or seat.kill:
        return Batch(request.number)
    rows = list(_choose(ledger, request, seat.campaign))
    if rows:
        ledger.execute(_TAKE, (request.pilot, request.number, id_list([row[0] for row in rows])))
        ledger.moved_all(
            [(row[0] << ATTEMPT_BITS | row[1] + 1, row[7] << 3 | 2) for row in rows], [row[7] << 3 | 1 for row in rows]
        )
        ledger.execute("UPDATE pilot SET claim_no = ? WHERE id = ?", (request.number, request.pilot))
    return _batch(ledger, request.number, rows, 1)


def _batch(ledger: Ledger, number: int, rows: list[Row], step: int) -> Batch:
    return Batch(
        number,
        tuple(
            [
                Claimed(
                    TaskId(id_), attempt + step, template, resources, _decode_params(params) if params else (),
                    priority, name, CampaignId(campaign),
                )
                for id_, attempt, template, resources, priority, params, name, campaign in rows
            ]
        ),
        {id_: ledger.template(id_) for id_ in {row[2] for row in rows}},
        {id_: ledger.resources(id_) for id_ in {row[3] for row in rows}},
    )  # fmt: skip


def kinds(ledger: Ledger, campaign: int | None) -> Iterator[tuple[int, int]]:
    """Yield the (campaign, resources) that have ready tasks, by a step or two in the index for each.

    Without a `campaign`, those of campaigns that are kept for pilots of their own are passed over.
    """
    low, high = (-1, 1 << 62) if campaign is None else (campaign - 1, campaign)
    while True:
        (found,) = ledger.execute(_NEXT_CAMPAIGN, (low, high)).fetchone()
        if found is None:
            return
        low = found
        if campaign is None and (shared := ledger.shared_from(found)) != found:
            if shared is None:
                return
            low = shared - 1
            continue
        need = -1
        while (need := ledger.execute(_NEXT_RESOURCES, (found, need)).fetchone()[0]) is not None:
            yield found, need


def _order(row: Row) -> tuple[int, int]:
    return -row[4], row[0]


def _choose(ledger: Ledger, request: Claim, campaign: int | None) -> Iterator[Row]:
    """Yield ready tasks in order as long as they fit into what is wanted."""
    limit = request.limit
    fitting = {kind: None for kind in kinds(ledger, campaign) if _fits(ledger.resources(kind[1]), request)}
    streams: list[Iterable[Row]] = [ledger.execute(_READY, (*kind, limit)) for kind in fitting]
    left = _Left(request.want, request.total)
    given = 0
    too_large: set[int] = set()
    for row in streams[0] if len(streams) == 1 else merge(*streams, key=_order):
        if given >= limit:
            return
        if row[3] in too_large:
            continue
        need = ledger.resources(row[3])
        if not left.take(need):
            if request.backfill:
                too_large.add(row[3])  # what is left only shrinks
                if len(too_large) == len({kind[1] for kind in fitting}):
                    return
                continue
            if given:
                return  # it comes first next time: small tasks behind it must not starve it
            left.force(need)
        given += 1
        yield row


def _fits(need: Resources, request: Claim) -> bool:
    if request.time_left_s and need.lasts_s > request.time_left_s:
        return False
    if request.within_s and not (need.time_limit_s and need.lasts_s <= request.within_s):
        return False
    room = 0
    for count, node in request.nodes or ((1, request.total),):
        room += count * ranks_on(need, node)
        if room >= need.ranks:
            return True
    return False


def ranks_on(need: Resources, node: Resources) -> int:
    """Return how many ranks of `need` an empty node has room for; memory counts only where the node says how much."""
    wanted = room = min(need.ranks_per_node or need.ranks, need.ranks)
    if need.cores:
        room = min(room, node.cores // need.cores)
    if need.gpus:
        each = SHARE // shares(need.gpus) * int(node.gpus) if need.gpus < 1 else int(node.gpus) // math.ceil(need.gpus)
        room = min(room, each)
    if need.memory_bytes and node.memory_bytes:
        room = min(room, node.memory_bytes // need.memory_bytes)
    for name, amount in need.named.items():
        if amount > 0:
            room = min(room, shares(node.named.get(name, 0.0)) // shares(amount))
    return 0 if need.ranks_per_node and room < wanted else room


class _Left:
    """What is still wanted. Memory counts only where the pilot has said how much it has."""

    def __init__(self, want: Resources, total: Resources) -> None:
        self.cores = want.cores
        self.gpus = want.gpus + _EPSILON
        self.memory = want.memory_bytes if total.memory_bytes else 1 << 62
        self.named = {name: amount + _EPSILON for name, amount in want.named.items()}

    def take(self, need: Resources) -> bool:
        """Take `need` off if it fits."""
        n = need.ranks
        if n * need.cores > self.cores or n * need.gpus > self.gpus or n * need.memory_bytes > self.memory:
            return False
        for name, amount in need.named.items():
            if n * amount > self.named.get(name, 0.0):
                return False
        self.force(need)
        return True

    def force(self, need: Resources) -> None:
        """Take `need` off."""
        n = need.ranks
        self.cores -= n * need.cores
        self.gpus -= n * need.gpus
        self.memory -= n * need.memory_bytes
        for name, amount in need.named.items():
            self.named[name] = self.named.get(name, 0.0) - n * amount


@handles(Started)
def started(ledger: Ledger, request: Started) -> Done:
    """Mark claimed tasks as running; others are passed over."""
    renew_if_live(ledger, request.pilot)
    rows = held(ledger, [task for task, *_ in request.tasks])
    running = []
    now = ledger.clock.monotonic()
    for task, attempt, at, node, slot in request.tasks:
        row = rows.get(task)
        if row and row[1] == 2 and row[2] == attempt and row[3] == request.pilot:
            del rows[task]
            running.append((at, task))
            ledger.activity.started(request.pilot, RunningTask(task, attempt, CampaignId(row[4]), at, node, slot), now)
            ledger.moved(task, attempt, row[4], 2, 3)
    ledger.executemany("UPDATE task SET state = 3, started_at = ? WHERE id = ?", running)
    return Done()


@handles(Release)
def release(ledger: Ledger, request: Release) -> Done:
    """Take back what the pilot holds of these; others are passed over."""
    renew_if_live(ledger, request.pilot)
    rows = held(ledger, [task for task, _ in request.tasks])
    mine = []
    for task, attempt in request.tasks:
        row = rows.get(task)
        if row and row[1] in (2, 3) and row[2] == attempt and row[3] == request.pilot:
            mine.append(rows.pop(task))
            ledger.activity.held.get(request.pilot, {}).pop(task, None)
    take_back(ledger, request.pilot, mine)
    return Done()


def take_back(ledger: Ledger, pilot: PilotId, rows: list[Row], *, lost: bool = False) -> None:
    """Make held tasks that were not started READY again, or CANCELED where the user wished so.

    With `lost`, nobody has said that they were not started: their rows go on to name the pilot.
    """
    back, canceled, worn = [], [], []
    for row in rows:
        id_, state, attempt, _, campaign, _, cancel, *_ = row
        if attempt >= ATTEMPT_MASK:  # the next number would be another task's
            worn.append(row)
        elif cancel:
            ledger.moved(id_, attempt, campaign, state, 6)
            canceled.append((id_,))
        else:
            ledger.moved(id_, attempt, campaign, state, 1)
            back.append((id_,))
    owner = "pilot_id" if lost else "NULL"
    ledger.executemany(f"UPDATE task SET state = 1, pilot_id = {owner}, started_at = NULL WHERE id = ?", back)
    ledger.executemany("UPDATE task SET state = 6, cancel = 0 WHERE id = ?", canceled)
    resolve(ledger, [(id_, 6) for (id_,) in canceled])
    if worn:
        text = f"it was given back {ATTEMPT_MASK:,} times: submit it anew"
        results = [Result(TaskId(row[0]), row[2], Cause.LAUNCH_ERROR, message=text) for row in worn]
        record(ledger, pilot, results, {row[0]: row for row in worn})


def renew_if_live(ledger: Ledger, pilot: PilotId) -> None:
    """Count a message from a pilot as a sign of life."""
    if pilot in ledger.leases:
        ledger.renew(pilot)
