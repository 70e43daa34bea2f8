"""Tasks become READY or SKIPPED when the tasks that they depend on end."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

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
_CHANGE = f"""UPDATE task SET state = ?1, unmet = ?2, not_before = iif(?1 = {_SKIPPED:d}, NULL, not_before)
    WHERE id = ?3"""


class _Dependent(NamedTuple):
    """A waiting task and one of the tasks that it depends on; a row of `_DEPENDENTS`."""

    need: int
    task: int
    well: int
    unmet: int
    campaign: int
    attempt: int


def resolve(tx: Transaction, ended: Iterable[tuple[int, int]]) -> None:
    """Make waiting dependents of ``(task, final state)`` READY or SKIPPED, and so on for their dependents."""
    if not tx.caches.has_dependencies:
        return
    queue = dict(ended)
    while queue:
        page = {task: queue.pop(task) for task in list(islice(queue, _PAGE))}
        met: dict[int, int] = {}
        skipped: set[int] = set()
        dependents: dict[int, _Dependent] = {}
        for found in map(_Dependent._make, tx.execute(_DEPENDENTS, (id_list(page),)).fetchall()):
            dependents[found.task] = found
            if found.well and page[found.need] != _DONE:
                skipped.add(found.task)
            else:
                met[found.task] = met.get(found.task, 0) + 1
        changes = []
        moves: dict[tuple[int, TaskState], list[int]] = {}
        for task, found in dependents.items():
            left = 0 if task in skipped else found.unmet - met[task]
            state = _SKIPPED if task in skipped else _WAITING if left else _READY
            changes.append((state, left, task))
            if state != _WAITING:
                moves.setdefault((found.campaign, state), []).append(attempt_id(task, found.attempt))
        for (campaign, state), attempts in moves.items():
            tx.move_tasks(campaign, _WAITING, state, attempts)
        tx.executemany(_CHANGE, changes)
        queue.update(dict.fromkeys(skipped, _SKIPPED))
