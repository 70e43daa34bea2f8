"""What holds back the tasks of campaigns: holds, halts, limits of tasks at once and of starts, and other campaigns."""

import math
from collections.abc import Iterable

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.campaigns import HoldCampaign, SetAfterCampaigns, SetHalt, SetMaxRunning, SetStartRate
from pilotmtc.states import TaskState
from pilotmtc.store.file.bounds import MOST
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.campaigns import HALTED, check_campaign
from pilotmtc.store.requests.handlers import handles

_HOLD = "UPDATE campaign SET on_hold = 1 WHERE id = ? AND on_hold = 0"
_RELEASE = "UPDATE campaign SET on_hold = 0, halt_failed = 0, halt_share = 0 WHERE id = ? AND on_hold != 0"
_SET_HALT = "UPDATE campaign SET halt_failed = ?, halt_share = ? WHERE id = ?"
# Halt a campaign if enough of its tasks have failed.
_HALT = f"""UPDATE campaign SET on_hold = {HALTED} WHERE id = ?1 AND on_hold = 0 AND (
    SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = ?1 AND state = {TaskState.FAILED:d}) >= min(
        iif(halt_failed > 0, halt_failed, 1e18), iif(halt_share > 0 AND sealed, max(1, halt_share * received), 1e18))"""
_SET_MAX_RUNNING = "UPDATE campaign SET max_running = ? WHERE id = ?"
_SET_START_RATE = "UPDATE campaign SET start_rate = ?, next_start_at = 0 WHERE id = ?"
_NEXT_START = "SELECT next_start_at FROM campaign WHERE id = ?"
_SET_NEXT_START = "UPDATE campaign SET next_start_at = ? WHERE id = ?"
_CATCH_UP_S = 0.1  # what was due in this time, and nobody has taken, may be taken at once
_LEAST_PAUSE_S = 0.02  # between two times at which waiting pilots are given something
_CLOCK_S = 1e-6  # what a clock may be early
_LEAVE_WAITS = f"DELETE FROM campaign_after WHERE campaign_id = ? AND NOT needs_id {IN_LIST}"
_WAIT = "INSERT OR REPLACE INTO campaign_after VALUES (?, ?, ?)"
_MEET = "UPDATE campaign_after SET met = 1 WHERE needs_id = ?"
_FORGET = "DELETE FROM campaign_after WHERE campaign_id = ?1 OR needs_id = ?1"
_ALL_DONE = f"""SELECT sealed AND received = coalesce((SELECT n FROM tally
    WHERE campaign_id = ?1 AND state = {TaskState.DONE:d}), 0) FROM campaign WHERE id = ?1"""


@handles(HoldCampaign)
def hold(tx: Transaction, request: HoldCampaign) -> Changed:
    """Put a campaign on hold, or release it."""
    check_campaign(tx, request.campaign)
    done = tx.execute(_HOLD if request.hold else _RELEASE, (request.campaign,)).rowcount
    if request.hold:
        tx.caches.on_hold.add(request.campaign)
    else:
        tx.caches.on_hold.discard(request.campaign)
        if done:
            tx.caches.halts.discard(request.campaign)
    if done:
        tx.wakeups.tasks_ready()
        tx.wakeups.changed()
    return Changed(done)


@handles(SetHalt)
def set_halt(tx: Transaction, request: SetHalt) -> Done:
    """Set after how many failures a campaign is put on hold."""
    check_campaign(tx, request.campaign)
    if request.failed < 0 or not 0 <= request.share <= 1:
        raise UsageError(f"a campaign cannot halt after {request.failed} failures or a part of {request.share}")
    tx.execute(_SET_HALT, (request.failed, request.share, request.campaign))
    if request.failed or request.share:
        tx.caches.halts.add(request.campaign)
    else:
        tx.caches.halts.discard(request.campaign)
    halt_if_due(tx, request.campaign)
    return Done()


def halt_if_due(tx: Transaction, campaign: CampaignId) -> None:
    """Put a campaign on hold if as many of its tasks have failed as its halt says."""
    if campaign not in tx.caches.halts:
        return
    tx.settle()
    if tx.execute(_HALT, (campaign,)).rowcount:
        tx.caches.on_hold.add(campaign)
        tx.wakeups.changed()


@handles(SetMaxRunning)
def set_max_running(tx: Transaction, request: SetMaxRunning) -> Done:
    """Set how many tasks of a campaign may be claimed or running at once."""
    check_campaign(tx, request.campaign)
    limit_running(tx, request.campaign, request.tasks)
    tx.wakeups.tasks_ready()
    tx.wakeups.changed()
    return Done()


def limit_running(tx: Transaction, campaign: CampaignId, tasks: int) -> None:
    """Note how many tasks of a campaign may be claimed or running at once; 0: no limit."""
    if not 0 <= tasks <= MOST:
        raise UsageError(f"a campaign cannot have {tasks} tasks running at most: give 1 or more, or 0 for no limit")
    tx.execute(_SET_MAX_RUNNING, (tasks, campaign))
    tx.caches.max_running.pop(campaign, None)
    if tasks:
        tx.caches.max_running[campaign] = tasks


# -- starts ------------------------------------------------------------------------------------------------------


@handles(SetStartRate)
def set_start_rate(tx: Transaction, request: SetStartRate) -> Done:
    """Set how many tasks of a campaign pilots may be given a second."""
    check_campaign(tx, request.campaign)
    limit_starts(tx, request.campaign, request.per_s)
    tx.wakeups.tasks_ready()
    tx.wakeups.changed()
    return Done()


def limit_starts(tx: Transaction, campaign: CampaignId, per_s: float) -> None:
    """Note how many tasks of a campaign pilots may be given a second; 0: no limit."""
    if not 0 <= per_s <= MOST:
        raise UsageError(f"a campaign cannot start {per_s} tasks a second: give a rate above 0, or 0 for no limit")
    tx.execute(_SET_START_RATE, (per_s, campaign))
    tx.caches.start_rates.pop(campaign, None)
    if per_s:
        tx.caches.start_rates[campaign] = per_s


def room(tx: Transaction, campaign: int) -> float:
    """Return how many more tasks of a campaign pilots may be given now, by its limits of tasks at once and of starts.

    If it is its rate that allows none, those who wait are woken as soon as it does.
    """
    most = tx.may_start(campaign)
    if most <= 0 or (rate := tx.caches.start_rates.get(campaign)) is None:
        return most
    now = tx.clock.now()
    due = _next_start(tx, campaign, rate, now)
    if due > now + _CLOCK_S:
        tx.caches.starts_at[campaign] = max(due, now + _LEAST_PAUSE_S)
        return 0
    return min(most, math.floor((now + _CLOCK_S - due) * rate) + 1)


def note_starts(tx: Transaction, campaign: int, tasks: int) -> None:
    """Note that pilots were given so many tasks of a campaign."""
    if (rate := tx.caches.start_rates.get(campaign)) is not None:
        due = _next_start(tx, campaign, rate, tx.clock.now())
        tx.execute(_SET_NEXT_START, (due + tasks / rate, campaign))


def _next_start(tx: Transaction, campaign: int, rate: float, now: float) -> float:
    """Return from when on the next task may be given, which may be a moment ago: then several may."""
    at = float(tx.execute(_NEXT_START, (campaign,)).fetchone()[0])
    if at > now + 1 / rate + _CLOCK_S:  # the clock was set back
        return now
    return max(at, now - math.floor(_CATCH_UP_S * rate) / rate)


# -- other campaigns ---------------------------------------------------------------------------------------------


@handles(SetAfterCampaigns)
def set_after(tx: Transaction, request: SetAfterCampaigns) -> Done:
    """Set what a campaign waits for."""
    check_campaign(tx, request.campaign)
    wait_for(tx, request.campaign, request.after, more=request.more)
    tx.wakeups.tasks_ready()
    tx.wakeups.changed()
    return Done()


def wait_for(tx: Transaction, campaign: CampaignId, others: Iterable[CampaignId], *, more: bool = False) -> None:
    """Let a campaign wait for `others`: with `more` besides those that it waits for, else in their place.

    Raises
    ------
    UsageError
        If one of them does not exist, or waits for the campaign.
    """
    others = tuple(dict.fromkeys(others))
    for other in others:
        check_campaign(tx, other)
        if way := _way(tx, other, campaign):
            circle = " after ".join(map(str, [campaign, *way]))
            what = "itself" if other == campaign else f"campaign {other}, which waits for it: {circle}"
            raise UsageError(f"campaign {campaign} cannot wait for {what}")
    if not more:
        tx.execute(_LEAVE_WAITS, (campaign, id_list(others)))
        tx.caches.waits.pop(campaign, None)
    tx.settle()
    for other in others:
        met = _is_done(tx, other)
        tx.execute(_WAIT, (campaign, other, met))
        tx.caches.any_wait = True
        if not met:
            tx.caches.waits.setdefault(campaign, set()).add(other)


def _way(tx: Transaction, first: int, last: int) -> list[int]:
    """Return the campaigns from `first` to `last` each of which waits for the next one; empty if it does not."""
    came_from: dict[int, int] = {first: 0}
    queue = [first]
    while queue:
        at = queue.pop()
        if at == last:
            way = [at]
            while before := came_from[way[-1]]:
                way.append(before)
            return way[::-1]
        new = [one for one in tx.caches.waits.get(at, ()) if one not in came_from]
        came_from.update(dict.fromkeys(new, at))
        queue += new
    return []


def waiting_for(tx: Transaction, campaign: int) -> list[int]:
    """Return the campaigns that wait for this one."""
    return sorted(one for one, needs in tx.caches.waits.items() if campaign in needs)


def meet_if_done(tx: Transaction, campaign: CampaignId) -> None:
    """Let those go on that wait for a campaign if all tasks of it are DONE."""
    if not tx.caches.waits or not (waiting := waiting_for(tx, campaign)):
        return
    tx.settle()
    if not _is_done(tx, campaign):
        return
    tx.execute(_MEET, (campaign,))
    for one in waiting:
        tx.caches.waits[one].discard(campaign)
        if not tx.caches.waits[one]:
            del tx.caches.waits[one]
    tx.wakeups.tasks_ready()
    tx.wakeups.changed()


def _is_done(tx: Transaction, campaign: CampaignId) -> bool:
    return bool(tx.execute(_ALL_DONE, (campaign,)).fetchone()[0])


def forget_waits(tx: Transaction, campaign: CampaignId) -> None:
    """Forget what a campaign that is deleted has waited for, and who has waited for it."""
    tx.execute(_FORGET, (campaign,))
