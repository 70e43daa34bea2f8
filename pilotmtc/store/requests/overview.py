"""The overview: what is new since the last one, from memory and a few small queries."""

from typing import Any

from pilotmtc.model import Campaign, CampaignId, PilotId, TaskId
from pilotmtc.protocol.client.watch import GetOverview, Overview
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.file.pilot_status import LIVES
from pilotmtc.store.file.sql import id_list
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.live.activity import Meter
from pilotmtc.store.requests.filter_sql import LAST
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.query import pilot_of, pilot_rows, tally

_LATELY_S = 3600.0  # pilots that ended since then are shown
_PILOTS = 20  # and so many of the newest, whenever they ended
_CAMPAIGNS = 50  # so many of the newest are shown, and all that are not over, up to:
_UNFINISHED = 500
_FAILURES = 2_000  # of the newest bad ends are looked at
_GROUPS = 20
_FAILURES_EVERY_S = 3.0
_MESSAGE = 160
# Pilots that live, ended lately, or are among the newest.
_IS_SHOWN = f"{LIVES} OR ended_at > ? OR id > (SELECT max(id) FROM pilot) - ?"
# Campaigns that are among the newest, or not over.
_SHOWN_CAMPAIGNS = f"""SELECT id, key, name, created_at, received, sealed, own_pilots FROM campaign
    WHERE id > (SELECT max(id) FROM campaign) - ?
    OR id IN (SELECT campaign_id FROM tally WHERE state < {TaskState.DONE:d} AND n > 0
        ORDER BY campaign_id DESC LIMIT ?)
    ORDER BY id DESC"""
_TALLIES = """SELECT t.campaign_id, t.state, t.n FROM json_each(?) AS wanted
    CROSS JOIN tally AS t ON t.campaign_id = wanted.value WHERE t.n != 0"""
# The newest FAILED tasks, and how the last attempt of each ended.
_FAILED_TASKS = f"""SELECT t.id, t.campaign_id, a.cause, a.exit_code, a.signal,
    substr(coalesce(a.message, ''), 1, {_MESSAGE})
    FROM (SELECT id, state, attempt, campaign_id FROM task INDEXED BY task_ended WHERE state >= {TaskState.FAILED:d}
        ORDER BY id DESC LIMIT {_FAILURES}) AS t
    JOIN attempt AS a ON a.id = {LAST} WHERE t.state = {TaskState.FAILED:d}"""

Row = tuple[Any, ...]


@handles(GetOverview)
def get_overview(tx: Transaction, request: GetOverview) -> Overview:
    """Return what has changed since an earlier overview."""
    shown = tx.overview
    now = tx.clock.now()
    monotonic = tx.clock.monotonic()
    before = shown.seq
    shown.seq += 1
    pilots = pilot_rows(tx, _IS_SHOWN, (now - _LATELY_S, _PILOTS))
    # A heartbeat alone is not a change of a pilot, unless the pilot was silent.
    for id_ in tx.leases.silent ^ shown.silent:
        shown.pilots.pop(id_, None)
    shown.silent = tx.leases.silent
    changed = _note(shown.pilots, pilots, shown.seq, ignore=6)
    changed = _note(shown.campaigns, _campaign_rows(tx), shown.seq) or changed
    counts = tally(tx)
    failed = counts.get(TaskState.FAILED, 0)
    if failed != shown.failed and monotonic >= shown.look_again_at:
        shown.failed = failed
        shown.look_again_at = monotonic + _FAILURES_EVERY_S
        shown.failures, shown.looked_at = _failures(tx)
        shown.failures_seq = shown.seq
        changed = True
    if not changed:
        shown.seq = before
    since = request.since if shown.first_seq <= request.since <= shown.seq else 0
    activity = tx.activity
    series = activity.series(request.span_s)
    if 0 < since == shown.seq:  # no task has ended, no core has become busy or idle
        series = Series(series.step_s, series.start_at)
    new_campaigns = [row for row, seq in shown.campaigns.values() if seq > since]
    return Overview(
        shown.seq,
        now,
        now - (monotonic - activity.since),
        series,
        whole=since == 0,
        pilots=tuple([pilot_of(row) for row, seq in shown.pilots.values() if seq > since]),
        campaigns=tuple([_campaign(row) for row in new_campaigns]),
        pilot_paces=_paces(activity.pilots, {id_: activity.busy(id_) for id_ in shown.pilots}, monotonic),
        campaign_paces=_paces(activity.campaigns, _running(shown.campaigns), monotonic),
        tasks=counts,
        failures=shown.failures if shown.failures_seq > since else None,
        looked_at=shown.looked_at,
        silent=tuple([PilotId(id_) for id_ in sorted(tx.leases.silent)]),
    )


def _paces(meters: dict[int, Meter], running: dict[int, int], now: float) -> tuple[Pace, ...]:
    told = [(id_, meter) for id_, meter in meters.items() if id_ in running and meter.total]
    return tuple([meter.pace(id_, now, running[id_]) for id_, meter in told])


def _running(campaigns: dict[int, tuple[Row, int]]) -> dict[int, int]:
    return {id_: dict(row[-1]).get(int(TaskState.RUNNING), 0) for id_, (row, _) in campaigns.items()}


def _note(known: dict[int, tuple[Row, int]], rows: list[Row], seq: int, ignore: int = -1) -> bool:
    """Bring `known` up to date; return whether anything is new. The value at `ignore` makes no difference."""
    changed = False
    for row in rows:
        old = known.get(row[0])
        if old is None or not _same(old[0], row, ignore):
            known[row[0]] = row, seq
            changed = True
    if len(rows) != len(known):
        there = {row[0] for row in rows}
        for id_ in [id_ for id_ in known if id_ not in there]:
            del known[id_]
    return changed


def _same(old: Row, new: Row, ignore: int) -> bool:
    return old == new or (ignore >= 0 and old[:ignore] + old[ignore + 1 :] == new[:ignore] + new[ignore + 1 :])


def _campaign_rows(tx: Transaction) -> list[Row]:
    """Return campaigns that are new or not over: their columns, and the tally as ``((state, n), ...)``."""
    campaigns = {row[0]: row for row in tx.execute(_SHOWN_CAMPAIGNS, (_CAMPAIGNS, _UNFINISHED))}
    counts: dict[int, list[tuple[int, int]]] = {id_: [] for id_ in campaigns}
    for id_, state, n in tx.execute(_TALLIES, (id_list(campaigns),)):
        counts[id_].append((state, n))
    return [(*row, tuple(counts[id_])) for id_, row in campaigns.items()]


def _campaign(row: Row) -> Campaign:
    id_, key, name, created_at, received, sealed, own, counts = row
    return Campaign(
        CampaignId(id_), key, name, created_at, received, bool(sealed),
        {TASK_STATES[state]: n for state, n in counts}, bool(own),
    )  # fmt: skip


def _failures(tx: Transaction) -> tuple[tuple[FailureGroup, ...], int]:
    """Return the newest FAILED tasks in groups, and how many they are."""
    groups: dict[tuple[Any, ...], tuple[int, int]] = {}
    looked_at = 0
    for task, *alike in tx.execute(_FAILED_TASKS):
        looked_at += 1
        newest, count = groups.get(tuple(alike), (task, 0))
        groups[tuple(alike)] = newest, count + 1
    largest = sorted(groups.items(), key=lambda item: -item[1][1])[:_GROUPS]
    return tuple(
        [
            FailureGroup(CampaignId(campaign), Cause(cause), code, signal, message, count, TaskId(newest))
            for (campaign, cause, code, signal, message), (newest, count) in largest
        ]
    ), looked_at
