"""Deleting campaigns, slice by slice; `slices` calls it."""

from pilotmtc.errors import UsageError
from pilotmtc.protocol.client.campaigns import DeleteCampaign
from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import LAST_ATTEMPT, attempt_id
from pilotmtc.store.file.large_outputs import own_file
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.file.values import leave_some_values, leave_values
from pilotmtc.store.requests.campaigns import DELETED, check_campaign
from pilotmtc.store.requests.gates import forget_waits, waiting_for
from pilotmtc.store.requests.growth import forget_growth
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.steer.slices import Slice, SliceProgress, in_slices

SLICE = 1_000  # tasks: some 10 ms
_WINDOW = 20_000  # ids: tasks of other campaigns may lie between
_UNFINISHED = f"SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = ? AND state < {TaskState.DONE:d}"
# Nobody adds to it any more: whoever has the key is told so.
_CLOSE = f"UPDATE campaign SET key = '{DELETED}' || id, sealed = 1 WHERE id = ?"
_IDS = "SELECT first_id, last_id FROM campaign WHERE id = ?"
_TASKS = "SELECT id, state FROM task WHERE id > ? AND id <= ? AND campaign_id = ? ORDER BY id LIMIT ?"
# Ranges of ids without a gap, of tasks and then of their attempts.
_FILES = """SELECT a.stdout_path, a.stderr_path, p.directory FROM attempt AS a LEFT JOIN pilot AS p ON p.id = a.pilot_id
    WHERE a.id BETWEEN ? AND ? AND (a.stdout_path IS NOT NULL OR a.stderr_path IS NOT NULL)"""
_NO_FILES = """UPDATE attempt SET stdout_path = NULL, stderr_path = NULL
    WHERE id BETWEEN ? AND ? AND (stdout_path IS NOT NULL OR stderr_path IS NOT NULL)"""
_NO_OUTPUTS = tuple(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?" for table in ("output", "checksum"))
_VALUES = "SELECT DISTINCT value_id FROM returned WHERE id BETWEEN ? AND ? AND value_id IS NOT NULL"
_NO_VALUES = "UPDATE returned SET data = NULL, value_id = NULL WHERE id BETWEEN ? AND ?"
_NO_ATTEMPTS = tuple(
    f"DELETE FROM {table} WHERE id BETWEEN ? AND ?" for table in ("returned", "superseded", "memo", "attempt")
)
_NO_TASKS = (
    "DELETE FROM dependency WHERE needs_id BETWEEN ? AND ?",
    "DELETE FROM dependency WHERE task_id BETWEEN ? AND ?",
    "DELETE FROM call WHERE task_id BETWEEN ? AND ?",
    "DELETE FROM grown WHERE task_id BETWEEN ? AND ?",
    "DELETE FROM task WHERE id BETWEEN ? AND ?",
)
_RECEIVED = "UPDATE campaign SET received = received - ? WHERE id = ?"
_NO_RUNS = "DELETE FROM campaign_run WHERE campaign_id = ?"
_NO_TALLY = "DELETE FROM tally WHERE campaign_id = ?"
_DELETED = "UPDATE campaign SET deleted_at = ? WHERE id = ?"


def delete(tx: Transaction, request: DeleteCampaign, progress: SliceProgress) -> Slice:
    """Delete the next tasks of a campaign, or what they wrote; with the last ones, the campaign."""
    campaign = request.campaign
    if progress.last == 0:
        _begin(tx, request)
    first, last = tx.execute(_IDS, (campaign,)).fetchone()
    # All of a campaign that was closed: tasks may have come, and ended, while the request waited for others.
    bound = min(progress.bound, last) if request.keep_results else last
    low = max(progress.last, first - 1)
    high = min(low + _WINDOW, bound)
    found = tx.execute(_TASKS, (low, high, campaign, SLICE)).fetchall()
    last = found[-1][0] if len(found) == SLICE else high
    counts: dict[int, int] = {}
    for _, state in found:
        counts[state] = counts.get(state, 0) + 1
    for begin, end in _ranges([id_ for id_, _ in found]):
        if request.keep_results:  # functions and arguments stay: the tasks may run again
            leave_some_values(tx, campaign, _returned(tx, begin, end))
        _delete_range(tx, begin, end, whole=not request.keep_results)
    if not request.keep_results:
        for state, n in counts.items():
            tx.remove_tasks(campaign, TASK_STATES[state], n)
        tx.execute(_RECEIVED, (len(found), campaign))
    over = last >= bound
    if over and not request.keep_results:
        leave_values(tx, campaign)
        tx.settle()
        tx.execute(_NO_RUNS, (campaign,))
        tx.execute(_NO_TALLY, (campaign,))
        forget_waits(tx, campaign)
        forget_growth(tx, campaign)
        tx.execute(_DELETED, (tx.clock.now(), campaign))
        tx.caches.forget_campaign(campaign)
    return Slice(max(last, 1), len(found), 0, over)


def _begin(tx: Transaction, request: DeleteCampaign) -> None:
    check_campaign(tx, request.campaign)
    tx.settle()
    (left,) = tx.execute(_UNFINISHED, (request.campaign,)).fetchone()
    if left:
        have = "task has" if left == 1 else "tasks have"
        raise UsageError(
            f"{left:,} {have} not finished in campaign {request.campaign}: cancel them first, "
            f"with pilotmtc cancel -c {request.campaign}"
        )
    if not request.keep_results:
        if waiting := waiting_for(tx, request.campaign):
            raise UsageError(
                f"campaign {waiting[0]} waits for campaign {request.campaign}, whose tasks are not all DONE: retry "
                f"them, or let it wait no more, with pilotmtc edit -c {waiting[0]} --after-campaign none"
            )
        tx.execute(_CLOSE, (request.campaign,))


def _ranges(ids: list[int]) -> list[tuple[int, int]]:
    """Return the ranges of ids without a gap, first and last of each."""
    found: list[tuple[int, int]] = []
    for id_ in ids:
        if found and id_ == found[-1][1] + 1:
            found[-1] = found[-1][0], id_
        else:
            found.append((id_, id_))
    return found


def _returned(tx: Transaction, first: int, last: int) -> list[int]:
    """Return the large values that attempts of these tasks have returned."""
    attempts = attempt_id(first, 0), attempt_id(last, LAST_ATTEMPT)
    return [value for (value,) in tx.execute(_VALUES, attempts)]


def _delete_range(tx: Transaction, first: int, last: int, *, whole: bool) -> None:
    attempts = attempt_id(first, 0), attempt_id(last, LAST_ATTEMPT)
    store = tx.store_path
    for out, err, directory in tx.execute(_FILES, attempts).fetchall():
        for path in (out, err):
            if (file := own_file(store, path, directory)) is not None:
                tx.value_files.remove(file)
    for statement in (*_NO_OUTPUTS, *(_NO_ATTEMPTS if whole else (_NO_FILES, _NO_VALUES))):
        tx.execute(statement, attempts)
    if whole:
        for statement in _NO_TASKS:
            tx.execute(statement, (first, last))


handles(DeleteCampaign)(in_slices(delete))
