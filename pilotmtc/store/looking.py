"""Requests that only look: filters become SQL, rows become records."""

import os
import socket
from collections.abc import Iterable
from typing import Any

import msgspec

import pilotmtc
from pilotmtc.errors import UsageError
from pilotmtc.model import (
    Attempt,
    BatchId,
    Campaign,
    CampaignId,
    Pilot,
    PilotDescription,
    PilotId,
    Task,
    TaskId,
)
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.ledger import TASK_STATES, Ledger, id_list
from pilotmtc.store.views import ATTEMPT_BITS, ATTEMPT_MASK
from pilotmtc.wire.messages import (
    Campaigns,
    Changes,
    Filter,
    GetCampaigns,
    GetChanges,
    GetOutput,
    GetPilots,
    GetStore,
    GetTask,
    GetTasks,
    Output,
    Pilots,
    StoreInfo,
    TaskDetail,
    Tasks,
)

_decode_strings = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_pilot = msgspec.json.Decoder(PilotDescription).decode
_CAUSES = tuple(Cause)
_PAGE = 10_000
_ATTEMPT = """id, cause, exit_code, signal, pilot_id, node, slot, started_at, elapsed_s, cpu_s, memory_bytes,
    stdout_bytes, stderr_bytes, stdout_path, stderr_path, message, recorded_at"""
_TASK = """t.id, t.campaign_id, t.template_id, t.resources_id, t.state, t.attempt, t.priority, t.params, t.pilot_id,
    t.failures, t.crashes, t.unmet, t.not_before, t.cancel, t.started_at, t.name, t.tags"""
# A subquery that has the last recorded attempt of t.
_LAST = f"""(SELECT max(id) FROM attempt
    WHERE id BETWEEN (t.id << {ATTEMPT_BITS}) AND (t.id << {ATTEMPT_BITS}) + t.attempt)"""
_BAD = frozenset({TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED})
_HELD = frozenset({TaskState.CLAIMED, TaskState.RUNNING})

Row = tuple[Any, ...]


class Where:
    """A `Filter` as SQL over ``task AS t``: the `source` of rows, a `condition`, and its `values`."""

    def __init__(self, ledger: Ledger, wish: Filter) -> None:
        self.source = "task AS t"
        self.values: list[object] = []
        self._terms: list[str] = []
        if wish.states is not None:
            self._states(frozenset(wish.states))
        if wish.ids is not None:
            self._add("t.id IN (SELECT value FROM json_each(?))", id_list(wish.ids))
        if wish.campaign is not None:
            self._campaign(ledger, wish.campaign)
        if wish.pilot is not None:
            self._add("t.pilot_id = ?", wish.pilot)
        if wish.names is not None:
            self._names(wish.names)
        for tag in wish.tags or ():
            self._add("EXISTS (SELECT 1 FROM json_each(t.tags) WHERE value = ?)", tag)
        if wish.exit_codes is not None:
            self._last("exit_code", wish.exit_codes)
        if wish.causes is not None:
            self._last("cause", map(int, wish.causes))

    @property
    def condition(self) -> str:
        """The conditions, ready for AND."""
        return " AND ".join(self._terms) or "1"

    def _add(self, term: str, *values: object) -> None:
        self._terms.append(term)
        self.values.extend(values)

    def _states(self, states: frozenset[TaskState]) -> None:
        # A partial index is used only when its own condition is there word for word.
        if states and states <= _BAD:
            self.source = "task AS t INDEXED BY task_ended"
            self._add("t.state >= 5")
        elif states and states <= _HELD:
            self.source = "task AS t INDEXED BY task_held"
            self._add("t.state IN (2, 3)")
        self._add(f"t.state IN ({', '.join(str(int(state)) for state in sorted(states))})")

    def _campaign(self, ledger: Ledger, campaign: CampaignId) -> None:
        row = ledger.execute("SELECT first_id, last_id FROM campaign WHERE id = ?", (campaign,)).fetchone()
        if row is None:
            raise UsageError(f"there is no campaign {campaign} in this store")
        self._add("t.campaign_id = ? AND t.id BETWEEN ? AND ?", campaign, *row)

    def _names(self, names: tuple[str, ...]) -> None:
        # GLOB knows [ too, which a Filter does not.
        terms = ["t.name GLOB ?" if "*" in name or "?" in name else "t.name = ?" for name in names]
        values = [name.replace("[", "[[]") if "*" in name or "?" in name else name for name in names]
        self._add(f"({' OR '.join(terms) or '0'})", *values)

    def _last(self, column: str, values: Iterable[int]) -> None:
        self._add(
            f"(SELECT {column} FROM attempt WHERE id = {_LAST}) IN (SELECT value FROM json_each(?))", id_list(values)
        )


def get_tasks(ledger: Ledger, request: GetTasks) -> Tasks:
    """Answer a page of tasks."""
    where = Where(ledger, request.filter)
    limit = max(1, min(request.limit, _PAGE))
    bound, order = ("<", "DESC") if request.newest else (">", "ASC")
    page = f"AND t.id {bound} ?" if request.after or not request.newest else "AND t.id > ?"
    rows = ledger.execute(
        f"SELECT {_TASK} FROM {where.source} WHERE {where.condition} {page} ORDER BY t.id {order} LIMIT ?",
        (*where.values, request.after, limit + 1),
    ).fetchall()
    more = len(rows) > limit
    tasks = tuple([_task(ledger, row) for row in rows[:limit]])
    return Tasks(tasks, tasks[-1].id if more else 0)


def _task(ledger: Ledger, row: Row) -> Task:
    (id_, campaign, template_id, resources_id, state, attempt, priority, params, pilot,
     failures, crashes, unmet, not_before, cancel, started_at, name, tags) = row  # fmt: skip
    template = ledger.template(template_id)
    found = _attempts(ledger, TaskId(id_), attempt, 1) if attempt else ()
    return Task(
        id_, campaign, TASK_STATES[state], attempt, priority, template.command, template.shell,
        dict(zip(template.fields, _decode_strings(params), strict=True)) if params else {},
        ledger.resources(resources_id), template.max_retries, failures, crashes, unmet, name,
        _decode_strings(tags) if tags else (), pilot, started_at, not_before, bool(cancel), found[0] if found else None,
    )  # fmt: skip


def _attempts(ledger: Ledger, task: TaskId, newest: int, limit: int) -> tuple[Attempt, ...]:
    """Return recorded attempts up to `newest`, newest first."""
    rows = ledger.execute(
        f"SELECT {_ATTEMPT} FROM attempt WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
        (task << ATTEMPT_BITS, (task << ATTEMPT_BITS) + newest, limit),
    )
    return tuple(
        [Attempt(task, row[0] & ATTEMPT_MASK, _CAUSES[row[1]], row[4], row[2], row[3], *row[5:]) for row in rows]
    )


def get_task(ledger: Ledger, request: GetTask) -> TaskDetail:
    """Answer all about a task."""
    row = ledger.execute(f"SELECT {_TASK} FROM task AS t WHERE t.id = ?", (request.task,)).fetchone()
    if row is None:
        return TaskDetail()
    neighbours = (
        "SELECT t.id, t.state, d.well FROM dependency AS d JOIN task AS t ON t.id = d.{} WHERE d.{} = ? LIMIT 100"
    )
    needs = ledger.execute(neighbours.format("needs_id", "task_id"), (request.task,))
    needed_by = ledger.execute(neighbours.format("task_id", "needs_id"), (request.task,))
    return TaskDetail(
        _task(ledger, row),
        ledger.template(row[2]),
        _attempts(ledger, request.task, ATTEMPT_MASK, 1000)[::-1],
        tuple((id_, TASK_STATES[state], bool(well)) for id_, state, well in needs),
        tuple((id_, TASK_STATES[state], bool(well)) for id_, state, well in needed_by),
    )


def get_output(ledger: Ledger, request: GetOutput) -> Output:
    """Answer what an attempt wrote."""
    newest = request.attempt or ATTEMPT_MASK
    base = request.task << ATTEMPT_BITS
    row = ledger.execute(
        "SELECT a.id, o.stdout, o.stderr, a.stdout_bytes, a.stderr_bytes, a.stdout_path, a.stderr_path "
        "FROM attempt AS a LEFT JOIN output AS o ON o.id = a.id WHERE a.id BETWEEN ? AND ? ORDER BY a.id DESC LIMIT 1",
        (base + (request.attempt or 0), base + newest),
    ).fetchone()
    if row is None or not 0 <= request.attempt <= ATTEMPT_MASK:
        return Output(False)
    return Output(True, row[0] & ATTEMPT_MASK, row[1] or b"", row[2] or b"", *row[3:])


def get_campaigns(ledger: Ledger, request: GetCampaigns) -> Campaigns:
    """Answer campaigns with their counts."""
    rows = ledger.execute(
        "SELECT id, key, name, created_at, received, sealed FROM campaign WHERE (?1 IS NULL OR id = ?1) "
        "AND (?2 IS NULL OR key = ?2) ORDER BY id DESC",
        (request.id, request.key),
    ).fetchall()
    return Campaigns(
        tuple(
            Campaign(id_, key, name, created_at, received, bool(sealed), _counts(ledger, id_))
            for id_, key, name, created_at, received, sealed in rows
        )
    )


def _counts(ledger: Ledger, campaign: int) -> dict[TaskState, int]:
    rows = ledger.execute("SELECT state, n FROM tally WHERE campaign_id = ? AND n != 0 ORDER BY state", (campaign,))
    return {TASK_STATES[state]: n for state, n in rows}


def get_pilots(ledger: Ledger, request: GetPilots) -> Pilots:
    """Answer pilots."""
    condition, values = ("id = ?", (request.id,)) if request.id is not None else ("1", ())
    if request.live:
        condition += " AND state < 4"
    return Pilots(pilots_where(ledger, condition, values))


def pilots_where(ledger: Ledger, condition: str, values: tuple[object, ...]) -> tuple[Pilot, ...]:
    """Return pilots that meet an SQL condition, newest first."""
    rows = ledger.execute(
        "SELECT id, description, state, created_at, started_at, ended_at, seen_at, host, pid, nodes, cores, busy, "
        f"directory, reason, batch, native_state FROM pilot WHERE {condition} ORDER BY id DESC",
        values,
    ).fetchall()
    return tuple(
        Pilot(
            PilotId(id_), _decode_pilot(body), PilotState(state), created, started, ended, seen, host, pid, nodes,
            cores, busy, directory, reason, BatchId(batch) if batch is not None else None, native,
        )
        for (id_, body, state, created, started, ended, seen, host, pid, nodes, cores, busy, directory, reason,
             batch, native) in rows
    )  # fmt: skip


def get_changes(ledger: Ledger, request: GetChanges) -> Changes:
    """Answer transitions from memory."""
    if not ledger.first_seq <= request.since <= ledger.seq:
        return Changes(ledger.seq, (), True)
    seq, found = ledger.changes(request.since, request.campaign, max(1, request.limit))
    return Changes(seq, tuple(found))


def get_store(ledger: Ledger, request: GetStore) -> StoreInfo:
    """Answer what the store is."""
    execute = ledger.execute
    (path,) = execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    counts = execute("SELECT state, sum(n) FROM tally GROUP BY state HAVING sum(n) != 0 ORDER BY state")
    return StoreInfo(
        path=path,
        mode=execute("PRAGMA journal_mode").fetchone()[0],
        schema=execute("PRAGMA user_version").fetchone()[0],
        version=pilotmtc.__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        size_bytes=size_of(path),
        tasks={TASK_STATES[state]: n for state, n in counts},
    )


def size_of(path: str) -> int:
    """Return the bytes that the store takes on disk, its write-ahead log included."""
    return sum(os.stat(name).st_size for name in (path, f"{path}-wal") if os.path.exists(name))
