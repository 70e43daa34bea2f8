"""The overview: what is new since the last one, from memory and a few small queries."""

from collections.abc import Callable, Mapping
from operator import eq
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId, TaskId
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.client.watch import GetOverview, MarkSeen, Overview
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.file.pilot_status import LIVES
from pilotmtc.store.file.task_status import ON_HOLD
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.live.activity import Meter
from pilotmtc.store.requests.campaigns import campaigns_where
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.look.filter_sql import LAST
from pilotmtc.store.requests.look.query import pilots_where, tally

_LATELY_S = 3600.0  # pilots that have ended within this time are shown
_PILOTS = 20  # and this number of the newest ones, whenever they have ended
_CAMPAIGNS = 50  # this number of the newest ones is shown, and all that have not ended, up to the next number
_UNFINISHED = 500
_FAILURES = 2_000  # number of the newest failures that are grouped
_GROUPS = 20
_FAILURES_EVERY_S = 3.0
_MESSAGE = 160
# Pilots that have not ended, have ended recently, or are among the newest.
_IS_SHOWN = f"{LIVES} OR ended_at > ? OR id > (SELECT max(id) FROM pilot) - ?"
# Campaigns that are among the newest, or have not finished.
_ARE_SHOWN = f"""id > (SELECT max(id) FROM campaign) - ?
    OR id IN (SELECT campaign_id FROM tally WHERE state < {TaskState.DONE:d} AND n > 0
        ORDER BY campaign_id DESC LIMIT ?)"""
# The newest FAILED tasks, and how the last attempt of each one ended.
_FAILED_TASKS = f"""SELECT t.id, t.campaign_id, a.cause, a.exit_code, a.signal,
    substr(coalesce(a.message, ''), 1, {_MESSAGE}), a.recorded_at
    FROM (SELECT id, state, attempt, campaign_id FROM task INDEXED BY task_ended WHERE state >= {TaskState.FAILED:d}
        ORDER BY id DESC LIMIT {_FAILURES}) AS t
    JOIN attempt AS a ON a.id = {LAST} WHERE t.state = {TaskState.FAILED:d}"""
_HELD = 20_000  # tasks on hold that are counted
_TASKS_ON_HOLD = f"""SELECT campaign_id, count(*) FROM (SELECT campaign_id FROM task INDEXED BY task_backoff
    WHERE not_before = {ON_HOLD} AND state = {TaskState.READY:d} LIMIT {_HELD}) GROUP BY campaign_id"""
_SEEN = "SELECT key, mark FROM seen"
_MARK = "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT(key) DO UPDATE SET mark = excluded.mark, at = excluded.at"
_UNMARK = "DELETE FROM seen WHERE key = ?"
_KEPT = 500  # marks; those that are not seen again for long are of no use
_FORGET = f"DELETE FROM seen WHERE key NOT IN (SELECT key FROM seen ORDER BY at DESC LIMIT {_KEPT})"

T = TypeVar("T")
K = TypeVar("K", PilotId, CampaignId)


class _Failure(NamedTuple):
    """How a task failed: a row of `_FAILED_TASKS` without the task."""

    campaign: CampaignId
    cause: int
    exit_code: int | None
    signal: int | None


@handles(GetOverview)
def get_overview(tx: Transaction, request: GetOverview) -> Overview:
    """Return what has changed since an earlier overview."""
    shown = tx.overview
    now = tx.clock.now()
    monotonic = tx.clock.monotonic()
    before = shown.seq
    shown.seq += 1
    pilots = pilots_where(tx, _IS_SHOWN, (now - _LATELY_S, _PILOTS))
    # A heartbeat alone does not change a pilot, unless the pilot was silent.
    for id_ in tx.leases.silent ^ shown.silent:
        shown.pilots.pop(id_, None)
    shown.silent = tx.leases.silent
    changed = _update(shown.pilots, {pilot.id: pilot for pilot in pilots}, shown.seq, _is_same_pilot)
    campaigns = _shown_campaigns(tx)
    if shown.campaigns.keys() - campaigns.keys():  # deleted ones: whoever has them must begin anew
        shown.first_seq = shown.seq
        changed = True
    changed = _update(shown.campaigns, campaigns, shown.seq, eq) or changed
    counts = tally(tx)
    # A task that was retried and has failed again leaves the first number as it was.
    failed = (counts.get(TaskState.FAILED, 0), tx.activity.failed)
    if failed != shown.failed and monotonic >= shown.look_again_at:
        shown.failed = failed
        shown.look_again_at = monotonic + _FAILURES_EVERY_S
        shown.failures, shown.looked_at = _failures(tx)
        shown.failures_seq = shown.seq
        changed = True
    seen: dict[str, float] = dict(tx.execute(_SEEN).fetchall())
    if seen != shown.seen:
        shown.seen, shown.seen_seq = seen, shown.seq
        changed = True
    held: dict[CampaignId, int] = dict(tx.execute(_TASKS_ON_HOLD).fetchall())
    if held != shown.held:
        shown.held = held
        changed = True
    if not changed:
        shown.seq = before
    since = request.since if shown.first_seq <= request.since <= shown.seq else 0
    activity = tx.activity
    series = activity.series(request.span_s)
    if 0 < since == shown.seq:  # no task has ended, no core has become busy or idle
        series = Series(series.step_s, series.start_at)
    running = {id_: campaign.counts.get(TaskState.RUNNING, 0) for id_, (campaign, _) in shown.campaigns.items()}
    return Overview(
        shown.seq,
        now,
        now - (monotonic - activity.since),
        series,
        whole=since == 0,
        pilots=tuple([pilot for pilot, seq in shown.pilots.values() if seq > since]),
        campaigns=tuple([campaign for campaign, seq in shown.campaigns.values() if seq > since]),
        pilot_paces=_paces(activity.pilots, {id_: activity.busy(id_) for id_ in shown.pilots}, monotonic),
        campaign_paces=_paces(activity.campaigns, running, monotonic),
        tasks=counts,
        failures=shown.failures if shown.failures_seq > since else None,
        looked_at=shown.looked_at,
        silent=tuple([PilotId(id_) for id_ in sorted(tx.leases.silent)]),
        held=held,
        seen=shown.seen if shown.seen_seq > since else None,
    )


@handles(MarkSeen)
def mark_seen(tx: Transaction, request: MarkSeen) -> Done:
    """Mark what needs attention as seen, or as new again."""
    for key, mark in request.marks.items():
        if mark is None:
            tx.execute(_UNMARK, (key,))
        else:
            tx.execute(_MARK, (key, mark, tx.clock.now()))
    tx.execute(_FORGET)
    tx.wakeups.changed()
    return Done()


def _paces(meters: dict[int, Meter], running: Mapping[K, int], now: float) -> tuple[Pace, ...]:
    told = [(id_, meter, running[id_]) for id_ in running if (meter := meters.get(id_)) is not None and meter.total]
    return tuple([meter.pace(id_, now, n) for id_, meter, n in told])


def _update(known: dict[K, tuple[T, int]], found: dict[K, T], seq: int, is_same: Callable[[T, T], bool]) -> bool:
    """Update `known` with the records found; return whether anything is new."""
    changed = False
    for id_, record in found.items():
        old = known.get(id_)
        if old is None or not is_same(old[0], record):
            known[id_] = record, seq
            changed = True
    for id_ in known.keys() - found.keys():
        del known[id_]
    return changed


def _is_same_pilot(old: Pilot, new: Pilot) -> bool:
    """Return whether only a heartbeat has come."""
    return old == new or old == replace(new, seen_at=old.seen_at)


def _shown_campaigns(tx: Transaction) -> dict[CampaignId, Campaign]:
    """Return campaigns that are new or have not finished."""
    return {one.id: one for one in campaigns_where(tx, _ARE_SHOWN, (_CAMPAIGNS, _UNFINISHED))}


def _failures(tx: Transaction) -> tuple[tuple[FailureGroup, ...], int]:
    """Return the newest FAILED tasks in groups, and their number."""
    groups: dict[_Failure, list[tuple[float, TaskId, str]]] = {}
    looked_at = 0
    for task, campaign, cause, exit_code, signal, message, at in tx.execute(_FAILED_TASKS):
        looked_at += 1
        groups.setdefault(_Failure(campaign, cause, exit_code, signal), []).append((at, task, message))
    found = []
    for how, tasks in sorted(groups.items(), key=lambda group: -len(group[1]))[:_GROUPS]:
        newest_at, _, message = max(tasks)
        cause = Cause(how.cause)
        highest = max(task for _, task, _ in tasks)
        found.append(
            FailureGroup(how.campaign, cause, how.exit_code, how.signal, message, len(tasks), highest, newest_at)
        )
    return tuple(found), looked_at
