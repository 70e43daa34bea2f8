"""Claim, Started, Release: agents get tasks, start them, and give back those that they have not started."""

import math
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import starmap

import msgspec
from msgspec import Struct

from pilotmtc.errors import StateError, UsageError
from pilotmtc.model import Call, CampaignId, Claimed, PilotId, Result, TaskId
from pilotmtc.protocol.agent import Batch, Claim, Release, Started
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.records import RunningTask
from pilotmtc.resources.amounts import UNKNOWN, Amounts, Sum, shares
from pilotmtc.resources.fit import Capacity, fit, lacking_units
from pilotmtc.states import PILOT_FINAL, Cause, PilotState, TaskState
from pilotmtc.store.attempt_id import LAST_ATTEMPT, attempt_id
from pilotmtc.store.file.pilot_status import pilot_status
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.task_status import CLAIMED, HELD, RUNNING, TaskStatus, tasks_by_id
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.calls import calls_of
from pilotmtc.store.requests.gates import note_starts, room
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.tasks.dependents import resolve
from pilotmtc.store.requests.tasks.finish import record

_decode_params = msgspec.json.Decoder(tuple[str, ...]).decode
_COLUMNS = "id, attempt, template_id, resources_id, priority, params, name, campaign_id"
_IS_READY = f"state = {TaskState.READY:d} AND not_before IS NULL"  # as the index task_ready says it
# Tasks of one kind that can be claimed, in order.
_READY_TASKS = f"""SELECT {_COLUMNS} FROM task INDEXED BY task_ready WHERE campaign_id = ? AND resources_id = ?
    AND {_IS_READY} ORDER BY priority DESC, id LIMIT ?"""
# What an earlier claim of this number was given, as far as the pilot holds it still.
_GIVEN_TASKS = f"""SELECT {_COLUMNS} FROM task INDEXED BY task_held WHERE pilot_id = ? AND {HELD} AND claim_no = ?
    ORDER BY priority DESC, id"""
# Let a pilot hold tasks.
_TAKE = f"""UPDATE task SET state = {CLAIMED}, attempt = attempt + 1, pilot_id = ?, claim_no = ?, started_at = NULL,
    version_id = ? WHERE id {IN_LIST}"""
_SET_CLAIM_NO = "UPDATE pilot SET claim_no = ? WHERE id = ?"
# The next campaign of a range with tasks that can be claimed.
# min() over an index is one seek; a comparison of row values would walk through all that is ready.
_NEXT_CAMPAIGN = f"""SELECT min(campaign_id) FROM task INDEXED BY task_ready
    WHERE {_IS_READY} AND campaign_id > ? AND campaign_id <= ?"""
# The next resources that tasks of a campaign need which can be claimed.
_NEXT_RESOURCES = f"""SELECT min(resources_id) FROM task INDEXED BY task_ready
    WHERE {_IS_READY} AND campaign_id = ? AND resources_id > ?"""
# Note that a task runs.
_START = f"UPDATE task SET state = {RUNNING}, started_at = ? WHERE id = ?"
# Give a task back: with its pilot still named, so that the pilot may come back with it, or without.
_LOSE = f"UPDATE task SET state = {TaskState.READY:d}, started_at = NULL WHERE id = ?"
_RETURN = f"UPDATE task SET state = {TaskState.READY:d}, started_at = NULL, pilot_id = NULL WHERE id = ?"
_CANCEL = f"UPDATE task SET state = {TaskState.CANCELED:d}, cancel = 0 WHERE id = ?"


class ReadyTask(Struct, frozen=True, gc=False):
    """A task that a claim is given, as it was before."""

    id: TaskId
    attempt: int
    template: int
    resources: int
    priority: int
    params: str | None
    name: str | None
    campaign: CampaignId


@handles(Claim)
def claim(tx: Transaction, request: Claim) -> Batch:
    """Give the pilot a batch of tasks that fit."""
    status = pilot_status(tx, request.pilot)
    if status.state in PILOT_FINAL:
        raise StateError(f"pilot {request.pilot} is {status.state.name}: its agent must stop")
    if status.state in (PilotState.NEW, PilotState.PENDING):
        raise StateError(f"pilot {request.pilot} is {status.state.name}: its agent must attach first")
    tx.leases.renew(request.pilot)
    if request.number == status.claim_no:
        rows = tx.execute(_GIVEN_TASKS, (request.pilot, request.number))
        tasks = [ReadyTask(*row) for row in rows]
        return _batch(tx, request.number, tasks, _calls(tx, tasks)[0], 0)
    if request.number < tx.leases.newest_claim(request.pilot, status.claim_no):
        return Batch(request.number)  # a late copy: the agent would not learn what it was given
    tx.leases.note_claim(request.pilot, request.number)
    if status.state is PilotState.DRAINING or status.drain or status.kill or status.on_hold:
        return Batch(request.number)
    tasks, limited = _choose(tx, request, status.campaign)
    if not tasks:
        return Batch(request.number, limited=limited)
    calls, count = _calls(tx, tasks, cut=True)
    del tasks[count:]
    for version, ids in _versions(tx, tasks).items():
        tx.execute(_TAKE, (request.pilot, request.number, version, id_list(ids)))
    attempts: dict[CampaignId, list[int]] = {}
    for task in tasks:
        attempts.setdefault(task.campaign, []).append(attempt_id(task.id, task.attempt + 1))
    for campaign, taken in attempts.items():
        tx.move_tasks(campaign, TaskState.READY, TaskState.CLAIMED, taken)
        note_starts(tx, campaign, len(taken))
    tx.execute(_SET_CLAIM_NO, (request.number, request.pilot))
    return _batch(tx, request.number, tasks, calls, 1)


def _versions(tx: Transaction, tasks: Iterable[ReadyTask]) -> dict[int, list[TaskId]]:
    """Return the tasks by what they will run."""
    versions: dict[int, list[TaskId]] = {}
    known: dict[tuple[int, int], list[TaskId]] = {}
    for task in tasks:
        same = known.get((task.template, task.campaign))
        if same is None:
            version = tx.caches.versions.intern(task.template, tx.caches.program_of.get(task.campaign, 0))
            same = known[task.template, task.campaign] = versions.setdefault(version, [])
        same.append(task.id)
    return versions


def _calls(tx: Transaction, tasks: list[ReadyTask], *, cut: bool = False) -> tuple[dict[TaskId, Call], int]:
    """Return what the tasks call and, with `cut`, how many of them go into one answer."""
    if not any(tx.caches.templates.get(id_).function for id_ in {task.template for task in tasks}):
        return {}, len(tasks)
    return calls_of(tx, [(task.id, task.campaign) for task in tasks], cut=cut)


def _batch(tx: Transaction, number: int, tasks: list[ReadyTask], calls: dict[TaskId, Call], step: int) -> Batch:
    """Return the reply; `step` is what the claim has added to the numbers of attempts since `tasks` were read."""
    on_nodes = {id_: tx.limits.on_nodes(id_) for id_ in {task.resources for task in tasks}}
    return Batch(
        number,
        tuple(
            [
                Claimed(
                    task.id, task.attempt + step, task.template, on_nodes[task.resources],
                    _decode_params(task.params) if task.params else (), task.priority, task.name, task.campaign,
                    calls.get(task.id),
                )
                for task in tasks
            ]
        ),
        {id_: tx.caches.templates.get(id_) for id_ in {task.template for task in tasks}},
        {id_: tx.caches.resources.get(id_) for id_ in on_nodes.values()},
    )  # fmt: skip


def kinds(tx: Transaction, campaign: int | None) -> Iterator[tuple[int, int]]:
    """Yield the (campaign, resources) that have ready tasks, by a step or two in the index for each.

    Campaigns that are on hold or wait for others are passed over, and without a `campaign` those that are kept for
    pilots of their own.
    """
    low, high = (-1, 1 << 62) if campaign is None else (campaign - 1, campaign)
    while True:
        (found,) = tx.execute(_NEXT_CAMPAIGN, (low, high)).fetchone()
        if found is None:
            return
        low = found
        if not tx.caches.is_open(found):
            continue
        if campaign is None and (shared := tx.caches.shared_from(found)) != found:
            if shared is None:
                return
            low = shared - 1
            continue
        need = -1
        while (need := tx.execute(_NEXT_RESOURCES, (found, need)).fetchone()[0]) is not None:
            yield found, need


def _order(task: ReadyTask) -> tuple[int, int]:
    return -task.priority, task.id


def _choose(tx: Transaction, request: Claim, campaign: int | None) -> tuple[list[ReadyTask], bool]:
    """Return ready tasks in order as long as they fit into what is wanted, and whether a limit has held others back.

    Those that ask for units of a limit are given them in order: while the first waits for its own, those behind it get
    none of the limits that it asks for. The others do not wait for it.
    """
    try:
        capacity, left = _capacity(request, tx.limits.total), _left(request)
    except (OverflowError, ValueError) as error:
        raise UsageError(f"a claim of what cannot be counted: {error}") from error
    fitting = [
        kind
        for kind in kinds(tx, campaign)
        if fit(tx.limits.request(kind[1]), capacity) is None and _in_time(tx, kind[1], request)
    ]
    held_back = tx.caches.max_running.keys() | tx.caches.start_rates.keys()
    left_of = {campaign: room(tx, campaign) for campaign in {one for one, _ in fitting} & held_back}
    limited = any(most <= 0 for most in left_of.values())
    fitting = [kind for kind in fitting if left_of.get(kind[0], 1) > 0]
    asked = {resources: tx.limits.request(resources) for _, resources in fitting}
    if len(fitting) == 1 and not left_of and not asked[fitting[0][1]].units:
        return _of_one_kind(tx, fitting[0], request, left.times(asked[fitting[0][1]].need)), limited
    free = tx.limits.free() if any(one.units for one in asked.values()) else {}
    passed: set[int] = set()  # resources of which no task is given any more
    streams = [_ready_tasks(tx, kind, request.limit, passed, left_of) for kind in fitting]
    tasks: list[ReadyTask] = []
    for task in streams[0] if len(streams) == 1 else merge(*streams, key=_order):
        if len(tasks) >= request.limit or len(passed) == len(asked):
            break
        if task.resources in passed:
            continue
        if left_of.get(task.campaign, 1) <= 0:
            limited = True
            continue
        need, _, units = asked[task.resources]
        if units and lacking_units(asked[task.resources], free):
            limited = True
            names = {name for name, _ in units}
            passed.update(other for other, one in asked.items() if any(name in names for name, _ in one.units))
            continue
        if not left.covers(need):
            if request.backfill:
                passed.add(task.resources)  # what is left only shrinks
                continue
            if tasks:
                break  # it comes first next time: small tasks behind it must not starve it
        left.add(need, -1)
        for name, amount in units:
            free[name] -= amount
        if task.campaign in left_of:
            left_of[task.campaign] -= 1
        tasks.append(task)
    return tasks, limited


def _of_one_kind(tx: Transaction, kind: tuple[int, int], request: Claim, covered: int) -> list[ReadyTask]:
    """Return what `_choose` does if there is one kind of tasks without any limit, of which so many fit."""
    count = min(covered if request.backfill else max(covered, 1), request.limit)
    return list(starmap(ReadyTask, tx.execute(_READY_TASKS, (*kind, count))))


def _ready_tasks(
    tx: Transaction, kind: tuple[int, int], limit: int, passed: set[int], left_of: Mapping[int, float]
) -> Iterator[ReadyTask]:
    """Yield ready tasks of a kind in order, until its resources are `passed`, or nothing is `left_of` its campaign.

    The first one for which there is no room is still yielded, so that it is known that there are more.
    """
    for task in starmap(ReadyTask, tx.execute(_READY_TASKS, (*kind, limit))):
        if kind[1] in passed:
            return
        full = left_of.get(kind[0], 1) <= 0
        yield task
        if full:
            return


def _capacity(request: Claim, units: Mapping[str, int]) -> Capacity:
    """Return what the pilot has. Memory counts only where it says how much."""
    nodes = tuple(
        (count, Amounts.of(node.cores, int(node.gpus), node.memory_bytes or UNKNOWN, node.named))
        for count, node in request.nodes or ((1, request.total),)
    )
    return Capacity(nodes, request.time_left_s or math.inf, units)


def _left(request: Claim) -> Sum:
    """Return what is wanted, of all nodes together."""
    left = Sum()
    left.cores = request.want.cores
    left.gpus = shares(request.want.gpus)
    left.memory = request.want.memory_bytes if request.total.memory_bytes else UNKNOWN
    left.named = {name: shares(amount) for name, amount in request.want.named.items()}
    return left


def _in_time(tx: Transaction, kind: int, request: Claim) -> bool:
    if not request.within_s:
        return True
    need = tx.caches.resources.get(kind)
    return bool(need.time_limit_s) and need.lasts_s <= request.within_s


@handles(Started)
def started(tx: Transaction, request: Started) -> Done:
    """Mark claimed tasks as running; ignore tasks that the pilot does not hold."""
    tx.leases.heard(request.pilot)
    tasks = tasks_by_id(tx, [task for task, *_ in request.tasks])
    running = []
    shown = []
    moves: dict[CampaignId, list[int]] = {}
    for id_, attempt, at, node, slot in request.tasks:
        task = tasks.get(id_)
        if task and task.state == CLAIMED and task.is_held(request.pilot, attempt):
            del tasks[id_]
            running.append((at, id_))
            shown.append(RunningTask(id_, attempt, task.campaign, at, node, slot))
            moves.setdefault(task.campaign, []).append(attempt_id(id_, attempt))
    for campaign, attempts in moves.items():
        tx.move_tasks(campaign, CLAIMED, RUNNING, attempts)
    tx.activity.started(request.pilot, shown)
    tx.executemany(_START, running)
    return Done()


@handles(Release)
def release(tx: Transaction, request: Release) -> Done:
    """Take these tasks back; ignore tasks that the pilot does not hold."""
    tx.leases.heard(request.pilot)
    tasks = tasks_by_id(tx, [task for task, _ in request.tasks])
    mine = []
    for id_, attempt in request.tasks:
        task = tasks.get(id_)
        if task and task.is_held(request.pilot, attempt):
            mine.append(tasks.pop(id_))
    tx.activity.returned(request.pilot, [task.id for task in mine])
    take_back(tx, request.pilot, mine)
    return Done()


def take_back(tx: Transaction, pilot: PilotId, tasks: Iterable[TaskStatus], *, lost: bool = False) -> None:
    """Make held tasks that were not started READY again, or CANCELED if the user asked for that.

    With `lost`, the pilot may have started them after all: their rows still name it.
    """
    back: list[tuple[int]] = []
    canceled: list[tuple[int]] = []
    worn: list[TaskStatus] = []
    for task in tasks:
        if task.attempt >= LAST_ATTEMPT:  # the next number would be another task's
            worn.append(task)
            continue
        (canceled if task.cancel else back).append((task.id,))
        new = TaskState.CANCELED if task.cancel else TaskState.READY
        tx.move_task(task.id, task.attempt, task.campaign, task.state, new)
    tx.executemany(_LOSE if lost else _RETURN, back)
    tx.executemany(_CANCEL, canceled)
    resolve(tx, [(id_, TaskState.CANCELED) for (id_,) in canceled])
    if worn:
        text = f"it was given back {LAST_ATTEMPT:,} times: submit it anew"
        results = [Result(task.id, task.attempt, Cause.LAUNCH_ERROR, message=text) for task in worn]
        record(tx, pilot, results, {task.id: task for task in worn})
