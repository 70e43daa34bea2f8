"""What users hold of a call, and of a value that is kept for many of them."""

import concurrent.futures
from typing import Any, NoReturn, Protocol, TypeVar

from pilotmtc.model import TaskId
from pilotmtc.units import format_memory

T = TypeVar("T")
_OPEN = (concurrent.futures._base.PENDING, concurrent.futures._base.CANCELLED)


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

    Attributes
    ----------
    task_id
        The call's task, as ``pilotmtc explain`` and the like take it; None until the store has it.
    """

    task_id: TaskId | None = None
    inputs: "tuple[PilotFuture[Any], ...]" = ()  # whose results are arguments, until this one is over

    def __init__(self, pool: Pool, function: str, text: str) -> None:
        super().__init__()
        self.pool = pool
        self._shown = (function, text)

    @property
    def text(self) -> str:
        """Its arguments for people, as ``3.0``."""
        return self._shown[1]

    @property
    def call(self) -> str:
        """The call for people, as ``work(3.0)``."""
        function, text = self._shown
        return f"{function}({text})"

    def begin(self) -> bool:
        """Take note that the call runs, if that is not known; return False if it was canceled before."""
        if self._state == concurrent.futures._base.RUNNING:
            return True
        if self._state in _OPEN:
            return self.set_running_or_notify_cancel()
        return False

    def cancel(self) -> bool:
        """Cancel the call if it is not known to run, and return whether it is canceled."""
        if not super().cancel():
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
