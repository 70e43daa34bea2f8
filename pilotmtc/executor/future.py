"""What users hold of a call, and of a value that is kept for many of them."""

import concurrent.futures
import os
import threading
from typing import Any, NoReturn, Protocol, TypeVar

from pilotmtc.model import TaskId
from pilotmtc.units import format_memory

T = TypeVar("T")
_PENDING, _RUNNING, _FINISHED = (
    concurrent.futures._base.PENDING, concurrent.futures._base.RUNNING, concurrent.futures._base.FINISHED,
)  # fmt: skip
_OPEN = (_PENDING, concurrent.futures._base.CANCELLED)
# For what happens to futures without a condition. The garbage collector may call something that needs it, too.
_unwatched = threading.RLock()
os.register_at_fork(after_in_child=_unwatched._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does it


class PoolBroken(concurrent.futures.BrokenExecutor):
    """A pool can run nothing more; the text says why, and what to do."""


class Pool(Protocol):
    """What a future needs of the pool that has made it."""

    def forget(self, future: "PilotFuture[Any]") -> None:
        """Take note that `future` was canceled."""


class NotByItself(TypeError):
    """A future or a stored value is pickled by something else than the pool that knows what it stands for."""


class PilotFuture(concurrent.futures.Future[T]):
    """The future of a call.

    `cancel` cancels what is not known to run. The store is told then; if the call has begun after all, it is killed.

    Its condition is made when somebody first asks for it, which for most of many futures is never: to make it, and to
    have the garbage collector look at it, would cost more than all the rest of a call does here. As long as there is
    none, nobody waits and nothing is to be called back, so a change of the state is all there is to do.

    Attributes
    ----------
    task_id
        The call's task, as ``pilotmtc explain`` and the like take it; None until the store has it.
    text
        Its arguments for people, as ``3.0``.
    """

    task_id: TaskId | None = None
    inputs: "tuple[PilotFuture[Any], ...]" = ()  # whose results are arguments, until this one is over

    _state = _PENDING
    _result: "T | None" = None
    _exception: BaseException | None = None
    _made: threading.Condition | None = None  # the condition, if there is one

    def __init__(self, pool: Pool, function: str, text: str) -> None:
        # Not that of the base class: what it makes is made by `_condition`, or is as the class says.
        self.pool = pool
        self.text = text
        self._function = function

    def _get_condition(self) -> threading.Condition:
        if self._made is None:
            waiters: list[Any] = []
            callbacks: list[Any] = []
            made = threading.Condition()
            with _unwatched:
                if self._made is None:
                    self._waiters, self._done_callbacks, self._made = waiters, callbacks, made
        return self._made

    _condition: threading.Condition = property(_get_condition)  # type: ignore[assignment]  # which others only read

    @property
    def call(self) -> str:
        """The call for people, as ``work(3.0)``."""
        return f"{self._function}({self.text})"

    def begin(self) -> bool:
        """Take note that the call runs, if that is not known; return False if it was canceled before."""
        with _unwatched:
            if self._made is None:
                if self._state == _PENDING:
                    self._state = _RUNNING
                return self._state == _RUNNING
        if self._state == _RUNNING:
            return True
        if self._state in _OPEN:
            return self.set_running_or_notify_cancel()
        return False

    def set_result(self, result: T) -> None:
        """End the future with what the call has returned."""
        with _unwatched:
            if self._made is None and self._state == _RUNNING:
                self._result = result
                self._state = _FINISHED
                return
        super().set_result(result)

    def result(self, timeout: float | None = None) -> T:
        """Wait for what the call returns, and return it; see `concurrent.futures.Future.result`."""
        if self._state == _FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]  # it is there
        try:
            return super().result(timeout)
        finally:
            del self  # which the exception's traceback would keep alive

    def cancel(self) -> bool:
        """Cancel the call if it is not known to run, and return whether it is canceled."""
        if self._state == _FINISHED or not super().cancel():
            return False
        self.pool.forget(self)
        return True

    def __repr__(self) -> str:
        task = "" if self.task_id is None else f" task={self.task_id}"
        return f"<{type(self).__name__} {self.call}{task} {self._state.lower()}>"

    def __reduce__(self) -> NoReturn:
        raise NotByItself(
            f"{self!r} can be pickled as an argument of a call of its own pool only: there its result takes its place"
        )


class StoredValue:
    """Stands for a value that ``put`` has stored: as an argument of a call, it is the value.

    Attributes
    ----------
    digest
        The name by which the store knows the value.
    size
        Of the pickled value, in bytes.
    """

    __slots__ = ("_kind", "digest", "pool", "size")

    def __init__(self, pool: Pool, digest: str, size: int, kind: str) -> None:
        self.pool = pool
        self.digest = digest
        self.size = size
        self._kind = kind

    def __repr__(self) -> str:
        return f"<stored {self._kind}, {format_memory(self.size)}>"

    def __reduce__(self) -> NoReturn:
        raise NotByItself(
            f"{self!r} can be pickled as an argument of a call of its own pool only: there the value takes its place"
        )
