"""What a session does with Python functions: calls of them, and what they returned."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pilotmtc.errors import UsageError
from pilotmtc.model import TaskId
from pilotmtc.session import arguments
from pilotmtc.session.link import StoreLink
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.location import locate

if TYPE_CHECKING:
    from pilotmtc.executor.returned import ReturnedValues

T = TypeVar("T")


class Functions:
    """The part of a session that calls functions.

    `pilotmtc.executor` stands on parts of a session. Here is the only way back, which is imported when it is asked for:
    who has no functions pays nothing for them.
    """

    _link: StoreLink
    _site: str
    _returned: "ReturnedValues | None" = None

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any] | Mapping[str, Iterable[Any]],
        ordered: bool = True,
        return_exceptions: bool = False,
        buffersize: int | None = None,
        **options: Any,
    ) -> Iterator[T]:
        """Call `fn` for many rows in pilots of their own, and return an iterator over what it returns.

        The calls are a campaign of the store. They begin now, and what is left of them is canceled when the iterator is
        closed or forgotten, or when a call fails.

        Parameters
        ----------
        *iterables
            As of Python's own `map`; or rows: an iterable of mappings (``[{"mass": 1, "seed": 3}, ...]``) or a grid
            (``{"mass": [1, 2], "seed": range(10)}``) gives arguments by name, and so does a source of
            `pilotmtc.parameters`.
        ordered
            Whether to give results in the order of the rows; if not, as the calls end.
        return_exceptions
            Give the exceptions of calls that fail in the places of their results, and go on.
        buffersize
            No more calls than that are ahead of the result that is asked for; None is some thousands.
        **options
            As `pilotmtc.PilotExecutor` takes them, such as ``nodes=16, cores=2, retries=1, name="scan", resume=True``.

        Raises
        ------
        TypeError
            If there is no such option.
        UsageError
            If a value cannot be.
        """
        from pilotmtc.executor.mapping import arguments_of, map_calls
        from pilotmtc.executor.pool import PilotExecutor

        if not callable(fn):
            raise TypeError(f"{fn!r} cannot be called: give a function, and then its values")
        if buffersize is not None and arguments.whole("buffersize", buffersize) < 1:
            raise UsageError(f"buffersize={buffersize}: give 1 or more, or leave it out")
        ordered = arguments.flag("ordered", ordered)
        return_exceptions = arguments.flag("return_exceptions", return_exceptions)
        calls = arguments_of(fn, iterables)
        pool = PilotExecutor(**{"store": self._store(), "site": self._site, **options})
        return map_calls(pool, fn, calls, ordered=ordered, return_exceptions=return_exceptions, ahead=buffersize)

    def _store(self) -> str:
        """Return the URL of the store.

        Raises
        ------
        UsageError
            If it is opened by this process.
        """
        if not isinstance(self._link.store, StoreClient):
            raise UsageError("functions need a store that others can open, too: give the session its path or URL")
        return self._link.url

    def _load_value(self, task: TaskId, call: str, near: Sequence[TaskId]) -> Any:
        """Return what a call has returned; see `ReturnedValues.get`."""
        if self._returned is None:
            from pilotmtc.executor.returned import ReturnedValues

            self._returned = ReturnedValues(self._link, locate(self._store()))
        return self._returned.get(task, call, near)
