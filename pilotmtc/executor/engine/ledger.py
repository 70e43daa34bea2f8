"""The books of a pool: which calls are still to be sent, and which were, under which number. No clock, no store."""

import collections
import threading
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from pilotmtc.errors import TaskFailed
from pilotmtc.executor.future import PilotFuture
from pilotmtc.executor.options import CallSetup
from pilotmtc.executor.pickling.pickling import Blob, PickledCall
from pilotmtc.model import TaskId, Template
from pilotmtc.states import TASK_FINAL, TaskState

_ROWS = 4096  # in a message
_BYTES = 4 << 20
_ROOM_ROWS = 50_000  # that may wait to be sent before `add` waits
_ROOM_BYTES = 64 << 20
BAD = TASK_FINAL - {TaskState.DONE}
_LOOK_S = 0.5  # how long a change of `closing` may go unnoticed

CLOSED = "cannot schedule new futures after shutdown"  # as concurrent.futures says it

Future: TypeAlias = PilotFuture[Any]
Ending: TypeAlias = tuple[Future, BaseException]


class Target(Struct, frozen=True):
    """What is called, and how: all that calls of a function under the same options share."""

    template: Template
    setup: CallSetup
    blobs: tuple[Blob, ...]


class Row:
    """A call that is still to be sent."""

    __slots__ = ("future", "pickled", "size", "target", "unmet")

    def __init__(self, future: Future, target: Target, pickled: PickledCall) -> None:
        self.future = future
        self.target = target
        self.pickled = pickled
        self.size = pickled.args.size  # bytes
        self.unmet = 0  # inputs that have no task yet


class Work(Struct, frozen=True):
    """What there is to tell the store: calls to submit, tasks to cancel, and tasks to run again."""

    rows: tuple[Row, ...] = ()
    cancel: tuple[TaskId, ...] = ()
    retry: tuple[TaskId, ...] = ()


class Ledger:
    """Who takes a future out with `release` or its like ends it; nobody else does.

    Attributes
    ----------
    closing
        Nothing more is to come. It may be set without the lock, as by a finalizer, and is seen soon.
    """

    def __init__(self) -> None:
        self.closing = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # there is something to send, or nothing more to come
        self._room = threading.Condition(self._lock)  # for more rows
        self._waiting = False  # somebody waits for `_changed`
        self._live: set[Future] = set()  # calls that are not over
        self._queue: collections.deque[Row] = collections.deque()
        self._queued_bytes = 0
        self._dependents: dict[Future, list[Row]] = {}  # rows by those inputs that have no task yet
        self._tasks: dict[TaskId, Future] = {}
        self._cancel: list[TaskId] = []
        self._retry: list[TaskId] = []
        self._sending = False
        self._early: dict[TaskId, TaskState] = {}  # of tasks whose numbers are on their way to us
        self._broken: BaseException | None = None
        self._added = self._done = self._failed = self._canceled = 0

    # -- for those who call -----------------------------------------------------------------------------------

    def add(self, row: Row, *, patient: bool = True) -> Ending | None:
        """Take a call in; `patient` waits while there is too much to send. Return what ends it at once, if anything.

        Raises
        ------
        RuntimeError
            If nothing more is to come.
        """
        future = row.future
        with self._lock:
            while patient and self._queue and self._is_full() and self._broken is None:
                self._room.wait(_LOOK_S)
            if self._broken is not None:
                self._added += 1
                return future, self._broken
            if self.closing:
                raise RuntimeError(CLOSED)
            self._added += 1
            for need in row.pickled.inputs:
                if need.task_id is not None:
                    continue
                if need not in self._live:
                    return future, without(future, need)
                row.unmet += 1
                self._dependents.setdefault(need, []).append(row)
            self._live.add(future)
            self._queued_bytes += row.size
            if not row.unmet:
                self._queue.append(row)
                if self._waiting:
                    self._changed.notify()
            return None

    def adopt(self, future: Future, task: TaskId, state: TaskState) -> Ending | None:
        """Take a call in that the store has; it runs again if it has not ended well. Return what ends it at once."""
        with self._lock:
            if self.closing and self._broken is None:
                raise RuntimeError(CLOSED)
            self._added += 1
            if self._broken is not None:
                return future, self._broken
            future.task_id = task
            self._live.add(future)
            self._tasks[task] = future
            if state in BAD:
                self._retry.append(task)
                self._changed.notify()
            elif state is TaskState.RUNNING:
                future.begin()
            return None

    def _is_full(self) -> bool:
        return len(self._queue) >= _ROOM_ROWS or self._queued_bytes >= _ROOM_BYTES

    def cancel(self, future: Future) -> list[Ending]:
        """Take note that a future is canceled; return which others end by that, and how."""
        with self._lock:
            self._canceled += future in self._live
            ended = self._drop(future)
            future.begin()  # which tells those who wait for it
            self._changed.notify()
            return ended

    def _drop(self, future: Future, error: BaseException | None = None) -> list[Ending]:
        """Let go of a future that has no result, but perhaps an error; return which others can have none therefore."""
        if future not in self._live:
            return []
        self._live.discard(future)
        if future.task_id is not None:
            self._tasks.pop(future.task_id, None)
            self._cancel.append(future.task_id)
        ended = []
        for row in self._dependents.pop(future, ()):
            if row.future in self._live:
                skipped = without(row.future, future, error)
                ended += [(row.future, skipped), *self._drop(row.future, skipped)]
        return [(late, error) for late, error in ended if late.begin()]

    def close(self) -> None:
        """Let nothing more come: when the last call is over, there is no more work."""
        self.closing = True
        with self._lock:
            self._changed.notify_all()

    def futures(self) -> list[Future]:
        """Return the futures of calls that are not over."""
        with self._lock:
            return list(self._live)

    def counts(self) -> tuple[int, dict[TaskState, int]]:
        """Return how many calls there were, and how many of them are over in which way, or run."""
        with self._lock:
            running = sum(1 for future in self._live if future.running()) if len(self._live) < _ROWS else 0
            counts = {
                TaskState.RUNNING: running,
                TaskState.DONE: self._done,
                TaskState.FAILED: self._failed,
                TaskState.CANCELED: self._canceled,
            }
            return self._added, counts

    # -- for who sends ----------------------------------------------------------------------------------------

    def take(self) -> Work | None:
        """Wait for something to tell the store, and return it; None when there will be nothing any more."""
        with self._lock:
            while not (self._queue or self._cancel or self._retry):
                if self._broken is not None or (self.closing and not self._live):
                    return None
                self._waiting = True
                self._changed.wait(_LOOK_S)
                self._waiting = False
            rows: list[Row] = []
            size = 0
            while self._queue and len(rows) < _ROWS and size < _BYTES:
                row = self._queue.popleft()
                size += row.size
                self._queued_bytes -= row.size
                if row.future in self._live:
                    rows.append(row)
            cancel, self._cancel = tuple(self._cancel), []
            retry, self._retry = tuple([task for task in self._retry if task in self._tasks]), []
            self._sending = bool(rows)
            self._room.notify_all()
            return Work(tuple(rows), cancel, retry)

    def sent(self, rows: Sequence[Row], first: TaskId) -> list[TaskId]:
        """Take note of the tasks that `rows` have become; return those that are over already, as far as is known."""
        over = []
        with self._lock:
            for task, row in enumerate(rows, first):
                future = row.future
                future.task_id = TaskId(task)
                if future not in self._live:  # canceled meanwhile
                    self._cancel.append(TaskId(task))
                    continue
                self._tasks[TaskId(task)] = future
                state = self._early.get(TaskId(task))
                if state in TASK_FINAL:
                    over.append(TaskId(task))
                elif state is TaskState.RUNNING:
                    future.begin()
                for late in self._dependents.pop(future, ()):
                    late.unmet -= 1
                    if not late.unmet:
                        self._queue.append(late)
        return over

    def settled(self) -> None:
        """Take note that of all that was taken it is known what has become of it."""
        with self._lock:
            self._sending = False
            self._early.clear()

    def refused(self, rows: Iterable[Row], error: BaseException) -> list[Ending]:
        """Take note that the store does not take `rows`; return which futures end by that, and how."""
        with self._lock:
            return self._fail([row.future for row in rows], error)

    def unfit(self, tasks: Iterable[TaskId], error: BaseException) -> list[Ending]:
        """Take note that these tasks can never run; return which futures end by that, and how."""
        with self._lock:
            return self._fail([self._tasks[task] for task in tasks if task in self._tasks], error)

    def _fail(self, futures: Iterable[Future], error: BaseException) -> list[Ending]:
        ended: list[Ending] = []
        for future in futures:
            if future in self._live:
                late = self._drop(future, error)
                self._failed += 1
                ended += [(future, error), *late] if future.begin() else late
        self._changed.notify()
        return ended

    # -- for who follows --------------------------------------------------------------------------------------

    def moved(self, changes: Iterable[tuple[TaskId, TaskState, int]]) -> list[TaskId]:
        """Take note of the states that tasks went to; return those that are over."""
        over = []
        with self._lock:
            tasks = self._tasks
            for task, state, _ in changes:
                future = tasks.get(task)
                if future is None:
                    if self._sending:
                        self._early[task] = state
                elif state in TASK_FINAL:
                    over.append(task)
                elif state is TaskState.RUNNING:
                    future.begin()
        return over

    def tasks(self) -> list[TaskId]:
        """Return all tasks that are not known to be over."""
        with self._lock:
            return list(self._tasks)

    def release(self, ended: Iterable[tuple[TaskId, TaskState]]) -> list[Future | None]:
        """Return the futures of tasks that are over, which the caller is to end; None for those that have ended."""
        found: list[Future | None] = []
        with self._lock:
            for task, state in ended:
                future = self._tasks.pop(task, None)
                if future is not None:
                    self._live.discard(future)
                    if not future.begin():
                        future = None
                    elif state is TaskState.DONE:
                        self._done += 1
                    else:
                        self._failed += 1
                found.append(future)
            if not self._live:
                self._changed.notify()
        return found

    def lacks_reason(self, task: TaskId) -> bool:
        """Return whether inputs of a call are still to end, and none has ended badly: one of them will."""
        with self._lock:
            future = self._tasks.get(task)
            inputs = future.inputs if future is not None else ()
        return not all(need.done() for need in inputs) and not any(
            need.done() and (need.cancelled() or need.exception()) for need in inputs
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def break_(self, error: BaseException) -> list[Ending]:
        """Let nothing more be done; return which futures end by that, and how."""
        with self._lock:
            self._broken = self._broken or error
            live = list(self._live)
            self._live.clear()
            self._tasks.clear()
            self._queue.clear()
            self._dependents.clear()
            self._queued_bytes = 0
            self._changed.notify_all()
            self._room.notify_all()
            return [(future, error) for future in live if future.begin()]

    @property
    def broken(self) -> BaseException | None:
        """Why nothing more is done, if that is so."""
        return self._broken


def end_all(endings: Iterable[Ending]) -> None:
    """End futures that have no result."""
    for future, error in endings:
        future.set_exception(error)
        future.inputs = ()


def without(future: Future, need: Future, cause: BaseException | None = None) -> BaseException:
    """Return the error of a call whose input will never be there."""
    why = "was canceled" if need.cancelled() else "has failed"
    error = TaskFailed(
        f"{future.call} was not called, because its input {need.call} {why}", task=future.task_id or 0, cause="SKIPPED"
    )
    error.__cause__ = need.exception() if cause is None and need.done() and not need.cancelled() else cause
    return error
