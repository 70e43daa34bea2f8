"""Tasks become READY or SKIPPED when the tasks that they depend on end."""

from collections.abc import Iterable
from itertools import islice

from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import attempt_id
from pilotmtc.store.file.sql import id_list
from pilotmtc.store.file.transaction import Transaction

_WAITING, _READY, _DONE, _SKIPPED = TaskState.WAITING, TaskState.READY, TaskState.DONE, TaskState.SKIPPED
_PAGE = 1000
# Waiting tasks that depend on tasks in a list.
# CROSS JOIN fixes the order: the list, then the dependencies of each task, then the tasks.
_DEPENDENTS = f"""SELECT d.needs_id, d.task_id, d.well, t.unmet, t.campaign_id, t.attempt
    FROM json_each(?) AS ended CROSS JOIN dependency AS d ON d.needs_id = ended.value
    CROSS JOIN task AS t ON t.id = d.task_id WHERE t.state = {_WAITING:d}"""
_CHANGE = "UPDATE task SET state = ?, unmet = ? WHERE id = ?"


def resolve(tx: Transaction, ended: Iterable[tuple[int, int]]) -> None:
    """Make waiting dependents of ``(task, final state)`` READY or SKIPPED, and so on for their dependents."""
    if not tx.caches.has_dependencies:
        return
    queue = dict(ended)
    while queue:
        page = {task: queue.pop(task) for task in list(islice(queue, _PAGE))}
        met: dict[int, int] = {}
        skipped: set[int] = set()
        rows = {}
        for need, task, well, unmet, campaign, attempt in tx.execute(_DEPENDENTS, (id_list(page),)).fetchall():
            rows[task] = (unmet, campaign, attempt)
            if well and page[need] != _DONE:
                skipped.add(task)
            else:
                met[task] = met.get(task, 0) + 1
        changes = []
        moves: dict[tuple[int, TaskState], list[int]] = {}
        for task, (unmet, campaign, attempt) in rows.items():
            left = 0 if task in skipped else unmet - met[task]
            state = _SKIPPED if task in skipped else _WAITING if left else _READY
            changes.append((state, left, task))
            if state != _WAITING:
                moves.setdefault((campaign, state), []).append(attempt_id(task, attempt))
        for (campaign, state), attempts in moves.items():
            tx.move_tasks(campaign, _WAITING, state, attempts)
        tx.executemany(_CHANGE, changes)
        queue.update(dict.fromkeys(skipped, _SKIPPED))
