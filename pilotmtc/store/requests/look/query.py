"""Queries: tasks, outputs, pilots, changes and the store."""

import os
import socket
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

import pilotmtc
from pilotmtc.errors import UsageError
from pilotmtc.model import (
    Attempt,
    BatchId,
    Pilot,
    PilotDescription,
    PilotId,
    Resources,
    Task,
    TaskId,
    Version,
)
from pilotmtc.protocol.client.maintenance import GetStore, StoreInfo
from pilotmtc.protocol.client.pilots import GetPilots, Pilots
from pilotmtc.protocol.client.tasks import (
    Dependencies,
    Dependency,
    GetDependencies,
    GetOutput,
    GetTask,
    GetTasks,
    Output,
    TaskDetail,
    Tasks,
)
from pilotmtc.protocol.client.watch import Changes, GetChanges
from pilotmtc.protocol.records import Neighbour
from pilotmtc.states import TASK_FINAL, Cause, PilotState, TaskState
from pilotmtc.store.attempt_id import ATTEMPT_BITS, LAST_ATTEMPT, attempt_id, split_attempt_id
from pilotmtc.store.file.large_outputs import place
from pilotmtc.store.file.maintenance import size_of
from pilotmtc.store.file.pilot_status import LIVES
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.task_status import ON_HOLD
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.ownership.filesystem import opening_of
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.look.filter_sql import ELAPSED, Where, measured
from pilotmtc.store.requests.values import returned_calls

_decode_strings = msgspec.json.Decoder(tuple[str, ...]).decode
decode_pilot = lru_cache(1_000)(msgspec.json.Decoder(PilotDescription).decode)  # most pilots are like others
_CAUSES = tuple(Cause)
_PAGE = 10_000
# The columns of the fields of `Attempt`; its id replaces task and number.
_ATTEMPTS = """SELECT a.id, cause, pilot_id, exit_code, signal, node, slot, started_at, elapsed_s, cpu_s, memory_bytes,
    stdout_bytes, stderr_bytes, stdout_path, stderr_path, message, recorded_at, coalesce(r.text, ''),
    coalesce(version_id, 0), coalesce(m.source_id, 0) FROM attempt AS a LEFT JOIN returned AS r ON r.id = a.id
    LEFT JOIN memo AS m ON m.id = a.id WHERE a.id BETWEEN ? AND ? ORDER BY a.id DESC LIMIT ?"""
TASK_COLUMNS = """t.id, t.campaign_id, t.template_id, t.resources_id, t.state, t.attempt, t.priority, t.params,
    t.pilot_id, t.failures, t.crashes, t.unmet, t.not_before, t.cancel, t.started_at, t.name, t.tags"""
_TASK = f"SELECT {TASK_COLUMNS} FROM task AS t WHERE t.id = ?"
_NEEDS = """SELECT t.id, t.state, d.well FROM dependency AS d JOIN task AS t ON t.id = d.needs_id
    WHERE d.task_id = ? LIMIT 100"""
_NEEDED_BY = """SELECT t.id, t.state, d.well FROM dependency AS d JOIN task AS t ON t.id = d.task_id
    WHERE d.needs_id = ? LIMIT 100"""
_DEPENDENCIES = """SELECT d.task_id, d.needs_id, d.well FROM dependency AS d INDEXED BY dependency_task
    WHERE (d.task_id, d.needs_id) > (?, ?) AND d.task_id <= ? ORDER BY d.task_id, d.needs_id LIMIT ?"""
_CAMPAIGN_IDS = "SELECT first_id, last_id FROM campaign WHERE id = ?"
_IS_OF = f"SELECT id FROM task WHERE id {IN_LIST} AND campaign_id = ?"
# The output of the newest attempt in a range of ids.
_OUTPUT = """SELECT a.id, a.pilot_id, coalesce(o.stdout, x''), coalesce(o.stderr, x''), a.stdout_bytes, a.stderr_bytes,
    a.stdout_path, a.stderr_path FROM attempt AS a LEFT JOIN output AS o ON o.id = a.id
    WHERE a.id BETWEEN ? AND ? ORDER BY a.id DESC LIMIT 1"""
_BEFORE_GROWTH = "SELECT resources_id FROM grown WHERE task_id = ?"
_TALLY = "SELECT state, sum(n) FROM tally GROUP BY state HAVING sum(n) != 0 ORDER BY state"
# Pilots, newest first; a condition is inserted in the middle.
_PILOTS = """SELECT id, description, state, created_at, started_at, ended_at, seen_at, host, pid, nodes, cores, busy,
    directory, reason, batch, native_state, submitted_at, asked_at, trouble, node_cores, node_memory_bytes,
    on_hold FROM pilot WHERE {} ORDER BY id DESC"""
_DIRECTORY = "SELECT directory FROM pilot WHERE id = ?"
_VALUES = ("priority", "elapsed_s", "cpu_s", "memory_bytes", "recorded_at")
_LOOK_S = 0.02  # after this time, the rest is left to the next page
_WINDOW = 2_048  # ids
_WINDOW_MAX = 65_536

Row = tuple[Any, ...]


@handles(GetTasks)
def get_tasks(tx: Transaction, request: GetTasks) -> Tasks:
    """Return a page of tasks."""
    where = Where(tx, request.filter)
    limit = max(1, min(request.limit, _PAGE))
    if request.largest:
        return _largest(tx, request, where, limit)
    order = "DESC" if request.newest else "ASC"
    rows: list[Row] = []
    for low, high, last in _windows(tx, request, where):
        rows += tx.execute(
            f"SELECT {TASK_COLUMNS} FROM {where.source} WHERE {where.condition} AND t.id BETWEEN ? AND ? "
            f"ORDER BY t.id {order} LIMIT ?",
            (*where.values, low, high, limit + 1 - len(rows)),
        )
        if len(rows) > limit or last:
            break
    tasks = tuple([task_of(tx, row) for row in rows[:limit]])
    if len(rows) > limit:
        return Tasks(tasks, tasks[-1].id)
    return Tasks(tasks, _following(tx, where, low, high, request.newest))


def _largest(tx: Transaction, request: GetTasks, where: Where, limit: int) -> Tasks:
    """Return the tasks with the largest values among those that can be read in time; without a value, they are last."""
    value, given = _value(tx, request.largest)
    best: list[tuple[float | None, TaskId, Row]] = []
    for low, high, last in _windows(tx, request, where):
        rows = tx.execute(
            f"SELECT {value} AS value, {TASK_COLUMNS} FROM {where.source} WHERE {where.condition} "
            "AND t.id BETWEEN ? AND ? ORDER BY value DESC, t.id LIMIT ?",
            (*given, *where.values, low, high, limit),
        )
        best += [(size, row[0], tuple(row)) for size, *row in rows]
        best = sorted(best, key=_by_size)[:limit]
        if last:
            break
    return Tasks(tuple([task_of(tx, row) for _, _, row in best]), _following(tx, where, low, high, request.newest))


def _by_size(found: tuple[float | None, TaskId, Row]) -> tuple[bool, float, TaskId]:
    size, task, _ = found
    return size is None, -(size or 0), task


def _value(tx: Transaction, what: str) -> tuple[str, tuple[float, ...]]:
    """Return SQL for the value by which tasks are sorted, and its parameters."""
    if what == "priority":
        return "t.priority", ()
    if what == "elapsed_s":
        return ELAPSED, (tx.clock.now(),)
    if what in _VALUES:
        return measured(what), ()
    raise UsageError(f"tasks cannot be sorted by {what!r}: there are {', '.join(_VALUES)}")


def _windows(tx: Transaction, request: GetTasks, where: Where) -> Iterator[tuple[int, int, bool]]:
    """Yield larger and larger ranges of ids until the time is up: low, high, and whether it is the last one.

    If an index leads to few tasks, all ids are one range.
    """
    until = tx.clock.monotonic() + _LOOK_S
    begin, end = where.first, min(tx.caches.next_task - 1, where.last)
    size = max(end, 0) + 1 if where.few else _WINDOW
    after, newest = request.after, request.newest
    edge = min(after or end + 1, end + 1) if newest else max(after, begin - 1)
    while True:
        low, high = (max(edge - size, begin), edge - 1) if newest else (edge + 1, edge + size)
        edge = low if newest else high
        last = (low <= begin if newest else high >= end) or tx.clock.monotonic() >= until
        yield low, high, last
        if last:
            return
        size = min(2 * size, max(_WINDOW_MAX, size))


def _following(tx: Transaction, where: Where, low: int, high: int, newest: bool) -> int:
    """Return the `next` of a page that ends with this range of ids."""
    if newest:
        return low if low > where.first else 0
    return high if high < min(tx.caches.next_task - 1, where.last) else 0


def task_of(tx: Transaction, row: Row) -> Task:
    """Return the record of a row of `TASK_COLUMNS`."""
    (id_, campaign, template_id, resources_id, state, attempt, priority, params, pilot,
     failures, crashes, unmet, not_before, cancel, started_at, name, tags) = row  # fmt: skip
    template = tx.caches.templates.get(template_id)
    found = _attempts(tx, TaskId(id_), attempt, 1) if attempt else ()
    return Task(
        id_, campaign, TASK_STATES[state], attempt, priority, template.command, template.shell,
        dict(zip(template.fields, _decode_strings(params), strict=True)) if params else {},
        tx.caches.resources.get(resources_id), template.max_retries, failures, crashes, unmet, name,
        _decode_strings(tags) if tags else (), pilot, started_at, None if not_before == ON_HOLD else not_before,
        bool(cancel), found[0] if found else None, template_id,
        "" if template.function is None else template.function.name, not_before == ON_HOLD,
        _before_growth(tx, id_) if attempt else None,
    )  # fmt: skip


def _attempts(tx: Transaction, task: TaskId, newest: int, limit: int) -> tuple[Attempt, ...]:
    """Return recorded attempts up to `newest`, newest first."""
    rows = tx.execute(_ATTEMPTS, (attempt_id(task, 0), attempt_id(task, newest), limit))
    found = [
        Attempt(
            *split_attempt_id(id_), _CAUSES[cause],
            *[*others, version, revision(tx, version), source >> ATTEMPT_BITS],
        )
        for id_, cause, *others, version, source in rows
    ]  # fmt: skip
    for at, one in enumerate(found):
        if one.stdout_path or one.stderr_path:
            out, err = _places(tx, one.pilot, one.stdout_path, one.stderr_path)
            found[at] = replace(one, stdout_path=out, stderr_path=err)
    return tuple(found)


def revision(tx: Transaction, version: int) -> str:
    """Return the git revision of what was run, with a ``+`` if files differed from it."""
    program = tx.caches.versions.parts(version)[1] if version else 0
    if not program:
        return ""
    seen = tx.caches.programs.get(program)
    return seen.revision + "+" * seen.dirty


def _places(tx: Transaction, pilot: int, *paths: str | None) -> list[str | None]:
    """Return the attempt with paths of existing files, in place of those in the store."""
    if paths == (None, None):
        return [None, None]
    (directory,) = tx.execute(_DIRECTORY, (pilot,)).fetchone() or (None,)
    return [place(tx.store_path, path, directory) for path in paths]


@handles(GetDependencies)
def get_dependencies(tx: Transaction, request: GetDependencies) -> Dependencies:
    """Return a page of what tasks of a campaign wait for."""
    row = tx.execute(_CAMPAIGN_IDS, (request.campaign,)).fetchone()
    if row is None or not tx.caches.has_dependencies:
        return Dependencies(())
    first, last = row
    found = tx.execute(_DEPENDENCIES, (*max(request.after, (first, 0)), last, _PAGE)).fetchall()
    own = {id_ for (id_,) in tx.execute(_IS_OF, (id_list({task for task, _, _ in found}), request.campaign))}
    return Dependencies(
        tuple([Dependency(TaskId(task), TaskId(need), bool(well)) for task, need, well in found if task in own]),
        found[-1][:2] if len(found) == _PAGE else (0, 0),
    )


@handles(GetTask)
def get_task(tx: Transaction, request: GetTask) -> TaskDetail:
    """Return everything about a task."""
    row = tx.execute(_TASK, (request.task,)).fetchone()
    if row is None:
        return TaskDetail()
    task = task_of(tx, row)
    attempts = _attempts(tx, request.task, LAST_ATTEMPT, 1000)[::-1]
    return TaskDetail(
        task,
        tx.caches.templates.get(task.template),
        attempts,
        _neighbours(tx, _NEEDS, request.task),
        _neighbours(tx, _NEEDED_BY, request.task),
        {id_: version_of(tx, id_) for id_ in sorted({one.version for one in attempts if one.version})},
    )


def version_of(tx: Transaction, version: int) -> Version:
    """Return what has a number."""
    template, program = tx.caches.versions.parts(version)
    return Version(version, tx.caches.templates.get(template), tx.caches.programs.get(program) if program else None)


def _before_growth(tx: Transaction, task: TaskId) -> Resources | None:
    row = tx.execute(_BEFORE_GROWTH, (task,)).fetchone()
    return None if row is None else tx.caches.resources.get(row[0])


def _neighbours(tx: Transaction, query: str, task: TaskId) -> tuple[Neighbour, ...]:
    """Return the tasks that `query` finds: those on which a task depends, or those that depend on it."""
    return tuple([Neighbour(id_, TASK_STATES[state], bool(well)) for id_, state, well in tx.execute(query, (task,))])


@handles(GetOutput)
def get_output(tx: Transaction, request: GetOutput) -> Output:
    """Return an attempt's output."""
    if not 0 <= request.attempt <= LAST_ATTEMPT:
        return Output(False)
    first, last = attempt_id(request.task, request.attempt), attempt_id(request.task, request.attempt or LAST_ATTEMPT)
    row = tx.execute(_OUTPUT, (first, last)).fetchone()
    if row is None:
        return Output(False)
    id_, pilot, stdout, stderr, stdout_bytes, stderr_bytes, *paths = row
    _, attempt = split_attempt_id(id_)
    return Output(True, attempt, stdout, stderr, stdout_bytes, stderr_bytes, *_places(tx, pilot, *paths))


@handles(GetPilots)
def get_pilots(tx: Transaction, request: GetPilots) -> Pilots:
    """Return pilots."""
    condition, values = ("id = ?", (request.id,)) if request.id is not None else ("1", ())
    if request.live:
        condition += f" AND {LIVES}"
    return Pilots(pilots_where(tx, condition, values))


def pilots_where(tx: Transaction, condition: str, values: tuple[object, ...]) -> tuple[Pilot, ...]:
    """Return pilots that meet an SQL condition, newest first."""
    return tuple([_pilot(row) for row in tx.execute(_PILOTS.format(condition), values)])


def _pilot(row: Row) -> Pilot:
    """Return the record of a row of `_PILOTS`."""
    (id_, body, state, created, started, ended, seen, host, pid, nodes, cores, busy, directory, reason, batch,
     native, submitted, asked, trouble, node_cores, node_memory, hold) = row  # fmt: skip
    return Pilot(
        PilotId(id_), decode_pilot(body), PilotState(state), created, started, ended, seen, host, pid, nodes,
        cores, busy, directory, reason, BatchId(batch) if batch is not None else None, native, submitted, asked,
        trouble, node_cores, node_memory, bool(hold),
    )  # fmt: skip


@handles(GetChanges)
def get_changes(tx: Transaction, request: GetChanges) -> Changes:
    """Return changes of tasks' states, from memory; and what calls have returned, from the file."""
    if not tx.changes.first_seq <= request.since <= tx.changes.seq:
        return Changes(tx.changes.seq, (), True)
    seq, found = tx.changes.since(request.since, request.campaign, max(1, request.limit), request.states)
    over = [task for task, state, _ in found if state in TASK_FINAL] if request.returned else ()
    return Changes(seq, tuple(found), returned=tuple(returned_calls(tx, over)[0]) if over else ())


@handles(GetStore)
def get_store(tx: Transaction, request: GetStore) -> StoreInfo:
    """Return facts about the store."""
    path = tx.store_path
    lies = opening_of(os.path.realpath(path))
    return StoreInfo(
        path=path,
        mode=lies.mode,
        forced=lies.forced,
        file_system=lies.file_system.type,
        mount=lies.file_system.mount,
        schema=tx.execute("PRAGMA user_version").fetchone()[0],
        version=pilotmtc.__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        size_bytes=size_of(path),
        tasks=tally(tx),
    )


def tally(tx: Transaction) -> dict[TaskState, int]:
    """Return the number of tasks in each state."""
    return {TASK_STATES[state]: n for state, n in tx.execute(_TALLY)}
