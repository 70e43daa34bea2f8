"""The order of a campaign file's tables, from the names of their tasks and the names that they wait for.

A name may hold placeholders: ``fit-{seed}`` waits for the task ``fit-7`` when ``seed`` is 7. Tables are ordered by
whether a name *could* be the one that is waited for; the store holds each task to the very name.
"""

import heapq
from collections.abc import Sequence

from msgspec import Struct

Pattern = tuple[str | None, ...]  # literal pieces, and None for any text


class TableNames(Struct, frozen=True):
    """A table: the names of its tasks, and the names that they wait for."""

    name: Pattern | None
    after: tuple[Pattern, ...] = ()


class UnknownName(Exception):
    """No task has a name that is waited for; the attributes say which table and which of its names."""

    def __init__(self, table: int, which: int) -> None:
        super().__init__(table, which)
        self.table = table
        self.which = which


class Cycle(Exception):
    """The tables wait for each other in a circle; the first is named again at the end."""

    def __init__(self, tables: list[int]) -> None:
        super().__init__(tables)
        self.tables = tables


def in_order(tables: Sequence[TableNames]) -> list[int]:
    """Return the indexes of `tables`, each one after those that it waits for, and otherwise in their order.

    Raises
    ------
    UnknownName, Cycle
        When there is no such order.
    """
    exact: dict[Pattern, list[int]] = {}
    loose: list[tuple[Pattern, int]] = []
    for at, table in enumerate(tables):
        if table.name is not None:
            if None in table.name:
                loose.append((table.name, at))
            else:
                exact.setdefault(table.name, []).append(at)
    needs: list[set[int]] = []
    for at, table in enumerate(tables):
        needs.append(set())
        for which, wanted in enumerate(table.after):
            if None in wanted:
                found = [other for name, others in exact.items() if may_meet(name, wanted) for other in others]
            else:
                found = list(exact.get(wanted, ()))
            found += [other for name, other in loose if may_meet(name, wanted)]
            if not found:
                raise UnknownName(at, which)
            needs[at].update(found)
    needed_by: list[list[int]] = [[] for _ in tables]
    for at, others in enumerate(needs):
        for other in others:
            needed_by[other].append(at)
    unmet = [len(others) for others in needs]
    free = [at for at, count in enumerate(unmet) if not count]
    order = []
    while free:
        at = heapq.heappop(free)
        order.append(at)
        for other in needed_by[at]:
            unmet[other] -= 1
            if not unmet[other]:
                heapq.heappush(free, other)
    if len(order) < len(tables):
        raise Cycle(_circle(needs, set(range(len(tables))) - set(order)))
    return order


def _circle(needs: Sequence[set[int]], left: set[int]) -> list[int]:
    """Return a cycle among the tables in `left`, each of which waits for another one of them."""
    path = [min(left)]
    while True:
        following = min(needs[path[-1]] & left)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def may_meet(one: Pattern, other: Pattern) -> bool:
    """Return whether some text fits both patterns."""
    left, right = _characters(one), _characters(other)
    # row[j]: whether left[:i] and right[:j] have a text in common
    row = [True] + [False] * len(right)
    for j, sign in enumerate(right, 1):
        row[j] = row[j - 1] and sign is None
    for mark in left:
        before = row
        row = [before[0] and mark is None] + [False] * len(right)
        for j, sign in enumerate(right, 1):
            if mark is None or sign is None:
                row[j] = before[j] or row[j - 1] or before[j - 1]
            else:
                row[j] = before[j - 1] and mark == sign
    return row[-1]


def _characters(pattern: Pattern) -> list[str | None]:
    result: list[str | None] = []
    for piece in pattern:
        if piece is None:
            result.append(None)
        else:
            result.extend(piece)
    return result
