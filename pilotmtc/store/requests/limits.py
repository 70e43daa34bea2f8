"""Limits of named resources over all pilots: reading them, setting them, and what tasks that come back may have."""

from collections.abc import Iterable

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.maintenance import GetLimits, Limits, SetLimits
from pilotmtc.protocol.records import Limit
from pilotmtc.resources.amounts import SHARE, check_amounts
from pilotmtc.resources.fit import lacking_units
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.handlers import handles

_RESOURCES = f"SELECT id, resources_id, campaign_id FROM task WHERE id {IN_LIST} ORDER BY id"


@handles(GetLimits)
def get_limits(tx: Transaction, request: GetLimits) -> Limits:
    """Return all limits, as a reply."""
    return Limits(limits(tx))


def limits(tx: Transaction) -> tuple[Limit, ...]:
    """Return all limits, by name."""
    if not tx.limits.total:
        return ()
    in_use = tx.limits.in_use()
    return tuple([Limit(name, total / SHARE, in_use[name] / SHARE) for name, total in sorted(tx.limits.total.items())])


@handles(SetLimits)
def set_limits(tx: Transaction, request: SetLimits) -> Changed:
    """Set or remove limits, all of them or none."""
    if "" in request.amounts:
        raise UsageError("a limit needs the name of a resource")
    check_amounts("there cannot be", {name: amount for name, amount in request.amounts.items() if amount is not None})
    changed = sum(tx.limits.set(name, amount) for name, amount in request.amounts.items())
    if changed:
        tx.wakeups.tasks_ready()
    return Changed(changed)


def affordable(tx: Transaction, tasks: Iterable[int]) -> set[int]:
    """Return those of `tasks`, in order of id, that pilots may hold: limits have units for them, campaigns room."""
    if not tx.limits.total and not tx.caches.max_running:
        return set(tasks)
    free = tx.limits.free() if tx.limits.total else {}
    room: dict[int, float] = {}
    found = set()
    for task, resources, campaign in tx.execute(_RESOURCES, (id_list(tasks),)).fetchall():
        request = tx.limits.request(resources)
        if campaign not in room:
            room[campaign] = tx.may_start(campaign)
        if lacking_units(request, free) is None and room[campaign] > 0:
            found.add(task)
            room[campaign] -= 1
            for name, amount in request.units:
                free[name] -= amount
    return found
