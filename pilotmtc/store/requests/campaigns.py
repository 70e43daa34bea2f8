"""Campaigns: finding them by id, key or name, sharing, renaming and holding them."""

from collections.abc import Iterable

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.campaigns import (
    Campaigns,
    GetCampaigns,
    HoldCampaign,
    RenameCampaign,
    SetHalt,
    SetMaxRunning,
    ShareCampaign,
)
from pilotmtc.states import TaskState
from pilotmtc.store.file.bounds import MOST
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.requests.handlers import handles

DELETED = "deleted "  # how the key of a campaign begins that is being deleted
_NAMED = 10  # campaigns that an error lists
# Campaigns by a condition, newest first, each with the template of its first task.
_CAMPAIGNS = """SELECT id, key, name, created_at, received, sealed, own_pilots, on_hold, max_running, known,
    (SELECT template_id FROM task WHERE task.id = campaign.first_id) FROM campaign
    WHERE deleted_at IS NULL AND ({}) ORDER BY id DESC"""
_TALLIES = f"SELECT campaign_id, state, n FROM tally WHERE campaign_id {IN_LIST} AND n != 0 ORDER BY state"
_EXACT = "SELECT id FROM campaign WHERE name = ? AND deleted_at IS NULL ORDER BY id DESC"
_MATCHING = "SELECT id FROM campaign WHERE name GLOB ? AND deleted_at IS NULL ORDER BY id DESC"
_NAMES = "SELECT DISTINCT name FROM campaign WHERE name != '' AND deleted_at IS NULL ORDER BY id DESC LIMIT ?"
_RENAME = "UPDATE campaign SET name = ? WHERE id = ?"
_SHARE = "UPDATE campaign SET own_pilots = 0 WHERE id = ? AND own_pilots = 1"
_HALTED = 2
_HOLD = "UPDATE campaign SET on_hold = 1 WHERE id = ? AND on_hold = 0"
_RELEASE = "UPDATE campaign SET on_hold = 0, halt_failed = 0, halt_share = 0 WHERE id = ? AND on_hold != 0"
_SET_HALT = "UPDATE campaign SET halt_failed = ?, halt_share = ? WHERE id = ?"
# Halt a campaign if enough of its tasks have failed.
_HALT = f"""UPDATE campaign SET on_hold = {_HALTED} WHERE id = ?1 AND on_hold = 0 AND (
    SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = ?1 AND state = {TaskState.FAILED:d}) >= min(
        iif(halt_failed > 0, halt_failed, 1e18), iif(halt_share > 0 AND sealed, max(1, halt_share * received), 1e18))"""
_SET_MAX_RUNNING = "UPDATE campaign SET max_running = ? WHERE id = ?"
_HAS_CAMPAIGN = "SELECT 1 FROM campaign WHERE id = ? AND deleted_at IS NULL"


@handles(GetCampaigns)
def get_campaigns(tx: Transaction, request: GetCampaigns) -> Campaigns:
    """Return campaigns with their counts."""
    if request.name is not None:
        return Campaigns(campaigns_where(tx, f"id {IN_LIST}", (id_list(campaigns_named(tx, request.name)),)))
    condition = "(?1 IS NULL OR id = ?1) AND (?2 IS NULL OR key = ?2)"
    return Campaigns(campaigns_where(tx, condition, (request.id, request.key)))


def campaigns_where(tx: Transaction, condition: str, values: tuple[object, ...]) -> tuple[Campaign, ...]:
    """Return campaigns that meet an SQL condition, newest first."""
    rows = tx.execute(_CAMPAIGNS.format(condition), values).fetchall()
    counts: dict[int, dict[TaskState, int]] = {id_: {} for id_, *_ in rows}
    for id_, state, n in tx.execute(_TALLIES, (id_list(counts),)):
        counts[id_][TASK_STATES[state]] = n
    return tuple(
        [
            Campaign(
                id_, key, name, created_at, received, bool(sealed), counts[id_], bool(own),
                () if template is None else tx.caches.templates.get(template).command, hold != 0, hold == _HALTED,
                most, known,
            )
            for id_, key, name, created_at, received, sealed, own, hold, most, known, template in rows
        ]
    )  # fmt: skip


def campaigns_named(tx: Transaction, name: str) -> list[CampaignId]:
    """Return the campaigns with a name, which may contain ``*`` and ``?``; newest first.

    Raises
    ------
    UsageError
        If there is none, or if several have the name although it contains neither.
    """
    found = [id_ for (id_,) in tx.execute(_EXACT, (name,))]
    if len(found) > 1:
        some = ", ".join(map(str, found[:_NAMED])) + ("..." if len(found) > _NAMED else "")
        raise UsageError(f"{len(found)} campaigns are called {name!r}: give a number ({some}), or rename some")
    if not found and any(mark in name for mark in "*?"):
        found = [id_ for (id_,) in tx.execute(_MATCHING, (name.replace("[", "[[]"),))]
    if not found:
        raise UsageError(f"no campaign is called {name!r}: {_there_are(tx)}")
    return found


def _there_are(tx: Transaction) -> str:
    names = [name if name.isprintable() else repr(name) for (name,) in tx.execute(_NAMES, (_NAMED + 1,))]
    if not names:
        return "none has a name, so give a number of pilotmtc status"
    return f"there are {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"


def check_name(name: str) -> None:
    """Check that a new name of a campaign cannot be taken for an id.

    Raises
    ------
    UsageError
        If it can.
    """
    if name.isdecimal():
        raise UsageError(f"a campaign cannot be called {name!r}, which would be taken for a campaign's number")


def check_campaign(tx: Transaction, campaign: CampaignId) -> None:
    """Check that a campaign exists.

    Raises
    ------
    UsageError
        If it does not.
    """
    if not tx.execute(_HAS_CAMPAIGN, (campaign,)).fetchone():
        raise UsageError(f"there is no campaign {campaign} in this store")


@handles(RenameCampaign)
def rename(tx: Transaction, request: RenameCampaign) -> Done:
    """Give a campaign another name."""
    check_name(request.name)
    check_campaign(tx, request.campaign)
    tx.execute(_RENAME, (request.name, request.campaign))
    tx.wakeups.changed()
    return Done()


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


@handles(ShareCampaign)
def share(tx: Transaction, request: ShareCampaign) -> Changed:
    """Let any pilot work on the campaign."""
    check_campaign(tx, request.campaign)
    done = tx.execute(_SHARE, (request.campaign,)).rowcount
    tx.caches.share(request.campaign)
    if done:
        tx.wakeups.tasks_ready()
        tx.wakeups.changed()
    return Changed(done)


def ids_of(tx: Transaction, words: "Iterable[CampaignId | str]") -> tuple[CampaignId, ...]:
    """Return the ids of campaigns that are given by id or by name; see `campaigns_named`."""
    found: dict[CampaignId, None] = {}
    for word in words:
        found.update(dict.fromkeys(campaigns_named(tx, word) if isinstance(word, str) else [word]))
    return tuple(found)
