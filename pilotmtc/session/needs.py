"""Options for what a task needs, for new tasks and for edits."""

from collections.abc import Callable, Mapping
from typing import Any

from pilotmtc.errors import UsageError
from pilotmtc.resources.amounts import LARGEST, check_amounts, check_gpus, check_ranks
from pilotmtc.resources.kinds import named
from pilotmtc.session.arguments import amount, by_name, number, whole


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
}


def check_needs(needs: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a value in `needs` is out of its bounds; missing ones are not checked."""
    if not 1 <= needs.get("cores", 1) <= LARGEST:
        raise UsageError(f"a task needs {needs['cores']} cores: give 1 or more")
    check_ranks(needs.get("ranks"), needs.get("ranks_per_node"))
    check_gpus(needs.get("gpus", 0.0))
    check_amounts("a task needs", needs.get("resources", {}))
