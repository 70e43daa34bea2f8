"""Pieces of SQL that statements are made of."""

from collections.abc import Iterable
from enum import IntEnum

IN_LIST = "IN (SELECT value FROM json_each(?))"  # one of the ids of an `id_list`


def id_list(ids: Iterable[int]) -> str:
    """Return ids as the JSON array that ``json_each(?)`` reads."""
    return "[" + ",".join(map(str, ids)) + "]"


def in_states(states: Iterable[IntEnum]) -> str:
    """Return the condition that a state is one of these; the column goes before it."""
    return f"IN ({', '.join(str(int(state)) for state in sorted(states))})"
