"""Campaigns: finding them by id, key or name, sharing and renaming them."""

from collections.abc import Iterable

from pilotmtc.errors import UsageError
from pilotmtc.model import Awaited, Campaign, CampaignId, Learned
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.campaigns import (
    Campaigns,
    GetCampaigns,
    RenameCampaign,
    ShareCampaign,
)
from pilotmtc.states import TaskState
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.requests.handlers import handles

DELETED = "deleted "  # how the key of a campaign begins that is being deleted
_NAMED = 10  # campaigns that an error lists
# Campaigns by a condition, newest first, each with the template of its first task.
_CAMPAIGNS = """SELECT id, key, name, created_at, received, sealed, own_pilots, on_hold, max_running, known,
    start_rate, (SELECT template_id FROM task WHERE task.id = campaign.first_id) FROM campaign
    WHERE deleted_at IS NULL AND ({}) ORDER BY id DESC"""
_TALLIES = f"SELECT campaign_id, state, n FROM tally WHERE campaign_id {IN_LIST} AND n != 0 ORDER BY state"
# What campaigns wait for, or have waited for, with how many tasks there have not ended, and have not ended well.
_AWAITED = f"""SELECT a.campaign_id, a.needs_id, c.name, a.met,
    (SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = c.id AND state < {TaskState.DONE:d}),
    (SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = c.id AND state > {TaskState.DONE:d}), c.sealed
    FROM campaign_after AS a JOIN campaign AS c ON c.id = a.needs_id WHERE a.campaign_id {IN_LIST} ORDER BY 1, 2"""
_LEARNED = f"""SELECT campaign_id, resources_id, grown_id, enough, learned_at FROM growth
    WHERE campaign_id {IN_LIST} AND learned_at IS NOT NULL ORDER BY learned_at"""
_EXACT = "SELECT id FROM campaign WHERE name = ? AND deleted_at IS NULL ORDER BY id DESC"
_MATCHING = "SELECT id FROM campaign WHERE name GLOB ? AND deleted_at IS NULL ORDER BY id DESC"
_NAMES = "SELECT DISTINCT name FROM campaign WHERE name != '' AND deleted_at IS NULL ORDER BY id DESC LIMIT ?"
_RENAME = "UPDATE campaign SET name = ? WHERE id = ?"
_SHARE = "UPDATE campaign SET own_pilots = 0 WHERE id = ? AND own_pilots = 1"
HALTED = 2  # in place of 1: on hold because of its failures
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
    awaited: dict[int, list[Awaited]] = {}
    if tx.caches.any_wait:
        for id_, needs, name, met, left, bad, sealed in tx.execute(_AWAITED, (id_list(counts),)):
            awaited.setdefault(id_, []).append(Awaited(needs, name, bool(met), left, bad, bool(sealed)))
    learned: dict[int, list[Learned]] = {}
    if growing := tx.caches.growing & counts.keys():
        for id_, before, after, tasks, at in tx.execute(_LEARNED, (id_list(growing),)).fetchall():
            known = tx.caches.resources.get(before), tx.caches.resources.get(after)
            learned.setdefault(id_, []).append(Learned(*known, tasks, at))
    return tuple(
        [
            Campaign(
                id_, key, name, created_at, received, bool(sealed), counts[id_], bool(own),
                () if template is None else tx.caches.templates.get(template).command, hold != 0, hold == HALTED,
                most, known, rate, tuple(awaited.get(id_, ())), tuple(learned.get(id_, ())),
            )
            for id_, key, name, created_at, received, sealed, own, hold, most, known, rate, template in rows
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
    """Check that a new name of a campaign cannot be taken for an id, or for the names of several.

    Raises
    ------
    UsageError
        If it can.
    """
    if name.isdecimal():
        raise UsageError(f"a campaign cannot be called {name!r}, which would be taken for a campaign's number")
    if set("*?") & set(name):
        raise UsageError(f"a campaign cannot be called {name!r}: * and ? would mean other campaigns, too")


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
