"""Details of a task or a pilot: why it waits, what runs where, when its slots were in use."""

from typing import Any

from pilotmtc.errors import UsageError
from pilotmtc.model import PilotId
from pilotmtc.protocol.agent import ReportOutput
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.pilots import GetPilotView, GetSpans, PilotView, Spans
from pilotmtc.protocol.client.tasks import AHEAD_MAX, Explain, Explanation, GetTail, GetTask, GetWords, Tail, Words
from pilotmtc.protocol.records import RunningTask, Span
from pilotmtc.states import PILOT_FINAL, Cause, TaskState
from pilotmtc.store.attempt_id import attempt_id, split_attempt_id
from pilotmtc.store.file.pilot_status import LIVES
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.task_status import HELD, RUNNING
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.campaigns import get_campaigns
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.limits import limits
from pilotmtc.store.requests.look.filter_sql import field_names
from pilotmtc.store.requests.look.query import TASK_COLUMNS, get_task, pilots_where, task_of
from pilotmtc.store.requests.tasks.claim import kinds

_BLOCKERS = 10
_MOST_HELD = 20_000
_MOST_SPANS = 10_000
_SPAN_IDS = 8_192  # tasks whose attempts are read at once
_MOVES = 30_000  # changes that are read at once; most of them are not ends of attempts
_SPANS = "SELECT id, node, slot, started_at, elapsed_s, cause, coalesce(exit_code, signal, 0) FROM attempt"
# Not what was taken from other tasks.
_IS_OF_PILOT = "pilot_id = ? AND started_at > 0 AND NOT EXISTS (SELECT 1 FROM memo WHERE memo.id = attempt.id)"
_OLDER_SPANS = f"{_SPANS} WHERE id >= ? AND id < ? AND {_IS_OF_PILOT} ORDER BY id DESC LIMIT ?"
_SPANS_BY_ID = f"{_SPANS} WHERE id {IN_LIST} AND {_IS_OF_PILOT}"
_LOOK_S = 0.02
_NEW_TASKS = 2_000
_BEGUN = frozenset({TaskState.CLAIMED, TaskState.RUNNING})
_BAD = frozenset({TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED})
# Tasks of one kind that are claimed before a given one, up to the number that is counted.
_AHEAD = f"""SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_ready WHERE campaign_id = ?1 AND resources_id = ?2
    AND state = {TaskState.READY:d} AND not_before IS NULL AND (priority > ?3 OR priority = ?3 AND id < ?4) LIMIT ?5)"""
_BLOCKING = f"SELECT {TASK_COLUMNS} FROM task AS t WHERE t.id {IN_LIST} LIMIT {_BLOCKERS}"
# The tasks that a pilot holds: the first columns of `RunningTask`.
_HELD_TASKS = f"""SELECT id, attempt, campaign_id, coalesce(started_at, 0.0) FROM task INDEXED BY task_held
    WHERE pilot_id = ? AND {HELD} ORDER BY id LIMIT {_MOST_HELD}"""
_RUNNING_ATTEMPT = f"SELECT attempt, pilot_id FROM task WHERE id = ? AND state = {RUNNING}"
# Tags of the newest tasks, the most frequent first.
_TAGS = f"""SELECT tag.value FROM (SELECT tags FROM task ORDER BY id DESC LIMIT {_NEW_TASKS}) AS t,
    json_each(t.tags) AS tag GROUP BY 1 ORDER BY count(*) DESC LIMIT 100"""
_PILOT_BY_KEY = "SELECT id FROM pilot WHERE key = ?"
_DIRECTORY = "SELECT directory FROM pilot WHERE id = ?"


@handles(Explain)
def explain(tx: Transaction, request: Explain) -> Explanation:
    """Return the facts that explain the state of a task."""
    detail = get_task(tx, GetTask(request.task))
    task = detail.task
    now = tx.clock.now()
    if task is None:
        return Explanation(now)
    wanted = [need.id for need in detail.needs if need.state < TaskState.DONE or (need.well and need.state in _BAD)]
    blocking = tx.execute(_BLOCKING, (id_list(wanted),)).fetchall()
    ahead = 0
    if task.state is TaskState.READY and task.not_before is None:
        shared = tx.caches.shared_from(task.campaign) == task.campaign
        for campaign, need in kinds(tx, None if shared else task.campaign):
            values = (campaign, need, task.priority, task.id, AHEAD_MAX - ahead)
            ahead += tx.execute(_AHEAD, values).fetchone()[0]
            if ahead >= AHEAD_MAX:
                break
    return Explanation(
        now,
        task,
        detail.template,
        detail.needs,
        get_campaigns(tx, GetCampaigns(id=task.campaign)).campaigns[0],
        tuple([task_of(tx, row) for row in blocking]),
        pilots_where(tx, LIVES, ()),
        ahead,
        limits(tx),
    )


@handles(GetPilotView)
def get_pilot_view(tx: Transaction, request: GetPilotView) -> PilotView:
    """Return everything about a pilot."""
    now = tx.clock.now()
    found = pilots_where(tx, "id = ?", (request.pilot,))
    if not found:
        return PilotView(now)
    known = tx.activity.running.get(request.pilot, {})
    tasks = []
    if found[0].state not in PILOT_FINAL:
        for row in tx.execute(_HELD_TASKS, (request.pilot,)):
            held = RunningTask(*row)
            task = known.get(held.task)
            tasks.append(held if task is None or task.attempt != held.attempt else task)
    meter = tx.activity.pilots.get(request.pilot)
    busy = tx.activity.busy(request.pilot)
    pace = None if meter is None else meter.pace(request.pilot, tx.clock.monotonic(), busy)
    return PilotView(
        now,
        found[0],
        tx.activity.nodes.get(request.pilot, ()),
        tuple(tasks),
        tuple(tx.activity.events.get(request.pilot, ())),
        pace,
    )


@handles(GetTail)
def get_tail(tx: Transaction, request: GetTail) -> Tail:
    """Return the known output of a running attempt, and ask its agent for more."""
    row = tx.execute(_RUNNING_ATTEMPT, (request.task,)).fetchone()
    if row is None:
        return Tail()
    attempt, pilot = row
    at, written = tx.running_output.answer((request.task, attempt))
    if at == request.since and tx.running_output.ask(pilot, (request.task, attempt), tx.clock.monotonic()):
        tx.wakeups.call([pilot])
    return Tail(attempt, at, written)


@handles(ReportOutput)
def peeked(tx: Transaction, request: ReportOutput) -> Done:
    """Take reports on the output of running attempts."""
    for written in request.written:
        tx.running_output.take(written, tx.clock.now())
    tx.wakeups.changed()
    return Done()


@handles(GetSpans)
def get_spans(tx: Transaction, request: GetSpans) -> Spans:
    """Return a page of attempts with the times and cores that they used."""
    if not request.before and tx.changes.first_seq <= request.since <= tx.changes.seq:
        return _newer_spans(tx, request)
    limit = max(1, min(request.limit, _MOST_SPANS))
    until = tx.clock.monotonic() + _LOOK_S
    edge = min(request.before or tx.caches.next_task, tx.caches.next_task)
    found: list[Span] = []
    while edge > 1:
        low = max(edge - _SPAN_IDS, 1)
        between = (attempt_id(low, 0), attempt_id(edge, 0))
        rows = tx.execute(_OLDER_SPANS, (*between, request.pilot, limit - len(found)))
        found += [_span(row) for row in rows]
        edge = low
        if len(found) >= limit:
            edge = found[-1].task
            break
        if tx.clock.monotonic() >= until:
            break
    return Spans(tuple(found), edge if edge > 1 else 0, tx.changes.seq, not request.before)


def _newer_spans(tx: Transaction, request: GetSpans) -> Spans:
    """Return attempts that have ended since an earlier reply, from the changes in memory."""
    seq, moves = tx.changes.since(request.since, None, _MOVES)
    ended = {attempt_id(task, attempt) for task, state, attempt in moves if attempt and state not in _BEGUN}
    rows = tx.execute(_SPANS_BY_ID, (id_list(ended), request.pilot))
    return Spans(tuple([_span(row) for row in rows]), seq=seq)


def _span(row: tuple[Any, ...]) -> Span:
    id_, node, slot, started_at, elapsed_s, cause, code = row
    return Span(*split_attempt_id(id_), node, slot, started_at, elapsed_s, Cause(cause), code)


@handles(GetWords)
def get_words(tx: Transaction, request: GetWords) -> Words:
    """Return words for the completion of filters."""
    return Words(tuple(field_names(tx)[:200]), tuple([tag for (tag,) in tx.execute(_TAGS)]))


def find_pilot(tx: Transaction, key: str) -> PilotId | None:
    """Return the pilot with this key; None if there is none."""
    row = tx.execute(_PILOT_BY_KEY, (key,)).fetchone()
    return None if row is None else PilotId(*row)


def pilot_directory(tx: Transaction, pilot: int) -> str:
    """Return the directory of a pilot.

    Raises
    ------
    UsageError
        If there is no such pilot.
    """
    row = tx.execute(_DIRECTORY, (pilot,)).fetchone()
    if row is None:
        raise UsageError(f"there is no pilot {pilot} in this store")
    (directory,) = row
    return str(directory)
