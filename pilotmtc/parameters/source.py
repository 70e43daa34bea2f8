"""`Source`: rows of parameter values, one per task. Sources from lists on the command line, and products of sources."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pilotmtc.errors import UsageError
from pilotmtc.template import NUMBER_OF_ROW, check_text

KEEP = 100_000  # an inner source with at most so many rows is kept in memory rather than read again

Row = tuple[str, ...]


class Source:
    """Rows of values, one per task.

    Parameters
    ----------
    fields
        Names of the values in each row; ``"1"``, ``"2"`` if they have none.
    rows
        Returns an iterator over the rows.
    size
        Number of rows; None if they must be read to know it.
    again
        Whether `rows` may be called more than once.
    """

    def __init__(
        self,
        fields: Sequence[str],
        rows: Callable[[], Iterator[Row]],
        *,
        size: int | None = None,
        again: bool = True,
    ) -> None:
        self.fields = tuple(fields)
        self.size = size
        self.again = again
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        """Return an iterator over all rows."""
        return self._rows()

    @property
    def named(self) -> bool:
        """Whether the fields have names rather than positions."""
        return any(name != str(number) for number, name in enumerate(self.fields, 1))


ONE_ROW = Source((), lambda: iter(((),)), size=1)


def check_fields(fields: Sequence[str], place: str) -> None:
    """Raise `UsageError` if `fields`, found at `place`, are not valid names of parameters."""
    for number, field in enumerate(fields, 1):
        if not field:
            raise UsageError(f"{place}: column {number} has no name: the first line must name the parameters")
        if set(field) & set("{}\n\r"):
            raise UsageError(f"{place}: {field!r} cannot name a parameter: leave out braces and line ends")
        if field == NUMBER_OF_ROW:
            raise UsageError(f"{place}: {field!r} cannot name a parameter: {{#}} is the number of the row: rename it")
        if field.isdecimal():
            raise UsageError(
                f"{place}: {field!r} cannot name a parameter: {{{field}}} is the one at position {field}. If the first "
                "line is not a header, add one"
            )
        if field in fields[: number - 1]:
            raise UsageError(f"{place}: two parameters are called {field!r}: rename one of them")


def values(*lists: Sequence[str]) -> Source:
    """Return the product of unnamed lists such as those after ``:::``; the last list varies fastest.

    Raises
    ------
    UsageError
        If a list is empty.
    """
    for number, one in enumerate(lists, 1):
        if not one:
            raise UsageError(f"list {number} after ':::' is empty: give values, or check the pattern they come from")
        for value in one:
            check_text(value, f"list {number} after ':::'")
    kept = [tuple(one) for one in lists]
    size = 1
    for one in kept:
        size *= len(one)
    return Source(_numbers(len(kept)), lambda: itertools.product(*kept), size=size)


def split_lists(words: Sequence[str]) -> tuple[list[str], Source | None]:
    """Split a command line's `words` into the command and the lists that follow it, each after a ``:::``.

    Raises
    ------
    UsageError
        If a list is empty, or one of GNU parallel's other separators is used.
    """
    for word in words:
        if re.fullmatch(r":::\+|::::\+?", word):
            raise UsageError(f"{word!r} is GNU parallel's: give linked values or a file of them with --from FILE")
    groups: list[list[str]] = [[]]
    for word in words:
        if word == ":::":
            groups.append([])
        else:
            groups[-1].append(word)
    command, *lists = groups
    return command, values(*lists) if lists else None


def combine(sources: Sequence[Source]) -> Source:
    """Return the product of `sources`: every combination of their rows; the last source varies fastest.

    Unnamed sources come first, so that ``{1}`` is always the first value after ``:::`` or of a line.

    Raises
    ------
    UsageError
        If there is no source, or if two have a parameter of the same name.
    """
    ordered = sorted(sources, key=lambda source: source.named)
    if not ordered:
        raise UsageError("there are no parameters: give :::, a grid or a file")
    if len(ordered) == 1:
        return ordered[0]
    bare = sum(len(source.fields) for source in ordered if not source.named)
    fields = [*_numbers(bare), *(field for source in ordered if source.named for field in source.fields)]
    for at, field in enumerate(fields):
        if field in fields[:at]:
            raise UsageError(f"two sources have a parameter called {field!r}: rename one of them")
    size: int | None = 1
    for source in ordered:
        size = None if size is None or source.size is None else size * source.size

    def rows() -> Iterator[Row]:
        first, *others = ordered
        inner = [list(other) if not other.again or (other.size or KEEP) < KEEP else other for other in others]
        for head in first:
            for tail in _product(inner):
                yield head + tail

    return Source(fields, rows, size=size, again=all(source.again for source in ordered))


def numbered(source: Source) -> Source:
    """Return `source` with the number of each row, from 1, as its last field: ``{#}``."""

    def rows() -> Iterator[Row]:
        for number, row in enumerate(source, 1):
            yield (*row, str(number))

    return Source((*source.fields, NUMBER_OF_ROW), rows, size=source.size, again=source.again)


def _product(sources: Sequence[Iterable[Row]]) -> Iterator[Row]:
    if not sources:
        yield ()
        return
    for head in sources[0]:
        for tail in _product(sources[1:]):
            yield head + tail


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]
