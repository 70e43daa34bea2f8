"""Packing of tasks on a node: which cores and GPUs each one gets, and how much of the rest. Pure."""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pilotmtc.model import Resources
from pilotmtc.resources.amounts import SHARE, Amounts, Need, Sum, shares
from pilotmtc.resources.fit import ranks_on


class Slot(NamedTuple):
    """What a rank holds on its node: indexes of cores, indexes of GPUs with the share of each, and amounts."""

    cores: tuple[int, ...]
    gpus: tuple[tuple[int, int], ...] = ()
    memory: int = 0
    named: tuple[tuple[str, int], ...] = ()
    node: str = ""


class Node:
    """The cores, GPUs, memory and named resources of one node, and which of them are free.

    Taking and giving cost O(cores of the task * log) and O(GPUs of the node), never O(slots).

    Parameters
    ----------
    cores
        Indexes of the cores that may be used. Low ones are used first.
    gpus
        Number of GPUs.
    memory
        Bytes that tasks may reserve.
    named
        Amounts of named resources.
    name
        The node's.
    """

    def __init__(
        self,
        cores: Iterable[int],
        gpus: int = 0,
        memory: int = 0,
        named: Mapping[str, float] | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self._free = sorted(cores)
        self._gpu = [SHARE] * gpus
        self.cores = len(self._free)
        self.gpus = gpus
        self.memory = memory
        self.named = dict(named or {})
        self.free_memory = memory
        self.free_named = {name: shares(amount) for name, amount in self.named.items()}
        self._total_named = dict(self.free_named)
        self._single = {core: Slot((core,), node=name) for core in self._free}

    @property
    def free_cores(self) -> int:
        """Number of free cores."""
        return len(self._free)

    @property
    def free_gpus(self) -> int:
        """Sum of free shares of GPUs, in millionths."""
        return sum(self._gpu)

    @property
    def total(self) -> Resources:
        """The whole node as `Resources`."""
        return Resources(cores=self.cores, gpus=float(self.gpus), memory_bytes=self.memory, named=self.named)

    @property
    def amounts(self) -> Amounts:
        """The amounts of the whole node."""
        return Amounts(self.cores, ((SHARE, self.gpus),), self.memory, self._total_named)

    def capacity(self, need: Need) -> int:
        """Return how many ranks of `need` fit on the empty node, but no more than the task wants on one."""
        return ranks_on(need, self.amounts)

    def room(self, need: Need) -> int:
        """Return how many ranks of `need` fit on the node now, but no more than the task wants on one."""
        gpus = tuple([(free, 1) for free in self._gpu]) if need.gpus else ()
        return ranks_on(need, Amounts(len(self._free), gpus, self.free_memory, self.free_named))

    def spare(self, head: Need, others: Sum, need: Need) -> bool:
        """Return whether `head` could still start on the node if it had only `others` and `need`."""
        if head.cores + others.cores + need.cores > self.cores:
            return False
        if need.plain:
            return True
        # A share may be on a GPU of its own, so it counts as a whole one if the head needs GPUs as well.
        whole = -(-need.gpus // SHARE) * SHARE
        if need.gpus and head.gpus and head.gpus + others.gpus + whole > self.gpus * SHARE:
            return False
        if head.memory + others.memory + need.memory > self.memory:
            return False
        wanted = dict(head.named)
        return all(
            amount + wanted.get(name, 0) + others.named.get(name, 0) <= self._total_named.get(name, 0)
            for name, amount in need.named
        )

    def take(self, need: Need) -> Slot | None:
        """Reserve a slot for one rank of `need`; return None if it does not fit now."""
        free = self._free
        count = need.cores
        if count > len(free):
            return None
        if need.plain:
            if count == 1:
                return self._single[heapq.heappop(free)]
            return Slot(tuple([heapq.heappop(free) for _ in range(count)]), node=self.name)
        if need.memory > self.free_memory:
            return None
        if any(amount > self.free_named.get(name, 0) for name, amount in need.named):
            return None
        gpus = self._choose(need.gpus)
        if gpus is None:
            return None
        for index, share in gpus:
            self._gpu[index] -= share
        self.free_memory -= need.memory
        for name, amount in need.named:
            self.free_named[name] -= amount
        return Slot(tuple([heapq.heappop(free) for _ in range(count)]), gpus, need.memory, need.named, self.name)

    def _choose(self, gpus: int) -> tuple[tuple[int, int], ...] | None:
        if not gpus:
            return ()
        if gpus < SHARE:  # the fullest GPU that has room, so that whole GPUs stay free
            best = min((free, index) for index, free in enumerate([*self._gpu, SHARE + 1]) if free >= gpus)
            return None if best[0] > SHARE else ((best[1], gpus),)
        whole = [index for index, free in enumerate(self._gpu) if free == SHARE]
        count = gpus // SHARE
        return tuple((index, SHARE) for index in whole[:count]) if len(whole) >= count else None

    def give(self, slot: Slot) -> None:
        """Take `slot` back."""
        for core in slot.cores:
            heapq.heappush(self._free, core)
        for index, share in slot.gpus:
            self._gpu[index] += share
        self.free_memory += slot.memory
        for name, amount in slot.named:
            self.free_named[name] += amount


def core_list(cores: tuple[int, ...]) -> str:
    """Return core indexes as ``0-3,8``."""
    parts: list[str] = []
    start = end = -2
    for core in [*sorted(cores), -1]:
        if core == end + 1 and core >= 0:
            end = core
            continue
        if start >= 0:
            parts.append(str(start) if start == end else f"{start}-{end}")
        start = end = core
    return ",".join(parts)
