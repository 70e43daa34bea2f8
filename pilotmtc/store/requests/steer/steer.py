"""Cancel, Retry, Edit, HoldTasks: what one slice of each does; `slices` calls them."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, Self

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId, Resources, TaskId, Template
from pilotmtc.protocol.client.tasks import Cancel, Edit, HoldTasks, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.resources.retry import check_growth
from pilotmtc.states import TASK_FINAL, TASK_HELD, TaskState
from pilotmtc.store.attempt_id import attempt_id
from pilotmtc.store.file.bounds import check_numbers
from pilotmtc.store.file.pilot_status import give_order
from pilotmtc.store.file.sql import IN_LIST, id_list, in_states
from pilotmtc.store.file.task_status import ON_HOLD
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.look.filter_sql import Where
from pilotmtc.store.requests.programs import is_changed
from pilotmtc.store.requests.steer.slices import Slice, SliceProgress, in_slices
from pilotmtc.store.requests.tasks.dependents import resolve
from pilotmtc.template.edited import edited

SLICE = 2_000  # tasks: some 30 ms
_LOOK_S = 0.02  # the longest time that a slice searches for tasks
_WINDOW = 2_048  # ids
_WINDOW_MAX = 65_536
_WAITING, _READY, _CANCELED, _SKIPPED = (
    TaskState.WAITING, TaskState.READY, TaskState.CANCELED, TaskState.SKIPPED,
)  # fmt: skip
_DEAD = frozenset({TaskState.FAILED, _CANCELED, _SKIPPED})  # states that can be retried
# Cancel a task that no pilot holds.
_CANCEL = f"UPDATE task SET state = {_CANCELED:d}, unmet = 0, not_before = NULL, cancel = 0 WHERE id = ?"
# Let the agent cancel a task that it holds.
_ASK_TO_CANCEL = "UPDATE task SET cancel = 1 WHERE id = ?"
_REVIVE = """UPDATE task SET state = ?, unmet = ?, failures = 0, crashes = 0, not_before = NULL, pilot_id = NULL,
    started_at = NULL, cancel = 0 WHERE id = ?"""
_SUPERSEDE = "INSERT OR IGNORE INTO superseded VALUES (?)"
_LESS_KNOWN = "UPDATE campaign SET known = known - 1 WHERE id = ? AND EXISTS (SELECT 1 FROM memo WHERE id = ?)"
_WAIT = f"""UPDATE task SET state = {_WAITING:d}, unmet = ?, pilot_id = NULL,
    not_before = iif(not_before = {ON_HOLD}, not_before, NULL) WHERE id = ?"""
_HOLD = f"UPDATE task SET not_before = {ON_HOLD} WHERE id {IN_LIST} AND not_before IS NOT {ON_HOLD}"
_RELEASE = f"UPDATE task SET not_before = NULL WHERE id {IN_LIST} AND not_before = {ON_HOLD}"
_COLUMNS = "t.id, t.state, t.attempt, t.campaign_id, t.pilot_id, t.template_id, t.version_id"
_TASK = f"SELECT {_COLUMNS} FROM task AS t WHERE t.id = ?"
# Tasks that depend on a given one, and that no pilot has.
_DEPENDENTS = f"""SELECT {_COLUMNS}
    FROM dependency AS d JOIN task AS t ON t.id = d.task_id
    WHERE d.needs_id = ? AND NOT t.state {in_states(TASK_HELD)}"""
# How many of a task's dependencies have not ended, and whether one of them makes it impossible to run.
_NEEDS = f"""SELECT coalesce(sum(n.state < {TaskState.DONE:d}), 0),
    coalesce(max(d.well AND n.state {in_states(_DEAD)}), 0)
    FROM dependency AS d JOIN task AS n ON n.id = d.needs_id WHERE d.task_id = ?"""
# Tasks that a retry must still look at.
_REVIVALS = "SELECT task_id FROM revival WHERE task_id <= ? ORDER BY 1 LIMIT ?"
_ANY_REVIVAL = "SELECT 1 FROM revival LIMIT 1"
_ADD_REVIVAL = "INSERT OR IGNORE INTO revival VALUES (?)"
_FORGET_REVIVALS = "DELETE FROM revival WHERE task_id <= ?"
_EDITABLE = (_WAITING, _READY, *_DEAD)
# Templates and resources of tasks, with the number of tasks for each pair.
_KINDS = """SELECT t.template_id, t.resources_id, count(*) FROM json_each(?) AS wanted
    CROSS JOIN task AS t ON t.id = wanted.value GROUP BY 1, 2"""
# An attempt that was lost with its pilot does not count any more when it turns up: it runs what was before.
_SET = f"""UPDATE task SET template_id = ?1, resources_id = ?2, priority = coalesce(?3, priority),
    pilot_id = iif(?1 != template_id AND state = {_READY:d}, NULL, pilot_id)
    WHERE id {IN_LIST.replace("?", "?4")} AND template_id = ?5 AND resources_id = ?6"""
_FORGET_GROWTH = f"DELETE FROM grown WHERE task_id {IN_LIST}"
_NEEDS_FIELDS = (
    "cores", "gpus", "memory_bytes", "named", "time_limit_s", "expected_s", "ranks", "ranks_per_node", "grace_s",
    "signal_first",
)  # fmt: skip
_TEMPLATE_FIELDS = (
    "command", "env", "max_retries", "backoff_s", "retry_on", "no_retry_on", "retry_memory", "max_memory_bytes",
    "retry_time", "max_output_bytes", "watch",
)  # fmt: skip


class _Task(NamedTuple):
    """A task: the columns that all queries for tasks here return."""

    id: TaskId
    state: TaskState
    attempt: int
    campaign: CampaignId
    pilot: PilotId | None
    template: int
    version: int | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Return the record of a row."""
        id_, state, *others = row
        return cls(id_, TASK_STATES[state], *others)


def _next(tx: Transaction, filter_: Filter, progress: SliceProgress) -> tuple[list[_Task], int]:
    """Return the next selected tasks in order of id, and the id up to which there are no others."""
    where = Where(tx, filter_)
    until = tx.clock.monotonic() + _LOOK_S
    tasks: list[_Task] = []
    low = max(progress.last, where.first - 1)
    bound = min(progress.bound, where.last)
    size = bound if where.few else _WINDOW
    while low < bound:
        high = min(low + size, bound)
        rows = tx.execute(
            f"SELECT {_COLUMNS} FROM {where.source} "
            f"WHERE {where.condition} AND t.id > ? AND t.id <= ? ORDER BY t.id LIMIT ?",
            (*where.values, low, high, SLICE - len(tasks)),
        )
        tasks += map(_Task.from_row, rows)
        if len(tasks) >= SLICE:
            return tasks, tasks[-1].id
        low = high
        if tx.clock.monotonic() >= until:
            break
        size = min(2 * size, max(_WINDOW_MAX, size))
    return tasks, low if low < bound else progress.bound


def cancel(tx: Transaction, request: Cancel, progress: SliceProgress) -> Slice:
    """Cancel tasks that have not started; flag tasks that pilots hold, and tell the agents."""
    tasks, last = _next(tx, request.filter, progress)
    unfit = 0
    now: list[_Task] = []
    held: list[_Task] = []
    for task in tasks:
        if task.state in (_WAITING, _READY, _SKIPPED):
            now.append(task)
            tx.move_task(task.id, task.attempt, task.campaign, task.state, _CANCELED)
        elif task.state in TASK_HELD:
            held.append(task)
        else:
            unfit += 1
    tx.executemany(_CANCEL, [(task.id,) for task in now])
    tx.executemany(_ASK_TO_CANCEL, [(task.id,) for task in held])
    if tx.caches.has_dependencies:
        # SKIPPED tasks are not counted twice. Only after the whole slice, so that dependents which are canceled in the
        # same slice do not become SKIPPED first; those of a later slice do, and are canceled then.
        resolve(tx, [(task.id, _CANCELED) for task in now if task.state is not _SKIPPED])
    give_order(tx, {task.pilot for task in held if task.pilot is not None})
    return Slice(last, len(now) + len(held), unfit, last >= progress.bound)


def retry(tx: Transaction, request: Retry, progress: SliceProgress) -> Slice:
    """Make tasks READY again that did not succeed, and tasks that were skipped because of them; DONE ones, if asked."""
    tasks, last = _next(tx, request.filter, progress)
    if request.changed:
        tasks = _changed_ones(tx, tasks)
    if tx.caches.has_dependencies:
        return _retry_with_dependents(tx, request, {task.id for task in tasks}, last, progress)
    fit = [task for task in tasks if task.state in _retried(request)]
    for task in fit:
        _supersede(tx, task)
        tx.move_task(task.id, task.attempt, task.campaign, task.state, _READY)
    tx.executemany(_REVIVE, [(_READY, 0, task.id) for task in fit])
    return Slice(last, len(fit), len(tasks) - len(fit), last >= progress.bound)


def _changed_ones(tx: Transaction, tasks: list[_Task]) -> list[_Task]:
    """Return the tasks that would run something else now than they did."""
    known: dict[tuple[int, int, int | None], bool] = {}
    found = []
    for task in tasks:
        kind = task.campaign, task.template, task.version
        if kind not in known:
            known[kind] = is_changed(tx, *kind)
        if known[kind]:
            found.append(task)
    return found


def _retried(request: Retry) -> frozenset[TaskState]:
    """Return the states of the tasks that run again."""
    return TASK_FINAL if request.done else _DEAD


def _supersede(tx: Transaction, task: _Task) -> None:
    """Note that the attempt which made a task DONE is not its last one, because the user wants it to run again."""
    if task.state is TaskState.DONE:
        attempt = attempt_id(task.id, task.attempt)
        tx.execute(_SUPERSEDE, (attempt,))
        tx.execute(_LESS_KNOWN, (task.campaign, attempt))


def _retry_with_dependents(
    tx: Transaction, request: Retry, asked: set[int], last: int, progress: SliceProgress
) -> Slice:
    """Retry `asked` tasks and the skipped dependents of retried ones, in order of id, which is topological.

    With ``request.dependents``, all dependents that are over.

    Dependents after `last` are left to later slices, in the table ``revival``; their ids may be beyond the bound.
    """
    end = last if last < progress.bound else 1 << 62
    left = [id_ for (id_,) in tx.execute(_REVIVALS, (end, SLICE))]
    if len(left) == SLICE:
        last = end = left[-1]
        asked = {task for task in asked if task <= end}
    elif end > last:
        last = max(last, *left) if left else last
    tx.execute(_FORGET_REVIVALS, (end,))
    changed = unfit = 0
    queue = list(asked.union(left))
    heapify(queue)
    seen = set(queue)
    while queue:
        task = _Task.from_row(tx.execute(_TASK, (heappop(queue),)).fetchone())
        unmet, bad = _needs(tx, task.id)
        wanted = task.id in asked or task.state is _SKIPPED or request.dependents
        if not (wanted and task.state in _retried(request)) or bad:  # a dependency is first
            unfit += task.id in asked
            continue
        new = _WAITING if unmet else _READY
        _supersede(tx, task)
        tx.execute(_REVIVE, (new, unmet, task.id))
        tx.move_task(task.id, task.attempt, task.campaign, task.state, new)
        changed += 1
        for dependent in _revived_need(tx, task.id, over=request.dependents):
            if dependent > last:
                tx.execute(_ADD_REVIVAL, (dependent,))
            elif dependent not in seen:
                seen.add(dependent)
                heappush(queue, dependent)
    over = last >= progress.bound and not tx.execute(_ANY_REVIVAL).fetchone()
    return Slice(last, changed, unfit, over)


def _revived_need(tx: Transaction, task: TaskId, *, over: bool) -> list[TaskId]:
    """Let dependents of this task, which will run again, wait again; return those that were skipped, or are `over`."""
    skipped = []
    for dependent in map(_Task.from_row, tx.execute(_DEPENDENTS, (task,)).fetchall()):
        if dependent.state in TASK_FINAL:
            if over or dependent.state is _SKIPPED:
                skipped.append(dependent.id)
            continue
        unmet, _ = _needs(tx, dependent.id)
        tx.execute(_WAIT, (unmet, dependent.id))
        if dependent.state is not _WAITING:
            tx.move_task(dependent.id, dependent.attempt, dependent.campaign, dependent.state, _WAITING)
    return skipped


def _needs(tx: Transaction, task: int) -> tuple[int, bool]:
    """Return how many dependencies of a task have not ended, and whether one of them makes it impossible to run."""
    left, bad = tx.execute(_NEEDS, (task,)).fetchone()
    return left, bool(bad)


def edit(tx: Transaction, request: Edit, progress: SliceProgress) -> Slice:
    """Change tasks that have not started, and tasks that may be retried."""
    needs, new = _given(request, _NEEDS_FIELDS), _given(request, _TEMPLATE_FIELDS)
    if "command" in new:
        new["shell"] = request.shell
    _changed(Resources(), needs)  # raises for wrong values before anything is changed
    if progress.last == 0 and new:
        _check_all(tx, request, new)
    tasks, last = _next(tx, request.filter, progress)
    fit = id_list(task.id for task in tasks if task.state in _EDITABLE)
    kinds = tx.execute(_KINDS, (fit,)).fetchall()
    changed = sum(n for *_, n in kinds)
    for template, resources, _ in kinds:
        shared, asked = tx.caches.templates.get(template), tx.caches.resources.get(resources)
        if new:
            shared = _edited(shared, new)
        if needs:
            asked = _changed(asked, needs)
        if new or needs:
            check_growth(shared, asked)
        ids = tx.caches.templates.intern(shared) if new else template, tx.caches.resources.intern(asked)
        tx.execute(_SET, (*ids, request.priority, fit, template, resources))
    if needs:
        tx.execute(_FORGET_GROWTH, (fit,))
    if changed:
        tx.wakeups.tasks_ready()
    return Slice(last, changed, len(tasks) - changed, last >= progress.bound)


def _given(request: Edit, fields: Iterable[str]) -> dict[str, Any]:
    return {field: value for field in fields if (value := getattr(request, field)) is not None}


def _check_all(tx: Transaction, request: Edit, new: dict[str, Any]) -> None:
    """Raise `UsageError` if one of the tasks cannot be changed so, before the first slice of them is."""
    where = Where(tx, request.filter)
    chosen = f"SELECT DISTINCT t.template_id FROM {where.source} WHERE {where.condition} AND t.id BETWEEN ? AND ?"
    values = (*where.values, where.first, where.last)
    kinds = tx.execute(f"{chosen} AND t.state {in_states(_EDITABLE)}", values).fetchall()
    for (template,) in kinds or tx.execute(chosen, values).fetchall():  # a mistake is one, also if nothing is left
        _edited(tx.caches.templates.get(template), new)


def _edited(template: Template, new: dict[str, Any]) -> Template:
    made = edited(template, **new)
    check_numbers(made, "a task")
    return made


def _changed(need: Resources, changes: dict[str, Any]) -> Resources:
    new = msgspec.structs.replace(need, **changes)
    check_numbers(new, "a task")
    if new.ranks < 1 or new.ranks_per_node < 0:
        raise UsageError(f"a task has 1 rank or more: {new}")
    return new


def hold(tx: Transaction, request: HoldTasks, progress: SliceProgress) -> Slice:
    """Put tasks on hold that no pilot has and that have not ended, or release them."""
    tasks, last = _next(tx, request.filter, progress)
    fit = [task.id for task in tasks if task.state in (_WAITING, _READY)]
    changed = tx.execute(_HOLD if request.hold else _RELEASE, (id_list(fit),)).rowcount
    if changed:
        tx.wakeups.changed()
        if not request.hold:
            tx.wakeups.tasks_ready()
    return Slice(last, changed, len(tasks) - len(fit), last >= progress.bound)


handles(Cancel)(in_slices(cancel))
handles(Retry)(in_slices(retry))
handles(Edit)(in_slices(edit))
handles(HoldTasks)(in_slices(hold))
