"""What pilots reveal about a site: how large its nodes are, and which pilots will never start. Pure."""

import math
import re
from collections.abc import Sequence

from pilotmtc.model import Pilot, Resources
from pilotmtc.resources.amounts import UNKNOWN, Amounts
from pilotmtc.resources.fit import Capacity, TaskRequest, fit
from pilotmtc.resources.kinds import CORES, GPUS, named
from pilotmtc.states import PilotState
from pilotmtc.units import format_memory

# SLURM's reasons for which a job would wait forever.
_NEVER = {
    "PartitionNodeLimit": "it asks for more nodes than its queue has or allows",
    "PartitionTimeLimit": "its walltime is longer than its queue allows",
    "BadConstraints": "no node has what it asks for",
    "AssocMaxWallDurationPerJobLimit": "its walltime is longer than its account allows",
    "QOSMaxWallDurationPerJobLimit": "its walltime is longer than its QOS allows",
    "AssocMaxNodePerJobLimit": "it asks for more nodes than its account allows",
    "QOSMaxNodePerJobLimit": "it asks for more nodes than its QOS allows",
    "AssocMaxCpuPerJobLimit": "it asks for more cores than its account allows",
    "QOSMaxCpuPerJobLimit": "it asks for more cores than its QOS allows",
    "AssocMaxMemPerJob": "it asks for more memory than its account allows",
    "QOSMaxMemoryPerJob": "it asks for more memory than its QOS allows",
    "AssocMaxGRESPerJob": "it asks for more GPUs than its account allows",
    "QOSMaxGRESPerJob": "it asks for more GPUs than its QOS allows",
    "InvalidAccount": "its account does not exist",
    "InvalidQOS": "its QOS does not exist",
    "ReservationDeleted": "its reservation was deleted",
}


# How such reasons begin in PBS, and in our dialects for schedulers that give none.
_NEVER_WORDS = re.compile(r"\bcan never run\b[:\s]*", re.IGNORECASE)


def why_never(pilot: Pilot) -> str:
    """Return why a pilot will wait in its queue forever; empty if it may start."""
    if pilot.state is not PilotState.PENDING:
        return ""
    if found := _NEVER_WORDS.search(pilot.reason):
        return pilot.reason[found.end() :].strip() or "its scheduler says so"
    return _NEVER.get(pilot.reason, "")


def never_starts(pilot: Pilot) -> str:
    """Return why a pilot will wait in its queue forever, and what to do; empty if it may start."""
    why = why_never(pilot)
    if not why:
        return ""
    return f"it will never start: {why}; cancel it (pilotmtc pilot cancel {pilot.id}) and ask for less"


def cores_of(pilot: Pilot) -> int:
    """Return the cores of a pilot's largest node; 0: not known yet."""
    return pilot.node_cores or pilot.cores // max(pilot.nodes, 1) or pilot.description.cores


def capacity_of(pilot: Pilot, now: float) -> Capacity:
    """Return a pilot's capacity for tasks, as far as it is known."""
    asked = pilot.description
    memory = pilot.node_memory_bytes or asked.memory_bytes
    node = Amounts.of(cores_of(pilot) or UNKNOWN, asked.gpus, memory or UNKNOWN, asked.named)
    left_s = math.inf
    if asked.walltime_s:
        left_s = asked.walltime_s - (now - pilot.started_at if pilot.started_at is not None else 0.0)
    return Capacity(((max(pilot.nodes, asked.nodes, 1), node),), left_s)


def beyond(need: Resources, pilots: Sequence[Pilot]) -> str:
    """Return what a task needs more of than the largest known node has; empty if nothing."""
    cores = max(
        (one.node_cores for one in pilots if one.description.scheduler and not one.description.cores), default=0
    )
    memory = max((one.node_memory_bytes for one in pilots if not one.description.memory_bytes), default=0)
    rank = Resources(cores=need.cores, memory_bytes=need.memory_bytes)
    lack = fit(TaskRequest.of(rank), Capacity(((1, Amounts.of(cores or UNKNOWN, 0, memory or UNKNOWN, {})),)))
    if lack is None:
        return ""
    if lack.of is CORES:
        return f"no node seen here has so many cores: the largest has {cores}"
    return f"no node seen here has so much memory: the largest has {format_memory(memory)}"


def sized(need: Resources, pilots: Sequence[Pilot]) -> str:
    """Return options of ``pilot submit`` for a pilot in which such a task fits."""
    seen = [one for one in pilots if one.description.scheduler and cores_of(one)]
    largest = max(seen, key=cores_of, default=None)
    whole = largest is not None and not largest.description.cores
    cores = max(need.cores, cores_of(largest) if largest is not None and need.ranks > 1 else 0)
    words = ""
    if need.ranks > 1 and (largest is not None or need.ranks_per_node):
        each = min(cores // need.cores, need.ranks) if largest is not None else need.ranks_per_node
        nodes = math.ceil(need.ranks / min(each, need.ranks_per_node or each))
        words += f" --nodes {nodes}" if nodes > 1 else ""
    if cores > 1 and not (whole and need.ranks > 1):
        words += f" {CORES.option(cores)}"
    if need.gpus:
        words += f" {GPUS.option(max(1, round(need.gpus)))}"
    words += "".join(f" {named(name).option(amount)}" for name, amount in need.named.items() if amount)
    lasts_s = max(need.time_limit_s, need.expected_s)
    if lasts_s and any(0 < one.description.walltime_s < lasts_s for one in pilots):
        words += f" --walltime {math.ceil(lasts_s)}s"
    return words
