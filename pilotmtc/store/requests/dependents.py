"""What the end of a task means for those that depend on it."""

from collections.abc import Iterable
from itertools import islice

from pilotmtc.states import TaskState
from pilotmtc.store.file.transaction import Ledger, id_list

_WAITING, _READY, _DONE, _SKIPPED = map(int, (TaskState.WAITING, TaskState.READY, TaskState.DONE, TaskState.SKIPPED))
_PAGE = 1000
# CROSS JOIN keeps the order: the list, then the dependencies of each, then the tasks.
_DEPENDENTS = """SELECT d.needs_id, d.task_id, d.well, t.unmet, t.campaign_id, t.attempt
    FROM json_each(?) AS ended CROSS JOIN dependency AS d ON d.needs_id = ended.value
    CROSS JOIN task AS t ON t.id = d.task_id WHERE t.state = 0"""


def resolve(ledger: Ledger, ended: Iterable[tuple[int, int]]) -> None:
    """Make waiting dependents of ``(task, final state)`` READY or SKIPPED, and so on down the line."""
    if not ledger.has_dependencies:
        return
    queue = dict(ended)
    while queue:
        page = {task: queue.pop(task) for task in list(islice(queue, _PAGE))}
        met: dict[int, int] = {}
        skipped: set[int] = set()
        rows = {}
        for need, task, well, unmet, campaign, attempt in ledger.execute(_DEPENDENTS, (id_list(page),)).fetchall():
            rows[task] = (unmet, campaign, attempt)
            if well and page[need] != _DONE:
                skipped.add(task)
            else:
                met[task] = met.get(task, 0) + 1
        changes = []
        for task, (unmet, campaign, attempt) in rows.items():
            left = 0 if task in skipped else unmet - met[task]
            state = _SKIPPED if task in skipped else _WAITING if left else _READY
            changes.append((state, left, task))
            if state != _WAITING:
                ledger.moved(task, attempt, campaign, _WAITING, state)
        ledger.executemany("UPDATE task SET state = ?, unmet = ? WHERE id = ?", changes)
        queue.update(dict.fromkeys(skipped, _SKIPPED))
