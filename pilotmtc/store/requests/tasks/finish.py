"""Finish: records how each attempt ended, once, and moves its task on.

An attempt whose pilot was given up is *lost*: recorded as such if it ran, and its task READY for the next. The task's
row still names the pilot. As long as nobody has claimed the task again, what that pilot says of the attempt counts
after all (`find_again`): the record of the loss gives way to the truth.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from pilotmtc.model import CampaignId, PilotId, Result, TaskId
from pilotmtc.protocol.agent import Finish, Finished
from pilotmtc.resources.retry import GROWS, grown, is_retried, retry_pause_s
from pilotmtc.states import CRASHES, NOT_CHARGED, Cause, TaskState, after_attempt
from pilotmtc.store.attempt_id import LAST_ATTEMPT, attempt_id
from pilotmtc.store.file.large_outputs import kept
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.task_status import RUNNING, TaskStatus, tasks_by_id
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.calls import returned
from pilotmtc.store.requests.gates import halt_if_due, meet_if_done
from pilotmtc.store.requests.growth import note_done, note_growth
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.limits import affordable
from pilotmtc.store.requests.tasks.dependents import resolve

# Causes that say nothing of the task itself: a lost attempt may as well stay lost.
_NOT_ORDERED = "the store had forgotten that its pilot ran it, and had it stopped"
_NO_RESULT = NOT_CHARGED | {Cause.CANCELED}
_DONE, _READY = TaskState.DONE, TaskState.READY
_EXIT, _CANCELED = Cause.EXIT, Cause.CANCELED
# Of a list of attempts, those that are recorded.
_RECORDED = """SELECT a.id, a.cause, a.started_at FROM json_each(?) AS wanted
    CROSS JOIN attempt AS a ON a.id = wanted.value"""
_FORGET = f"DELETE FROM attempt WHERE id {IN_LIST}"
_RESUME = f"UPDATE task SET state = {RUNNING}, crashes = ?, started_at = ? WHERE id = ?"
_RECORD = "INSERT INTO attempt VALUES"
_KEEP_OUTPUT = "INSERT INTO output VALUES"
_KEEP_CHECKSUMS = "INSERT INTO checksum VALUES (?, ?, ?)"
_KEEP_RETURNED = "INSERT INTO returned VALUES (?, ?, ?, ?)"
_SUCCEED = f"UPDATE task SET state = {_DONE:d}, cancel = 0 WHERE id {IN_LIST}"
# Note what follows from an attempt that was no success.
# A task that is READY again has not started: nobody must show that it still runs.
_FOLLOW = f"""UPDATE task SET state = ?1, failures = ?2, crashes = ?3, not_before = ?4, pilot_id = ?5, cancel = 0,
    started_at = iif(?1 = {_READY:d}, NULL, started_at), resources_id = coalesce(?7, resources_id)
    WHERE id = ?6"""
_RESOURCES = "SELECT resources_id FROM task WHERE id = ?"
_KEEP_BEFORE = "INSERT OR IGNORE INTO grown VALUES (?, ?)"

Values = tuple[object, ...]  # of a row that is written


@handles(Finish)
def finish(tx: Transaction, request: Finish) -> Finished:
    """Record results of attempts that the pilot holds; count the others as recorded before or stale."""
    tx.leases.heard(request.pilot)
    tasks = tasks_by_id(tx, [result.task for result in request.results])
    if any(task.state == _READY for task in tasks.values()):
        late = [(result.task, result.attempt) for result in request.results if result.cause not in _NO_RESULT]
        find_again(tx, request.pilot, late, tasks)
    return Finished(*record(tx, request.pilot, request.results, tasks))


def find_again(
    tx: Transaction,
    pilot: PilotId,
    attempts: Iterable[tuple[int, int]],
    tasks: dict[int, TaskStatus],
    *,
    running: bool = False,
) -> None:
    """Make attempts ``(task, attempt)`` RUNNING again that were lost with `pilot` and not claimed since.

    Those that are still `running` need units of the limits again, which others may have by now. Changes `tasks`
    accordingly.
    """
    lost = {
        attempt_id(task.id, attempt): task
        for id_, attempt in attempts
        if (task := tasks.get(id_)) and task.state == _READY and (task.attempt, task.pilot) == (attempt, pilot)
    }
    if running:
        keep = affordable(tx, [task.id for task in lost.values()])
        lost = {id_: task for id_, task in lost.items() if task.id in keep}
    losses = {id_: (cause, at or None) for id_, cause, at in tx.execute(_RECORDED, (id_list(lost),))}
    tx.execute(_FORGET, (id_list(losses),))
    for id_, task in lost.items():
        cause, started_at = losses.get(id_, (None, None))
        crashes = task.crashes - (cause in CRASHES)
        tx.move_tasks(task.campaign, task.state, RUNNING, (id_,))
        tx.execute(_RESUME, (crashes, started_at, task.id))
        tasks[task.id] = replace(task, state=RUNNING, crashes=crashes, started_at=started_at)


def record(
    tx: Transaction, pilot: PilotId, results: Iterable[Result], tasks: dict[int, TaskStatus], *, lost: bool = False
) -> tuple[int, int, int]:
    """Record results of attempts that the pilot holds; removes the tasks of these from `tasks`.

    With `lost`, the pilot was given up: rows of tasks that become READY still name it.

    Returns
    -------
    recorded, again, stale
        How many were new, recorded before, or of attempts that the pilot does not hold.
    """
    now = tx.clock.now()
    attempts: list[Values] = []
    outputs: list[Values] = []
    checksums: list[Values] = []
    values: list[Values] = []
    finished: list[TaskId] = []
    done: list[TaskId] = []
    others: list[Values] = []
    rest: list[int] = []
    ended: list[tuple[int, int]] = []
    moves: dict[tuple[CampaignId, int, TaskState], list[int]] = {}
    failed = 0
    for reported in results:
        id_, number = reported.task, reported.attempt
        key = attempt_id(id_, number)
        task = tasks.get(id_)
        if task is None or not task.is_held(pilot, number):
            rest.append(key if 0 <= number <= LAST_ATTEMPT else -1)
            continue
        del tasks[id_]
        finished.append(id_)
        result = reported
        if result.cause is _CANCELED and not task.cancel:
            # A power cut undid that the pilot had got it, and it got the same attempt while it ended the first one.
            result = replace(result, cause=Cause.PREEMPTED, message=_NOT_ORDERED)
        if result.value is not None or result.value_text:
            result, row = returned(tx, key, task.campaign, result)
            if row is not None:
                values.append(row)
        stdout_path, stderr_path = result.stdout_path, result.stderr_path
        if stdout_path is not None or stderr_path is not None:
            stdout_path, stderr_path = kept(tx.store_path, stdout_path), kept(tx.store_path, stderr_path)
        attempts.append((
            key, result.cause, result.exit_code, result.signal, pilot, result.node, result.slot, result.started_at,
            result.elapsed_s, result.cpu_s, result.memory_bytes, result.stdout_bytes, result.stderr_bytes,
            stdout_path, stderr_path, result.message, now, task.version,
        ))  # fmt: skip
        if result.stdout or result.stderr:
            outputs.append((key, result.stdout, result.stderr))
        if result.stdout_crc is not None or result.stderr_crc is not None:
            checksums.append((key, result.stdout_crc, result.stderr_crc))
        if result.exit_code == 0 and result.cause is _EXIT:
            state = _DONE
            done.append(id_)
        else:
            state, change = _after(tx, result, task, now, lost)
            others.append(change)
            failed += result.cause not in _NO_RESULT
        moves.setdefault((task.campaign, task.state, state), []).append(key)
        if state is not _READY:
            ended.append((id_, state))
    for (campaign, old, new), moved in moves.items():
        tx.move_tasks(campaign, old, new, moved)
        if new is TaskState.FAILED:
            halt_if_due(tx, campaign)
        elif new is _DONE:
            meet_if_done(tx, campaign)
            note_done(tx, campaign, moved)
    tx.activity.attempts_ended(pilot, finished, failed)
    tx.insert(_RECORD, attempts)
    tx.insert(_KEEP_OUTPUT, outputs)
    if checksums:
        tx.executemany(_KEEP_CHECKSUMS, checksums)
    if values:
        tx.executemany(_KEEP_RETURNED, values)
    if done:
        tx.execute(_SUCCEED, (id_list(done),))
    if others:
        tx.executemany(_FOLLOW, others)
    resolve(tx, ended)
    again = _count_recorded(tx, rest) if rest else 0
    return len(attempts), again, len(rest) - again


def _after(tx: Transaction, result: Result, task: TaskStatus, now: float, lost: bool) -> tuple[TaskState, Values]:
    """Return the state of the task after an attempt that was not a success, and the values for its row."""
    template = tx.caches.templates.get(task.template)
    failures = task.failures + (result.cause not in NOT_CHARGED)
    crashes = task.crashes + (result.cause in CRASHES)
    state = after_attempt(
        result.cause, result.exit_code, cancel=bool(task.cancel),
        failures=failures, crashes=crashes,
        max_retries=template.max_retries if is_retried(template, result.cause, result.exit_code) else 0,
    )  # fmt: skip
    if state is TaskState.CANCELED:
        failures, crashes = task.failures, task.crashes
    not_before = resources = None
    if state is _READY:
        if result.attempt >= LAST_ATTEMPT:  # the next number would be another task's
            state = TaskState.FAILED
        elif template.backoff_s > 0 and result.cause not in NOT_CHARGED:
            not_before = now + retry_pause_s(template.backoff_s, failures)
        if result.cause in GROWS:
            (before,) = tx.execute(_RESOURCES, (task.id,)).fetchone()
            resources = tx.caches.resources.intern(grown(template, tx.caches.resources.get(before), result.cause))
            if resources != before:
                tx.execute(_KEEP_BEFORE, (task.id, before))
                note_growth(tx, task.campaign, task.template, before, resources)
    pilot = None if state is _READY and not lost else task.pilot
    return state, (state, failures, crashes, not_before, pilot, result.task, resources)


def _count_recorded(tx: Transaction, attempts: list[int]) -> int:
    """Return how many of `attempts`, which may repeat, are recorded."""
    recorded = {row[0] for row in tx.execute(_RECORDED, (id_list(set(attempts)),))}
    return sum(id_ in recorded for id_ in attempts)
