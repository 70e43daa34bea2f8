"""Calling one function for many rows: some are sent ahead, while their ends are taken."""

import concurrent.futures
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pilotmtc.executor.future import PilotFuture
from pilotmtc.executor.named import Parameters
from pilotmtc.parameters import Source, as_number

AHEAD = 20_000  # calls that are not taken; what more are they would be in memory
_LOOK_S = 0.1


class RowCall(NamedTuple):
    """What a function is called with for one row, and the row's values by their names."""

    params: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def calls_of(rows: Source, taken: Parameters, *, as_text: bool = False) -> Iterator[RowCall]:
    """Yield a call for each row; what is written as a number is one, unless `as_text`, or the parameter is a text."""
    texts = frozenset(rows.fields) if as_text else taken.texts
    reads = [_as_it_is if field in texts else as_number for field in rows.fields]
    names = rows.fields[taken.places :]
    for row in rows:
        values = tuple([read(text) for read, text in zip(reads, row, strict=True)])
        by_name = dict(zip(names, values[taken.places :], strict=True))
        yield RowCall(dict(zip(rows.fields, values, strict=True)), values[: taken.places], by_name)


def _as_it_is(text: str) -> str:
    return text


class RowCalls:
    """The calls of a function, which a thread of their own sends: rows may come slowly.

    Parameters
    ----------
    submit
        Submits a call.
    calls
        Are iterated over by that thread.
    keep_order
        Take them in their order, not as they end.
    ahead
        No more than so many are there at a time.

    Attributes
    ----------
    sent
        How many were submitted, or are being submitted.
    all_sent
        Whether there are no more to come.
    """

    def __init__(
        self, submit: Callable[..., PilotFuture[Any]], calls: Iterable[RowCall], *, keep_order: bool = False,
        ahead: int = AHEAD,
    ) -> None:  # fmt: skip
        self.sent = 0
        self.all_sent = False
        self._submit = submit
        self._calls = calls
        self._keep_order = keep_order
        self._room = threading.Semaphore(ahead)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._live: dict[int, PilotFuture[Any]] = {}
        self._queue: queue.SimpleQueue[tuple[RowCall, PilotFuture[Any]]] = queue.SimpleQueue()
        self._head: tuple[RowCall, PilotFuture[Any]] | None = None
        self._taken = 0
        self._stopped = False
        self._error: BaseException | None = None
        # A daemon, because it may read from an input that never ends.
        self._thread = threading.Thread(target=self._send_all, name="map-rows", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether all that were sent were taken, and no more will be sent; an error is still to be taken."""
        with self._lock:
            return (self.all_sent or self._stopped) and self._taken == self.sent and self._error is None

    def take(self, timeout_s: float) -> tuple[RowCall, PilotFuture[Any]] | None:
        """Return a call that is over, if there is one within that time.

        Raises
        ------
        BaseException
            What iterating over the calls, or submitting one, has raised.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._head is None:
            try:
                self._head = self._queue.get(timeout=timeout_s)
            except queue.Empty:
                return None
        if not self._head[1].done():
            concurrent.futures.wait((self._head[1],), timeout_s)
            if not self._head[1].done():
                return None
        found, self._head = self._head, None
        self._taken += 1
        self._room.release()
        return found

    def drain(self) -> None:
        """Send no more, and cancel what the store does not have."""
        with self._lock:
            self._stopped = True
            live = list(self._live.values())
        for future in live:
            if future.task_id is None:
                future.cancel()

    def _send_all(self) -> None:
        try:
            for call in self._calls:
                while not self._room.acquire(timeout=_LOOK_S):
                    if self._stopped:
                        return
                if not self._send(call):
                    return
        except BaseException as error:  # noqa: BLE001 -- it is raised where the calls are taken
            self._error = error
        finally:
            self.all_sent = True

    def _send(self, call: RowCall) -> bool:
        with self._lock:
            if self._stopped:
                return False
            self.sent += 1
        try:
            future = self._submit(*call.args, **call.kwargs)
        except BaseException:
            with self._lock:
                self.sent -= 1
            raise
        number = next(self._numbers)
        with self._lock:
            self._live[number] = future
            stopped = self._stopped
        if self._keep_order:
            self._queue.put((call, future))
        future.add_done_callback(lambda _: self._over(number, call, future))
        if stopped and future.task_id is None:
            future.cancel()
        return True

    def _over(self, number: int, call: RowCall, future: PilotFuture[Any]) -> None:
        with self._lock:
            self._live.pop(number, None)
        if not self._keep_order:
            self._queue.put((call, future))
