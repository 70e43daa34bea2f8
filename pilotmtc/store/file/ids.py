"""Lists of ids as parameters of statements."""

from collections.abc import Iterable

IN_LIST = "IN (SELECT value FROM json_each(?))"


def id_list(ids: Iterable[int]) -> str:
    """Return ids as the JSON array that ``json_each(?)`` reads."""
    return "[" + ",".join(map(str, ids)) + "]"
