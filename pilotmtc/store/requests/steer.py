"""Cancel, Retry, Edit: slices of what users want changed; `wishes` puts them together."""

from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc.model import PilotId, Resources
from pilotmtc.protocol.client.tasks import Cancel, Edit, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.store.file.bounds import check_numbers
from pilotmtc.store.file.ids import id_list
from pilotmtc.store.file.pilot_status import give_order
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.dependents import resolve
from pilotmtc.store.requests.filter_sql import Where
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.slices import Progress, Slice, wished

SLICE = 2_000  # tasks: some 30 ms
_LOOK_S = 0.02  # a slice looks no longer for tasks
_WINDOW = 2_048  # ids
_WINDOW_MAX = 65_536
_W, _R, _F, _C, _S = 0, 1, 5, 6, 7  # states as they are in the file
_RETRIABLE = (_F, _C, _S)
_DEAD = frozenset(_RETRIABLE)
_REVIVE = """UPDATE task SET state = ?, unmet = ?, failures = 0, crashes = 0, not_before = NULL, pilot_id = NULL,
    started_at = NULL, cancel = 0 WHERE id = ?"""

Row = tuple[Any, ...]


def _next(tx: Transaction, wish: Filter, progress: Progress) -> tuple[list[Row], int]:
    """Return the next tasks that are asked for, ``(id, state, attempt, campaign, pilot)`` in order of id, and up to
    which id there are no others."""
    where = Where(tx, wish)
    until = tx.clock.monotonic() + _LOOK_S
    rows: list[Row] = []
    low = progress.last
    size = progress.bound if where.few else _WINDOW
    while low < progress.bound:
        high = min(low + size, progress.bound)
        rows += tx.execute(
            f"SELECT t.id, t.state, t.attempt, t.campaign_id, t.pilot_id FROM {where.source} "
            f"WHERE {where.condition} AND t.id > ? AND t.id <= ? ORDER BY t.id LIMIT ?",
            (*where.values, low, high, SLICE - len(rows)),
        )
        if len(rows) >= SLICE:
            return rows, rows[-1][0]
        low = high
        if tx.clock.monotonic() >= until:
            break
        size = min(2 * size, max(_WINDOW_MAX, size))
    return rows, low


def cancel(tx: Transaction, request: Cancel, progress: Progress) -> Slice:
    """End what has not started; flag what is held and tell its agent."""
    rows, last = _next(tx, request.filter, progress)
    unfit = 0
    now: list[tuple[int]] = []
    held: list[tuple[int]] = []
    pilots: set[PilotId] = set()
    for id_, state, attempt, campaign, pilot in rows:
        if state in (_W, _R, _S):
            now.append((id_,))
            tx.move_task(id_, attempt, campaign, state, _C)
        elif state in (2, 3):
            held.append((id_,))
            pilots.add(pilot)
        else:
            unfit += 1
    tx.executemany("UPDATE task SET state = 6, unmet = 0, not_before = NULL, cancel = 0 WHERE id = ?", now)
    tx.executemany("UPDATE task SET cancel = 1 WHERE id = ?", held)
    if tx.caches.has_dependencies:
        # A SKIPPED one was over before, and is not counted twice. After all of the slice: a dependent that was to be
        # canceled too is not SKIPPED; one of a later slice is, and canceled then.
        resolve(tx, [(row[0], _C) for row in rows if row[1] in (_W, _R)])
    give_order(tx, pilots)
    return Slice(last, len(now) + len(held), unfit, last >= progress.bound)


def retry(tx: Transaction, request: Retry, progress: Progress) -> Slice:
    """Give tasks that ended badly a new life, and those that were skipped because of them."""
    rows, last = _next(tx, request.filter, progress)
    if tx.caches.has_dependencies:
        return _retry_with_dependents(tx, {row[0] for row in rows}, last, progress)
    fit = [row for row in rows if row[1] in _DEAD]
    for id_, state, attempt, campaign, _ in fit:
        tx.move_task(id_, attempt, campaign, state, _R)
    tx.executemany(_REVIVE, [(_R, 0, row[0]) for row in fit])
    return Slice(last, len(fit), len(rows) - len(fit), last >= progress.bound)


def _retry_with_dependents(tx: Transaction, asked: set[int], last: int, progress: Progress) -> Slice:
    """Go through the tasks `asked` for and the skipped dependents of the revived in order of id, which is topological.

    Dependents beyond `last` are left to later slices, in the table ``revival``; what asks for tasks ends at the bound,
    what follows from that may go on.
    """
    end = last if last < progress.bound else 1 << 62
    left = [id_ for (id_,) in tx.execute("SELECT task_id FROM revival WHERE task_id <= ? ORDER BY 1 LIMIT ?",
                                             (end, SLICE))]  # fmt: skip
    if len(left) == SLICE:
        last = end = left[-1]
        asked = {task for task in asked if task <= end}
    elif end > last:
        last = max(last, *left) if left else last
    tx.execute("DELETE FROM revival WHERE task_id <= ?", (end,))
    changed = unfit = 0
    queue = list(asked.union(left))
    heapify(queue)
    seen = set(queue)
    while queue:
        task = heappop(queue)
        state, attempt, campaign = tx.execute(
            "SELECT state, attempt, campaign_id FROM task WHERE id = ?", (task,)
        ).fetchone()
        unmet, bad = _needs(tx, task)
        if not (state in _DEAD and (task in asked or state == _S)) or bad:  # what it needs must be retried first
            unfit += task in asked
            continue
        new = _W if unmet else _R
        tx.execute(_REVIVE, (new, unmet, task))
        tx.move_task(task, attempt, campaign, state, new)
        changed += 1
        for dependent in _revived_need(tx, task):
            if dependent > last:
                tx.execute("INSERT OR IGNORE INTO revival VALUES (?)", (dependent,))
            elif dependent not in seen:
                seen.add(dependent)
                heappush(queue, dependent)
    over = last >= progress.bound and not tx.execute("SELECT 1 FROM revival LIMIT 1").fetchone()
    return Slice(last, changed, unfit, over)


def _revived_need(tx: Transaction, task: int) -> list[int]:
    """Make tasks wait again that need this one, which is to run again; return those that were skipped."""
    skipped = []
    for dependent, state, attempt, campaign in tx.execute(
        "SELECT t.id, t.state, t.attempt, t.campaign_id FROM dependency AS d JOIN task AS t ON t.id = d.task_id "
        "WHERE d.needs_id = ? AND t.state IN (0, 1, 7)",
        (task,),
    ).fetchall():
        if state == _S:
            skipped.append(dependent)
            continue
        unmet, _ = _needs(tx, dependent)
        tx.execute(
            "UPDATE task SET state = 0, unmet = ?, not_before = NULL, pilot_id = NULL WHERE id = ?", (unmet, dependent)
        )
        if state != _W:
            tx.move_task(dependent, attempt, campaign, state, _W)
    return skipped


def _needs(tx: Transaction, task: int) -> tuple[int, bool]:
    """Return how many of a task's needs are not over, and whether one has ended too badly for it."""
    left, bad = tx.execute(
        "SELECT coalesce(sum(n.state < 4), 0), coalesce(max(d.well AND n.state IN (5, 6, 7)), 0) "
        "FROM dependency AS d JOIN task AS n ON n.id = d.needs_id WHERE d.task_id = ?",
        (task,),
    ).fetchone()
    return left, bool(bad)


def edit(tx: Transaction, request: Edit, progress: Progress) -> Slice:
    """Change what has not started, and what a retry may start again."""
    changes = {
        field: value
        for field in ("cores", "gpus", "memory_bytes", "named", "time_limit_s", "expected_s", "ranks", "ranks_per_node")
        if (value := getattr(request, field)) is not None
    }
    _changed(Resources(), changes)  # what makes no sense is refused before anything is changed
    rows, last = _next(tx, request.filter, progress)
    fit = id_list(row[0] for row in rows if row[1] in (_W, _R, *_RETRIABLE))
    kinds = tx.execute(
        "SELECT t.resources_id, count(*) FROM json_each(?) AS j CROSS JOIN task AS t ON t.id = j.value GROUP BY 1",
        (fit,),
    ).fetchall()
    changed = sum(n for _, n in kinds)
    for kind, _ in kinds:
        new = tx.caches.resources.intern(_changed(tx.caches.resources.get(kind), changes)) if changes else kind
        tx.execute(
            "UPDATE task SET resources_id = ?, priority = coalesce(?, priority) "
            "WHERE id IN (SELECT value FROM json_each(?)) AND resources_id = ?",
            (new, request.priority, fit, kind),
        )
    if changed:
        tx.wakeups.tasks_ready()
    return Slice(last, changed, len(rows) - changed, last >= progress.bound)


def _changed(need: Resources, changes: dict[str, Any]) -> Resources:
    new = msgspec.structs.replace(need, **changes)
    check_numbers(new, "a task")
    if new.ranks < 1 or new.ranks_per_node < 0:
        raise UsageError(f"a task has 1 rank or more: {new}")
    return new


handles(Cancel)(wished(cancel))
handles(Retry)(wished(retry))
handles(Edit)(wished(edit))
