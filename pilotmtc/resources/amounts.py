"""How much a task can ask for."""

from collections.abc import Mapping

from pilotmtc.errors import UsageError
from pilotmtc.resources.slots import LEAST

LARGEST = 2**31 - 1


def check_gpus(gpus: float) -> None:
    """Raise `UsageError` unless a task can be given so many GPUs."""
    if 0 < gpus < LEAST:
        raise UsageError(f"a task needs {gpus:g} GPUs: give at least {LEAST:f} of one, or 0")
    if not 0 <= gpus <= LARGEST or (gpus > 1 and gpus != int(gpus)):
        raise UsageError(f"a task needs {gpus:g} GPUs: give a whole number, or a share of one such as 0.25")


def check_amounts(who: str, named: Mapping[str, float]) -> None:
    """Raise `UsageError` unless there can be so much of each named resource."""
    for name, amount in named.items():
        if not 0 <= amount <= LARGEST:
            raise UsageError(f"{who} {amount:g} of {name}: give a number from 0 to {LARGEST}")
        if 0 < amount < LEAST:
            raise UsageError(f"{who} {amount:g} of {name}: give at least {LEAST:f}, or 0")


def check_ranks(ranks: int | None, ranks_per_node: int | None) -> None:
    """Raise `UsageError` unless a task can have so many ranks; None is not looked at."""
    if ranks is not None and ranks < 1:
        raise UsageError(f"a task of {ranks} ranks: give 1 or more")
    if ranks_per_node is not None and ranks_per_node < 0:
        raise UsageError(f"a task with {ranks_per_node} ranks on a node: give 1 or more, or 0 for as many as fit")
