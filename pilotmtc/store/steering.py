"""Cancel, Retry, Edit: what users want changed, done once a key."""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, TypeVar

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc.model import Resources
from pilotmtc.store.bounds import check_numbers
from pilotmtc.store.dependents import resolve
from pilotmtc.store.filters import Where
from pilotmtc.store.ledger import Ledger, id_list
from pilotmtc.wire.messages import Cancel, Changed, Edit, Filter, Retry

_PAGE = 5_000
_W, _R, _F, _C, _S = 0, 1, 5, 6, 7  # states as they are in the file
_RETRIABLE = (_F, _C, _S)
_DEAD = frozenset(_RETRIABLE)
_REVIVE = """UPDATE task SET state = ?, unmet = ?, failures = 0, crashes = 0, not_before = NULL, pilot_id = NULL,
    started_at = NULL, cancel = 0 WHERE id = ?"""

Wish = TypeVar("Wish", Cancel, Retry, Edit)
Row = tuple[Any, ...]


def once(act: Callable[[Ledger, Wish], Changed]) -> Callable[[Ledger, Wish], Changed]:
    """Make a handler answer a repeated key with its first reply."""

    def handler(ledger: Ledger, request: Wish) -> Changed:
        if not request.key:
            raise UsageError("the request needs a key: make one with uuid4")
        row = ledger.execute("SELECT reply FROM control WHERE key = ?", (request.key,)).fetchone()
        if row is not None:
            return msgspec.msgpack.decode(row[0], type=Changed)
        reply = act(ledger, request)
        ledger.execute(
            "INSERT INTO control VALUES (?, ?, ?)", (request.key, msgspec.msgpack.encode(reply), ledger.clock.now())
        )
        return reply

    return handler


def _pages(ledger: Ledger, wish: Filter) -> Iterator[list[Row]]:
    """Yield pages of ``(id, state, attempt, campaign, pilot, cancel)`` in order of id."""
    where = Where(ledger, wish)
    last = 0
    while True:
        rows = ledger.execute(
            f"SELECT t.id, t.state, t.attempt, t.campaign_id, t.pilot_id FROM {where.source} "
            f"WHERE {where.condition} AND t.id > ? ORDER BY t.id LIMIT ?",
            (*where.values, last, _PAGE),
        ).fetchall()
        if rows:
            yield rows
            last = rows[-1][0]
        if len(rows) < _PAGE:
            return


def cancel(ledger: Ledger, request: Cancel) -> Changed:
    """End what has not started; flag what is held and tell its agent."""
    changed = unfit = 0
    pilots: set[int] = set()
    ended: list[tuple[int, int]] = []
    for rows in _pages(ledger, request.filter):
        now, held = [], []
        for id_, state, attempt, campaign, pilot in rows:
            if state in (_W, _R, _S):
                now.append((id_,))
                ledger.moved(id_, attempt, campaign, state, _C)
            elif state in (2, 3):
                held.append((id_,))
                pilots.add(pilot)
            else:
                unfit += 1
        ledger.executemany("UPDATE task SET state = 6, unmet = 0, not_before = NULL, cancel = 0 WHERE id = ?", now)
        ledger.executemany("UPDATE task SET cancel = 1 WHERE id = ?", held)
        changed += len(now) + len(held)
        if ledger.has_dependencies:  # a SKIPPED one was over before, and is not counted twice
            ended.extend((row[0], _C) for row in rows if row[1] in (_W, _R))
        ledger.trim()
    resolve(ledger, ended)  # after all: a dependent that was to be canceled too is not SKIPPED
    ledger.order(pilots)
    return Changed(changed, unfit)


def retry(ledger: Ledger, request: Retry) -> Changed:
    """Give tasks that ended badly a new life, and those that were skipped because of them."""
    if ledger.has_dependencies:
        return _retry_with_dependents(ledger, request.filter)
    changed = unfit = 0
    for rows in _pages(ledger, request.filter):
        fit = [row for row in rows if row[1] in _DEAD]
        for id_, state, attempt, campaign, _ in fit:
            ledger.moved(id_, attempt, campaign, state, _R)
        ledger.executemany(_REVIVE, [(_R, 0, row[0]) for row in fit])
        changed += len(fit)
        unfit += len(rows) - len(fit)
        ledger.trim()
    return Changed(changed, unfit)


def _retry_with_dependents(ledger: Ledger, wish: Filter) -> Changed:
    """Go through the tasks asked for and the dependents of the revived in order of id, which is topological."""
    changed = unfit = 0
    asked: set[int] = set()
    for rows in _pages(ledger, wish):
        asked.update(row[0] for row in rows)
    queue = sorted(asked)  # which is a heap
    touched: set[int] = set()  # what needs one of the revived
    while queue:
        task = heappop(queue)
        state, attempt, campaign = ledger.execute(
            "SELECT state, attempt, campaign_id FROM task WHERE id = ?", (task,)
        ).fetchone()
        revives = state in _DEAD and (task in asked or state == _S)
        if not revives and not (task in touched and state in (_W, _R)):
            unfit += task in asked
            continue
        left, bad = _needs(ledger, task)
        if bad:  # what it needs must be retried first
            unfit += task in asked
            continue
        new = _W if left else _R
        if revives:
            ledger.execute(_REVIVE, (new, left, task))
            changed += 1
            for (dependent,) in ledger.execute("SELECT task_id FROM dependency WHERE needs_id = ?", (task,)):
                if dependent not in touched:
                    touched.add(dependent)
                    if dependent not in asked:
                        heappush(queue, dependent)
        else:  # it waits again for the one that is to run again
            unfit += task in asked
            ledger.execute(
                "UPDATE task SET state = ?, unmet = ?, not_before = NULL, pilot_id = NULL WHERE id = ?",
                (new, left, task),
            )
        if new != state:
            ledger.moved(task, attempt, campaign, state, new)
    return Changed(changed, unfit)


def _needs(ledger: Ledger, task: int) -> tuple[int, bool]:
    """Return how many of a task's needs are not over, and whether one has ended too badly for it."""
    left, bad = ledger.execute(
        "SELECT coalesce(sum(n.state < 4), 0), coalesce(max(d.well AND n.state IN (5, 6, 7)), 0) "
        "FROM dependency AS d JOIN task AS n ON n.id = d.needs_id WHERE d.task_id = ?",
        (task,),
    ).fetchone()
    return left, bool(bad)


def edit(ledger: Ledger, request: Edit) -> Changed:
    """Change what has not started, and what a retry may start again."""
    changes = {
        field: value
        for field in ("cores", "gpus", "memory_bytes", "named", "time_limit_s", "expected_s", "ranks", "ranks_per_node")
        if (value := getattr(request, field)) is not None
    }
    changed = unfit = 0
    for rows in _pages(ledger, request.filter):
        fit = id_list(row[0] for row in rows if row[1] in (_W, _R, *_RETRIABLE))
        kinds = ledger.execute(
            "SELECT t.resources_id, count(*) FROM json_each(?) AS j CROSS JOIN task AS t ON t.id = j.value GROUP BY 1",
            (fit,),
        ).fetchall()
        here = sum(n for _, n in kinds)
        for kind, _ in kinds:
            new = ledger.intern(_changed(ledger.resources(kind), changes)) if changes else kind
            ledger.execute(
                "UPDATE task SET resources_id = ?, priority = coalesce(?, priority) "
                "WHERE id IN (SELECT value FROM json_each(?)) AND resources_id = ?",
                (new, request.priority, fit, kind),
            )
        changed += here
        unfit += len(rows) - here
    if changed:
        ledger.claimable()
    return Changed(changed, unfit)


def _changed(need: Resources, changes: dict[str, Any]) -> Resources:
    new = msgspec.structs.replace(need, **changes)
    check_numbers(new, "a task")
    if new.ranks < 1 or new.ranks_per_node < 0:
        raise UsageError(f"a task has 1 rank or more: {new}")
    return new
