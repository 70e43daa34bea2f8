"""`Session.map`: a function for many rows, in a pool of its own, which lives as long as its results are taken."""

import collections
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from pilotmtc.errors import UsageError, shown
from pilotmtc.executor.future import PilotFuture
from pilotmtc.executor.named import Parameters
from pilotmtc.executor.pool import PilotExecutor
from pilotmtc.executor.rows import AHEAD, calls_of
from pilotmtc.executor.texts import name_of
from pilotmtc.parameters import Source

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def arguments_of(fn: Callable[..., object], iterables: tuple[Any, ...]) -> Iterator[Arguments]:
    """Yield positional and named arguments of each call.

    One mapping of names to values is a grid, one iterable of mappings gives named arguments, a source of
    `pilotmtc.parameters` is as on the command line; anything else are iterables as of `map`.

    Raises
    ------
    UsageError
        If there is nothing to iterate over, or `fn` does not take the names of a grid or a source.
    """
    if not iterables:
        raise UsageError("there are no values: give lists or other iterables, or rows")
    for one in iterables:
        if not isinstance(one, Iterable | Source):
            raise UsageError(f"{shown(one)} is one value: give a list, as in [{shown(one)}]")
    rows = iterables[0]
    if len(iterables) > 1:
        return ((row, {}) for row in zip(*iterables, strict=False))
    if isinstance(rows, Source):
        taken = Parameters(fn, name_of(fn), rows.fields)
        return ((call.args, call.kwargs) for call in calls_of(rows, taken))
    if isinstance(rows, Mapping):
        Parameters(fn, name_of(fn), tuple(rows))
        axes = list(map(_axis, rows.items()))
        return (((), dict(zip(rows, values, strict=True))) for values in itertools.product(*axes))
    return (((), dict(row)) if isinstance(row, Mapping) else ((row,), {}) for row in rows)


def _axis(axis: tuple[str, Any]) -> Iterable[Any]:
    name, values = axis
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"{name!r} is {shown(values)}: give a list of values")
    return values


def map_calls(
    pool: PilotExecutor, fn: Callable[..., Any], calls: Iterator[Arguments], *, ordered: bool, return_exceptions: bool,
    ahead: int | None = None,
) -> Iterator[Any]:  # fmt: skip
    """Return an iterator over what `fn` returns for `calls`. The pool is shut down when it ends, or is forgotten."""
    window = _Window(pool, fn, calls, ordered=ordered, ahead=AHEAD if ahead is None else ahead)
    try:
        window.fill()
    except BaseException:
        window.close()
        raise
    results = _results(window, return_exceptions=return_exceptions)
    next(results)  # so that it closes the window, also if nobody asks it for anything
    return results


def _results(window: "_Window", *, return_exceptions: bool) -> Iterator[Any]:
    try:
        yield None
        while (future := window.next()) is not None:
            error = future.exception()
            if error is None:
                yield future.result()
            elif return_exceptions:
                yield error
            else:
                try:
                    raise error
                finally:
                    del error, future  # an exception must not keep itself alive
    finally:
        window.close()


class _Window:
    """The calls that are under way."""

    def __init__(
        self, pool: PilotExecutor, fn: Callable[..., Any], calls: Iterator[Arguments], *, ordered: bool, ahead: int
    ) -> None:
        self._pool = pool
        self._fn = fn
        self._calls = calls
        self._ahead = ahead
        self._in_order: collections.deque[PilotFuture[Any]] | None = collections.deque() if ordered else None
        self._live: set[PilotFuture[Any]] = set()
        self._over: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def fill(self) -> None:
        """Submit calls until there are enough of them."""
        for args, kwargs in itertools.islice(self._calls, self._ahead - len(self._live)):
            future = self._pool.submit(self._fn, *args, **kwargs)
            self._live.add(future)
            if self._in_order is None:
                future.add_done_callback(self._over.put)
            else:
                self._in_order.append(future)

    def next(self) -> PilotFuture[Any] | None:
        """Return the next one once it is over; None if none is left."""
        self.fill()
        if not self._live:
            return None
        future: PilotFuture[Any] = self._over.get() if self._in_order is None else self._in_order.popleft()
        future.exception()  # waits for it
        self._live.discard(future)
        return future

    def close(self) -> None:
        """Cancel what is left, and let the pool go."""
        self._pool.shutdown(wait=not self._live, cancel_futures=True)
        self._live.clear()
