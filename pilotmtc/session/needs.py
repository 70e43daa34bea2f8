"""Options of tasks that new tasks and edits share: what they need, their limits, their environment."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pilotmtc.campaign.readers import first_signal
from pilotmtc.errors import UsageError
from pilotmtc.resources.amounts import LARGEST, check_amounts, check_gpus, check_ranks
from pilotmtc.resources.kinds import named
from pilotmtc.resources.retry import parse_causes, parse_factor
from pilotmtc.session.arguments import amount, by_name, number, path, several, text, whole, word
from pilotmtc.system.locale import current_directory
from pilotmtc.template import check_variable
from pilotmtc.units import parse_duration, parse_memory

T = TypeVar("T")


def read_named(name: str, value: object) -> dict[str, float]:
    """Return amounts of named resources: numbers, or texts with a unit such as ``"20G"`` for kinds that have one."""

    def read(where: str, key: str, item: object) -> float:
        parse = named(key).parse
        return float(parse(item)) if parse is not None and isinstance(item, str) else number(where, item)

    given = by_name(name, value, lambda _, item: item)
    return {key: read(f"{name}[{key!r}]", key, item) for key, item in given.items()}


READERS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("cores", "ranks", "ranks_per_node", "priority"), whole),
    "gpus": number,
    **dict.fromkeys(("memory", "time_limit", "expected"), amount),
    "resources": read_named,
    "retries": whole,
    **dict.fromkeys(("max_output", "grace", "backoff", "max_memory"), amount),
    **dict.fromkeys(("retry_on", "no_retry_on"), lambda name, value: about(name, parse_causes, value)),
    **dict.fromkeys(("retry_memory", "retry_time"), lambda name, value: about(name, parse_factor, value)),
    "signal_first": text,
    "env": lambda name, value: {check_variable(key): item for key, item in by_name(name, value, word).items()},
    "watch": lambda name, value: several(name, value, read_watched),
}
# How those are read further that have another form in the store.
PARSERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("memory", "max_memory", "max_output"), parse_memory),
    **dict.fromkeys(("time_limit", "expected", "grace", "backoff"), parse_duration),
    "signal_first": first_signal,
}
# The fields of `Resources` and `Template` that are called otherwise.
FIELDS = {
    "memory": "memory_bytes", "resources": "named", "time_limit": "time_limit_s", "expected": "expected_s",
    "grace": "grace_s", "retries": "max_retries", "backoff": "backoff_s", "max_memory": "max_memory_bytes",
    "max_output": "max_output_bytes",
}  # fmt: skip


def about(name: str, read: Callable[[Any], T], value: object) -> T:
    """Return what `read` makes of the value; its error begins with the option's name."""
    try:
        return read(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def read_watched(name: str, value: object) -> str:
    """Return the absolute path of a file to watch."""
    return os.path.normpath(os.path.join(current_directory(), os.path.expanduser(path(name, value))))


def check_needs(needs: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a value in `needs` is out of its bounds; missing ones are not checked."""
    if not 1 <= needs.get("cores", 1) <= LARGEST:
        raise UsageError(f"a task needs {needs['cores']} cores: give 1 or more")
    check_ranks(needs.get("ranks"), needs.get("ranks_per_node"))
    check_gpus(needs.get("gpus", 0.0))
    check_amounts("a task needs", needs.get("resources", {}))
