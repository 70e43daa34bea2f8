"""Whether a task fits, or why not: used for claims, packing, the first check of `run`, and explanations. Pure."""

import enum
import math
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from pilotmtc.model import Resources
from pilotmtc.resources.amounts import SHARE, Amounts, Need, without
from pilotmtc.resources.kinds import CORES, GPUS, MEMORY, ResourceKind, named


class Reason(enum.Enum):
    """Why a task does not fit."""

    AMOUNT = "too little of a resource on each node"
    RANKS_PER_NODE = "no node has room for its ranks"
    RANKS = "the nodes together do not have room for its ranks"
    TIME = "too little time"
    LIMIT = "too few units of a limit"


class Lack(NamedTuple):
    """What a task lacks: how much it needs, and how much there is (of an amount per node: on the best node).

    `of` is the resource for `Reason.AMOUNT` and `Reason.LIMIT`.
    """

    reason: Reason
    needs: float
    has: float
    of: ResourceKind | None = None


class TaskRequest(NamedTuple):
    """What a task needs.

    Attributes
    ----------
    need
        On its nodes.
    lasts_s
        The time that must be left when it starts.
    units
        Units of limits of the whole store, for all its ranks.
    """

    need: Need
    lasts_s: float = 0.0
    units: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, resources: Resources, limits: Container[str] = ()) -> "TaskRequest":
        """Return the request for `resources`; `limits` are the named resources that are limited in the whole store."""
        need = Need.of(resources)
        units = tuple((name, amount * need.ranks) for name, amount in need.named if name in limits)
        return cls(Need.of(without(resources, limits)) if units else need, resources.lasts_s, units)


class Capacity(NamedTuple):
    """What a pilot has: kinds of nodes with the number of each, the time left, and free units of the store's limits."""

    nodes: tuple[tuple[int, Amounts], ...]
    left_s: float = math.inf
    units: Mapping[str, int] = {}


def fit(request: TaskRequest, capacity: Capacity) -> Lack | None:
    """Return None if the task can run in a pilot that runs nothing else; otherwise what it lacks."""
    need = request.need
    room = 0
    for count, node in capacity.nodes:
        room += count * ranks_on(need, node)
        if room >= need.ranks:
            break
    else:
        return _lack(need, capacity, room)
    if request.lasts_s > capacity.left_s:
        return Lack(Reason.TIME, request.lasts_s, capacity.left_s)
    return lacking_units(request, capacity.units)


def lacking_units(request: TaskRequest, units: Mapping[str, int]) -> Lack | None:
    """Return None if there are enough units of all limits; otherwise the first one that the task lacks."""
    for name, amount in request.units:
        if amount > units.get(name, amount):
            return Lack(Reason.LIMIT, amount / SHARE, units[name] / SHARE, named(name))
    return None


def ranks_on(need: Need, node: Amounts) -> int:
    """Return how many ranks of `need` fit on a node, but no more than the task wants on one."""
    wanted = min(need.per_node or need.ranks, need.ranks)
    most = _most(need, node, wanted)
    return 0 if need.per_node and most < wanted else most


def _most(need: Need, node: Amounts, wanted: int) -> int:
    if need.plain:
        return min(wanted, node.cores // need.cores) if need.cores else wanted
    return min(wanted, *(room for _, _, _, room in _rooms(need, node)))


def _rooms(need: Need, node: Amounts) -> Iterator[tuple[ResourceKind | str, float, float, int]]:
    """Yield for each resource its kind or name, how much a rank needs, how much there is, and how many ranks fit."""
    if need.cores:
        yield CORES, need.cores, node.cores, node.cores // need.cores
    if need.gpus:
        if need.gpus < SHARE:
            room = sum(count * (free // need.gpus) for free, count in node.gpus)
        else:
            room = sum(count for free, count in node.gpus if free == SHARE) // (need.gpus // SHARE)
        yield GPUS, need.gpus / SHARE, sum(free * count for free, count in node.gpus) / SHARE, room
    if need.memory:
        yield MEMORY, need.memory, node.memory, node.memory // need.memory
    for name, amount in need.named:
        there = node.named.get(name, 0)
        yield name, amount / SHARE, there / SHARE, there // amount


def _lack(need: Need, capacity: Capacity, room: int) -> Lack:
    nodes = [node for _, node in capacity.nodes]
    for of_nodes in zip(*(_rooms(need, node) for node in nodes), strict=True):
        if not any(ranks for _, _, _, ranks in of_nodes):
            kind, needs, _, _ = of_nodes[0]
            has = max(has for _, _, has, _ in of_nodes)
            return Lack(Reason.AMOUNT, needs, has, named(kind) if isinstance(kind, str) else kind)
    wanted = min(need.per_node or need.ranks, need.ranks)
    most = max((_most(need, node, wanted) for node in nodes), default=0)
    if need.per_node and most < wanted:
        return Lack(Reason.RANKS_PER_NODE, wanted, most)
    return Lack(Reason.RANKS, need.ranks, room)
