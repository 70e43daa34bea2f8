"""Whether a task fits in the pilots of a run; if not, why and what to do."""

import math
import os
from collections.abc import Mapping

from msgspec import structs

from pilotmtc.agent.node import allowance
from pilotmtc.errors import UsageError
from pilotmtc.model import PilotDescription, Resources
from pilotmtc.protocol.client.maintenance import GetLimits
from pilotmtc.resources.amounts import UNKNOWN, Amounts, shares
from pilotmtc.resources.fit import Capacity, Lack, Reason, TaskRequest, fit, ranks_on
from pilotmtc.resources.kinds import CORES
from pilotmtc.session.link import StoreLink

_MANY = 1_000_000


def limits_for(link: StoreLink, needs: Resources) -> dict[str, float]:
    """Return the store's limits, which concern only tasks with named resources."""
    if not needs.named:
        return {}
    return {limit.name: limit.amount for limit in link.call(GetLimits()).limits}


def room_for(needs: Resources, pilot: PilotDescription, limits_of_store: Mapping[str, float]) -> int | None:
    """Return how many such tasks run at a time in such a pilot; None if that is not known here."""
    if pilot.scheduler and not pilot.cores:
        return None
    need = TaskRequest.of(structs.replace(needs, ranks=_MANY, ranks_per_node=0), limits_of_store).need
    room = ranks_on(need, _node(pilot)) * pilot.nodes // needs.ranks
    units = [shares(limits_of_store[name]) // (shares(amount) * needs.ranks)
             for name, amount in needs.named.items() if amount and name in limits_of_store]  # fmt: skip
    return min([room, *units])


def check_fit(needs: Resources, pilot: PilotDescription, limits_of_store: Mapping[str, float]) -> None:
    """Raise `UsageError` if it is certain that a task with these needs can never run in such a pilot."""
    units = {name: shares(amount) for name, amount in limits_of_store.items()}
    capacity = Capacity(((pilot.nodes, _node(pilot)),), pilot.walltime_s or math.inf, units)
    lack = fit(TaskRequest.of(needs, units), capacity)
    if lack is not None:
        raise UsageError(_lacking(lack, needs, pilot))


def _node(pilot: PilotDescription) -> Amounts:
    """Return what each node of such a pilot has for tasks."""
    # Only this machine can be looked at; how large the nodes of a scheduler are is not known yet.
    unknown = UNKNOWN if pilot.scheduler else 0
    cores = pilot.cores or unknown or allowance.cores(len(os.sched_getaffinity(0)), os.environ)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = pilot.memory_bytes or unknown or allowance.memory(whole, os.environ)
    return Amounts.of(cores, pilot.gpus, memory, pilot.named)


def _lacking(lack: Lack, needs: Resources, pilot: PilotDescription) -> str:
    """Return what a task lacks in such a pilot, and what to do."""
    kind = lack.of
    if kind is not None and lack.reason is Reason.LIMIT:
        return (
            f"a task needs {kind.words(lack.needs)}, and no more than {kind.typed(lack.has)} may be in use at a time: "
            f"raise that with pilotmtc store limit {kind.name}={lack.needs:g}"
        )
    if kind is not None:
        limited = pilot.cores if kind is CORES else pilot.memory_bytes
        whose = "this machine" if kind.all_by_default and not limited else "the pilot"
        remedy = f"reduce --{kind.name}" if kind.all_by_default else f"give it {kind.option(lack.needs, 'pilot-')}"
        if kind.of_users and not lack.has:
            remedy += f", or limit it in the whole store with pilotmtc store limit {kind.name}=N"
        return f"a task needs {kind.words(lack.needs)}, and {whose} has {kind.typed(lack.has)}: {remedy}"
    if lack.reason is Reason.RANKS_PER_NODE:
        return f"a task needs room for {lack.needs} ranks a node, and the pilot has room for {lack.has}: ask for fewer"
    if lack.reason is Reason.RANKS:
        of = f"{lack.needs} rank{'s' * (lack.needs > 1)} of {needs.cores} core{'s' * (needs.cores > 1)}"
        return (
            f"a task needs {of}, and the pilot has room for {lack.has}: ask for fewer with --ranks, or for more nodes"
        )
    return "a task's time limit or expected duration, with its grace, is longer than the pilot's walltime"
