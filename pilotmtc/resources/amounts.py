"""What tasks need and what nodes have, in whole numbers.

Shares of GPUs and named resources are counted in millionths, so that a thousand times 0.1 taken and given back leaves
exactly what was there.
"""

from collections.abc import Container, Mapping
from typing import NamedTuple

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc.model import Resources

SHARE = 1_000_000
LEAST = 1 / SHARE  # the smallest amount that is not zero
LARGEST = 2**31 - 1
MOST_NAMED = 2**53  # whole numbers are exact up to here
UNKNOWN = 1 << 100  # more than any task needs: how much there is will be known later


def shares(amount: float) -> int:
    """Return `amount` in millionths, rounded, but at least 1 if it is not zero."""
    if amount == int(amount):  # exact, also for bytes
        return int(amount) * SHARE
    return max(round(amount * SHARE), 1)


def without(resources: Resources, names: Container[str]) -> Resources:
    """Return `resources` without the named resources in `names`."""
    named = {name: amount for name, amount in resources.named.items() if name not in names}
    return resources if len(named) == len(resources.named) else msgspec.structs.replace(resources, named=named)


class Need(NamedTuple):
    """What a rank needs on its node, the number of ranks, and of ranks per node. `plain`: it needs only cores."""

    cores: int
    gpus: int
    memory: int
    named: tuple[tuple[str, int], ...]
    plain: bool
    ranks: int = 1
    per_node: int = 0

    @classmethod
    def of(cls, resources: Resources) -> "Need":
        """Return the need for `resources`. More than one GPU is rounded up: only a single GPU can be shared."""
        gpus = shares(resources.gpus)
        if gpus > SHARE:
            gpus = -(-gpus // SHARE) * SHARE
        named = tuple((name, shares(amount)) for name, amount in sorted(resources.named.items()) if amount)
        plain = not gpus and not resources.memory_bytes and not named
        return cls(
            resources.cores, gpus, resources.memory_bytes, named, plain, resources.ranks, resources.ranks_per_node
        )

    def times(self, ranks: int) -> "Need":
        """Return the need of `ranks` ranks together, as one rank."""
        if ranks == 1:
            return self
        named = tuple((name, amount * ranks) for name, amount in self.named)
        return Need(self.cores * ranks, self.gpus * ranks, self.memory * ranks, named, self.plain)


class Amounts(NamedTuple):
    """What a node has, in total or free.

    Attributes
    ----------
    cores, memory
        May be `UNKNOWN`.
    gpus
        Free shares, each with the number of GPUs that have this share free.
    named
        Missing names count as 0.
    """

    cores: int
    gpus: tuple[tuple[int, int], ...]
    memory: int
    named: Mapping[str, int]

    @classmethod
    def of(cls, cores: int, gpus: int, memory: int, named: Mapping[str, float]) -> "Amounts":
        """Return the amounts of an empty node."""
        return cls(cores, ((SHARE, gpus),), memory, {name: shares(amount) for name, amount in named.items()})


class Sum:
    """A sum of needs, or what is left of a total."""

    __slots__ = ("cores", "count", "gpus", "memory", "named")

    def __init__(self) -> None:
        self.count = 0
        self.cores = 0
        self.gpus = 0
        self.memory = 0
        self.named: dict[str, int] = {}

    def add(self, need: Need, sign: int = 1) -> None:
        """Add `need` (`sign` 1) or subtract it (-1)."""
        self.count += sign
        sign *= need.ranks
        self.cores += sign * need.cores
        if not need.plain:
            self.gpus += sign * need.gpus
            self.memory += sign * need.memory
            for name, amount in need.named:
                self.named[name] = self.named.get(name, 0) + sign * amount

    def covers(self, need: Need) -> bool:
        """Return whether all ranks of `need` together are no more than this."""
        ranks = need.ranks
        if ranks * need.cores > self.cores:
            return False
        return need.plain or (
            ranks * need.gpus <= self.gpus
            and ranks * need.memory <= self.memory
            and all(ranks * amount <= self.named.get(name, 0) for name, amount in need.named)
        )

    def times(self, need: Need) -> int:
        """Return how many tasks with `need` are no more than this together."""
        ranks = need.ranks
        rooms = [self.cores // max(ranks * need.cores, 1)]
        if not need.plain:
            wanted = [(self.gpus, need.gpus), (self.memory, need.memory)]
            wanted += [(self.named.get(name, 0), amount) for name, amount in need.named]
            rooms += [have // (ranks * amount) for have, amount in wanted if amount]
        return max(min(rooms), 0)


def check_gpus(gpus: float) -> None:
    """Raise `UsageError` if a task cannot have this number of GPUs."""
    if 0 < gpus < LEAST:
        raise UsageError(f"a task needs {gpus:g} GPUs: give at least {LEAST:f} of one, or 0")
    if not 0 <= gpus <= LARGEST or (gpus > 1 and gpus != int(gpus)):
        raise UsageError(f"a task needs {gpus:g} GPUs: give a whole number, or a share of one such as 0.25")


def check_amounts(who: str, named: Mapping[str, float]) -> None:
    """Raise `UsageError` if an amount of a named resource is invalid."""
    for name, amount in named.items():
        if not 0 <= amount <= MOST_NAMED:
            raise UsageError(f"{who} {amount:g} of {name}: give a number from 0 to {MOST_NAMED}")
        if 0 < amount < LEAST:
            raise UsageError(f"{who} {amount:g} of {name}: give at least {LEAST:f}, or 0")


def check_ranks(ranks: int | None, ranks_per_node: int | None) -> None:
    """Raise `UsageError` if a number of ranks is invalid; None is not checked."""
    if ranks is not None and ranks < 1:
        raise UsageError(f"a task of {ranks} ranks: give 1 or more")
    if ranks_per_node is not None and ranks_per_node < 0:
        raise UsageError(f"a task with {ranks_per_node} ranks on a node: give 1 or more, or 0 for as many as fit")
