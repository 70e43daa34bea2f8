"""What a campaign's tasks begin with, after some of them have lacked it: what growth has taught.

When an attempt lacks memory or time and the next one has more, that is noted for the campaign, the template, and the
resources of before. Once enough tasks have been DONE with so much more, all tasks that have not begun, and those that
come later, begin with it; many of them slice by slice, so that other requests need not wait.
"""

from collections.abc import Sequence

from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import ATTEMPT_BITS
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import Transaction

ENOUGH = 3  # tasks that were DONE with more; and there must be more of them than of those that were DONE with less
_NOTE = "INSERT OR IGNORE INTO growth VALUES (?, ?, ?, ?, 0, 0, NULL, NULL)"
_KINDS = f"SELECT template_id, resources_id, count(*) FROM task WHERE id {IN_LIST} GROUP BY 1, 2"
_GROWTHS = "SELECT template_id, resources_id, grown_id, learned_at IS NOT NULL FROM growth WHERE campaign_id = ?"
_COUNT = """UPDATE growth SET enough = enough + ?, less = less + ?
    WHERE campaign_id = ? AND template_id = ? AND resources_id = ? AND learned_at IS NULL"""
_LEARN = f"""UPDATE growth SET learned_at = ?, raised_to = 0
    WHERE campaign_id = ? AND learned_at IS NULL AND enough >= {ENOUGH} AND enough > less"""
_FORGET = "DELETE FROM growth WHERE campaign_id = ?"
_TO_RAISE = """SELECT template_id, resources_id, raised_to FROM growth
    WHERE campaign_id = ? AND raised_to IS NOT NULL LIMIT 1"""
_RAISED = "UPDATE growth SET raised_to = ? WHERE campaign_id = ? AND template_id = ? AND resources_id = ?"
_IDS = "SELECT first_id, last_id FROM campaign WHERE id = ?"
_RAISE = f"""UPDATE task SET resources_id = ? WHERE id > ? AND id <= ? AND campaign_id = ? AND template_id = ?
    AND resources_id = ? AND state IN ({TaskState.WAITING:d}, {TaskState.READY:d})"""
_WINDOW = 20_000  # ids: some 10 ms


def note_growth(tx: Transaction, campaign: int, template: int, before: int, after: int) -> None:
    """Note that a task has other resources after an attempt that lacked some."""
    tx.execute(_NOTE, (campaign, template, before, after))
    tx.caches.growing.add(campaign)


def note_done(tx: Transaction, campaign: int, attempts: Sequence[int]) -> None:
    """Note that tasks of a campaign are DONE; and what this teaches."""
    if campaign not in tx.caches.growing:
        return
    tasks = [attempt >> ATTEMPT_BITS for attempt in attempts]
    growths = {(template, after): before for template, before, after, _ in tx.execute(_GROWTHS, (campaign,))}
    for template, resources, n in tx.execute(_KINDS, (id_list(tasks),)).fetchall():
        tx.execute(_COUNT, (0, n, campaign, template, resources))
        at, seen = resources, {resources}
        while (before := growths.get((template, at))) is not None and before not in seen:  # less would not have done
            tx.execute(_COUNT, (n, 0, campaign, template, before))
            at = before
            seen.add(before)
    if tx.execute(_LEARN, (tx.clock.now(), campaign)).rowcount:
        tx.caches.raising.add(campaign)
        raise_some(tx, campaign)
        tx.wakeups.changed()


def learned(tx: Transaction, campaign: int) -> dict[tuple[int, int], int]:
    """Return what new tasks of a campaign begin with, by their templates and what they ask for."""
    if campaign not in tx.caches.growing:
        return {}
    rows = tx.execute(_GROWTHS, (campaign,))
    known: dict[tuple[int, int], int] = {(template, before): after for template, before, after, is_so in rows if is_so}
    found = {}
    for (template, before), after in known.items():
        seen, last = {before}, after
        while last not in seen and (template, last) in known:  # what was learned of what was learned
            seen.add(last)
            last = known[template, last]
        found[template, before] = last
    return found


def raise_some(tx: Transaction, campaign: int) -> None:
    """Give the next tasks of a campaign that have not begun what was learned that they need."""
    row = tx.execute(_TO_RAISE, (campaign,)).fetchone()
    if row is None:
        tx.caches.raising.discard(campaign)
        return
    template, before, last = row
    after = learned(tx, campaign)[template, before]
    first, end = tx.execute(_IDS, (campaign,)).fetchone()
    low = max(last, first - 1)
    high = min(low + _WINDOW, end)
    if tx.execute(_RAISE, (after, low, high, campaign, template, before)).rowcount:
        tx.wakeups.tasks_ready()
    tx.execute(_RAISED, (high if high < end else None, campaign, template, before))
    if high >= end and tx.execute(_TO_RAISE, (campaign,)).fetchone() is None:
        tx.caches.raising.discard(campaign)


def forget_growth(tx: Transaction, campaign: int) -> None:
    """Forget what the tasks of a campaign have taught that is deleted."""
    tx.execute(_FORGET, (campaign,))
