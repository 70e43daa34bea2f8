"""Finish: how attempts ended, each recorded once, and what follows for the task.

An attempt whose pilot was given up is *lost*: recorded as such if it ran, and its task READY for the next. The task's
row still names the pilot. As long as nobody has claimed the task again, what that pilot says of the attempt counts
after all (`find_again`): the record of the loss gives way to the truth.
"""

from collections.abc import Iterable
from typing import Any

from pilotmtc.model import PilotId, Result
from pilotmtc.protocol.agent import Finish, Finished
from pilotmtc.states import CRASHES, NOT_CHARGED, Cause, TaskState, after_attempt
from pilotmtc.store.file.large_outputs import kept
from pilotmtc.store.file.transaction import Ledger, id_list
from pilotmtc.store.file.views import ATTEMPT_BITS, ATTEMPT_MASK
from pilotmtc.store.requests.dependents import resolve
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.query import store_path

_HELD = """SELECT t.id, t.state, t.attempt, t.pilot_id, t.campaign_id, t.template_id, t.cancel, t.failures, t.crashes,
    t.started_at FROM json_each(?) AS wanted CROSS JOIN task AS t ON t.id = wanted.value"""
_RECORD = "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LONGEST_BACKOFF_S = 3600.0
# Ends that are no result: a lost attempt may stay lost as well.
_NO_RESULT = NOT_CHARGED | {Cause.CANCELED}
_DONE, _READY, _EXIT = TaskState.DONE, TaskState.READY, Cause.EXIT

Row = tuple[Any, ...]


def held(ledger: Ledger, tasks: Iterable[int]) -> dict[int, Row]:
    """Return what fencing needs to know of `tasks`: id, state, attempt, pilot, campaign, template, cancel, ..."""
    return {row[0]: row for row in ledger.execute(_HELD, (id_list(tasks),))}


@handles(Finish)
def finish(ledger: Ledger, request: Finish) -> Finished:
    """Record what the pilot holds, tell the rest apart into seen again and stale."""
    if request.pilot in ledger.leases:
        ledger.renew(request.pilot)
    rows = held(ledger, [result.task for result in request.results])
    if any(row[1] == _READY for row in rows.values()):
        late = [(result.task, result.attempt) for result in request.results if result.cause not in _NO_RESULT]
        find_again(ledger, request.pilot, late, rows)
    return Finished(*record(ledger, request.pilot, request.results, rows))


def find_again(ledger: Ledger, pilot: PilotId, attempts: Iterable[tuple[int, int]], rows: dict[int, Row]) -> None:
    """Make those of ``(task, attempt)`` RUNNING again that were lost with `pilot` and not claimed since.

    `rows` of `held` are changed accordingly.
    """
    lost = {task for task, attempt in attempts if (row := rows.get(task)) and row[1:4] == (_READY, attempt, pilot)}
    keys = {task << ATTEMPT_BITS | rows[task][2]: task for task in lost}
    losses = {
        key: (cause, started_at or None)
        for key, cause, started_at in ledger.execute(
            "SELECT a.id, a.cause, a.started_at FROM json_each(?) AS wanted "
            "CROSS JOIN attempt AS a ON a.id = wanted.value",
            (id_list(keys),),
        )
    }
    ledger.execute("DELETE FROM attempt WHERE id IN (SELECT value FROM json_each(?))", (id_list(losses),))
    for key, task in keys.items():
        id_, state, attempt, pilot_id, campaign, template, cancel, failures, crashes, _ = rows[task]
        cause, started_at = losses.get(key, (None, None))
        crashes -= cause in CRASHES
        ledger.moved(task, attempt, campaign, state, TaskState.RUNNING)
        ledger.execute(
            "UPDATE task SET state = 3, crashes = ?, started_at = ? WHERE id = ?", (crashes, started_at, task)
        )
        rows[task] = (id_, 3, attempt, pilot_id, campaign, template, cancel, failures, crashes, started_at)


def record(
    ledger: Ledger, pilot: PilotId, results: Iterable[Result], rows: dict[int, Row], *, lost: bool = False
) -> tuple[int, int, int]:
    """Record results of attempts that the pilot holds, according to `rows` of `held`.

    With `lost`, the pilot was given up: what becomes READY goes on to name it.

    Returns
    -------
    recorded, again, stale
        How many were new, recorded before, and of attempts that the pilot does not hold.
    """
    now = ledger.clock.now()
    attempts: list[Row] = []
    outputs: list[Row] = []
    checksums: list[Row] = []
    done: list[int] = []
    others: list[Row] = []
    rest: list[int] = []
    ended: list[tuple[int, int]] = []
    moves: list[tuple[int, int]] = []
    olds: list[int] = []
    here = ledger.activity.held.get(pilot)
    for result in results:
        task, number = result.task, result.attempt
        key = task << ATTEMPT_BITS | number
        row = rows.get(task)
        if row is None or row[3] != pilot or row[2] != number or not 2 <= row[1] <= 3:
            rest.append(key if 0 <= number <= ATTEMPT_MASK else -1)
            continue
        del rows[task]
        if here is not None:
            here.pop(task, None)
        paths = (result.stdout_path, result.stderr_path)
        if paths != (None, None):
            paths = (kept(store_path(ledger), paths[0]), kept(store_path(ledger), paths[1]))
        attempts.append((
            key, result.cause, result.exit_code, result.signal, pilot, result.node, result.slot, result.started_at,
            result.elapsed_s, result.cpu_s, result.memory_bytes, result.stdout_bytes, result.stderr_bytes,
            *paths, result.message, now,
        ))  # fmt: skip
        if result.stdout or result.stderr:
            outputs.append((key, result.stdout, result.stderr))
        if result.stdout_crc is not None or result.stderr_crc is not None:
            checksums.append((key, result.stdout_crc, result.stderr_crc))
        if result.cause is _EXIT and result.exit_code == 0:
            state = _DONE
            done.append(task)
        else:
            state, change = _after(ledger, result, row, now, lost)
            others.append(change)
        moves.append((key, row[4] << 3 | state))
        olds.append(row[4] << 3 | row[1])
        if state is not _READY:
            ended.append((task, state))
    ledger.moved_all(moves, olds)
    failed = sum(row[1] not in _NO_RESULT for row in attempts) - len(done)  # not what was preempted, lost or canceled
    ledger.activity.finished(pilot, len(attempts), failed)
    ledger.executemany(_RECORD, attempts)
    if outputs:
        ledger.executemany("INSERT INTO output VALUES (?, ?, ?)", outputs)
    if checksums:
        ledger.executemany("INSERT INTO checksum VALUES (?, ?, ?)", checksums)
    if done:
        ledger.execute(
            "UPDATE task SET state = 4, cancel = 0 WHERE id IN (SELECT value FROM json_each(?))", (id_list(done),)
        )
    if others:
        ledger.executemany(
            # What is READY again has not started: who shows how long it has run must not count on.
            "UPDATE task SET state = ?1, failures = ?2, crashes = ?3, not_before = ?4, pilot_id = ?5, cancel = 0, "
            f"started_at = iif(?1 = {_READY:d}, NULL, started_at) WHERE id = ?6",
            others,
        )
    resolve(ledger, ended)
    again = _recorded(ledger, rest) if rest else 0
    return len(attempts), again, len(rest) - again


def _after(ledger: Ledger, result: Result, row: Row, now: float, lost: bool) -> tuple[TaskState, Row]:
    """Return where the task goes after an attempt that was no success, and the values for its row."""
    template = ledger.template(row[5])
    failures = row[7] + (result.cause not in NOT_CHARGED)
    crashes = row[8] + (result.cause in CRASHES)
    state = after_attempt(
        result.cause, result.exit_code, cancel=bool(row[6]),
        failures=failures, max_retries=template.max_retries, crashes=crashes,
    )  # fmt: skip
    if state is TaskState.CANCELED:
        failures, crashes = row[7], row[8]
    not_before = None
    if state is _READY:
        if result.attempt >= ATTEMPT_MASK:  # the next number would be another task's
            state = TaskState.FAILED
        elif template.backoff_s > 0 and result.cause not in NOT_CHARGED:
            not_before = now + min(template.backoff_s * 2.0 ** min(failures - 1, 60), _LONGEST_BACKOFF_S)
    pilot = None if state is _READY and not lost else row[3]
    return state, (int(state), failures, crashes, not_before, pilot, result.task)


def _recorded(ledger: Ledger, keys: list[int]) -> int:
    """Return how many of `keys`, which may repeat, are recorded attempts."""
    there = {
        key
        for (key,) in ledger.execute(
            "SELECT a.id FROM json_each(?) AS wanted CROSS JOIN attempt AS a ON a.id = wanted.value",
            (id_list(set(keys)),),
        )
    }
    return sum(key in there for key in keys)
