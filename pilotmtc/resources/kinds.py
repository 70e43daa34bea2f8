"""The table of kinds of resources: their options, how amounts are read, and their words in messages. Pure.

Cores and GPUs have numbers, and memory has a limit: each has a field in the records, and code of its own. All other
kinds are only counted, by name, in `Resources.named` and `PilotDescription.named`. A row in `COUNTED` gives such a kind
a unit, and options ``--NAME`` for tasks and pilots; nothing else needs to know it. Without a row, users give amounts of
a named resource as plain numbers, with ``--resource NAME=N``.
"""

import shlex
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from pilotmtc.units import parse_memory, type_memory


class ResourceKind(NamedTuple):
    """A kind of resource.

    Attributes
    ----------
    name
        Its name in options and campaign files.
    words
        Returns an amount in words, such as ``2 GPUs``.
    typed
        Returns an amount as users type it.
    parse
        Returns the amount in a text with a unit; None: amounts are plain numbers.
    all_by_default
        Whether pilots have all of it that their nodes have, unless the user limits it; otherwise they have none.
    of_users
        Whether a user has named it, so that it has no options of its own.
    metavar, task_help, pilot_help
        For its options on the command line.
    """

    name: str
    words: Callable[[float], str]
    typed: Callable[[float], str] = "{:g}".format
    parse: Callable[[str], float] | None = None
    all_by_default: bool = False
    of_users: bool = False
    metavar: str = "N"
    task_help: str = ""
    pilot_help: str = ""

    def option(self, amount: float, prefix: str = "") -> str:
        """Return the option for an amount as users type it; `prefix` comes before its name."""
        if self.of_users:
            return f"--{prefix}resource {shlex.quote(f'{self.name}={self.typed(amount)}')}"
        return f"--{prefix}{self.name} {self.typed(amount)}"


def _plural(noun: str) -> Callable[[float], str]:
    return lambda amount: f"{amount:g} {noun}{'s' * (amount != 1)}"


def _typed_size(amount: float) -> str:
    return type_memory(int(amount))


def sized(name: str, task_help: str, pilot_help: str, *, all_by_default: bool = False) -> ResourceKind:
    """Return a kind that is measured in bytes."""
    return ResourceKind(
        name, lambda amount: f"{_typed_size(amount)} of {name}", _typed_size, parse_memory, all_by_default,
        metavar="SIZE", task_help=task_help, pilot_help=pilot_help,
    )  # fmt: skip


CORES = ResourceKind("cores", _plural("core"), all_by_default=True)
GPUS = ResourceKind("gpus", _plural("GPU"))
MEMORY = sized(
    "memory", "Memory per task, which is also its limit: 512M, 2G.", "Memory per node: 512M, 2G  [default: all]",
    all_by_default=True,
)  # fmt: skip

_ROWS: tuple[ResourceKind, ...] = ()
COUNTED = {kind.name: kind for kind in _ROWS}


def named(name: str) -> ResourceKind:
    """Return the kind of a named resource."""
    return COUNTED.get(name) or _of_users(name)


@lru_cache(1000)
def _of_users(name: str) -> ResourceKind:
    return ResourceKind(name, lambda amount: f"{amount:g} of {name}", of_users=True)
