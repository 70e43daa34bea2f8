"""A backend for joblib, and so for all that takes joblib's ``n_jobs``, as scikit-learn does.

::

    import joblib
    import pilotmtc.joblib

    pilotmtc.joblib.register()
    with joblib.parallel_config(backend="pilotmtc", site="boulder", nodes=4, walltime="1h"):
        search.fit(X, y)

or, with a pool that is there already, ``joblib.parallel_config(backend="pilotmtc", executor=pool)``.
"""

import copy
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import joblib  # type: ignore[import-untyped]
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase  # type: ignore[import-untyped]

from pilotmtc.errors import UsageError
from pilotmtc.executor import PilotExecutor
from pilotmtc.executor.future import PilotFuture, StoredValue
from pilotmtc.executor.pool import PoolView
from pilotmtc.executor.texts import arguments, bounded, name_of

_ARRAYS = ("ndarray", "memmap")  # which nobody can change
_SIZES = ("max_workers", "nodes", "pilot_cores")


def register() -> None:
    """Let joblib know the backend ``pilotmtc``."""
    joblib.register_parallel_backend("pilotmtc", PilotBackend)


class PilotBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Has joblib's batches called in a pool.

    Arrays and the like that are larger than joblib's ``max_nbytes`` are stored once for all calls to which they are
    given, and arrays cannot be changed by them, as with joblib's own backends.

    Parameters
    ----------
    executor
        The pool, or what its ``options`` return; ``n_jobs`` only says then how much joblib has called ahead. None makes
        a pool that lives as long as this backend, and in which no more than ``n_jobs`` run at a time.
    **options
        As `PilotExecutor` takes them.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1  # all that the pilots have room for

    def __init__(
        self,
        executor: PilotExecutor | PoolView | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if executor is not None and options:
            raise UsageError(f"executor= has its options already: leave out {', '.join(options)}")
        self._given = executor
        self._options = options
        self._own: PilotExecutor | None = None
        self._own_jobs = 0
        self._pool: PilotExecutor | PoolView | None = None
        self._large_bytes: int | None = None
        self._stored: dict[int, tuple[weakref.ref[Any], StoredValue]] = {}
        self._lock = threading.Lock()
        self._futures: weakref.WeakSet[PilotFuture[Any]] = weakref.WeakSet()

    # -- as joblib calls it -----------------------------------------------------------------------------------

    def configure(self, n_jobs: int = 1, parallel: Any = None, max_nbytes: int | None = None, **_: Any) -> int:
        """Make ready for ``joblib.Parallel``, and return how many batches run at a time."""
        self.parallel = parallel
        self._large_bytes = max_nbytes
        count = self.effective_n_jobs(n_jobs)
        if count > 1:
            threads = self.inner_max_num_threads
            pool = self._base(n_jobs)
            env = dict.fromkeys(self.MAX_NUM_THREADS_VARS, str(threads))
            self._pool = pool if threads is None else pool.options(env=env | dict(pool._calls.get("env") or {}))
        return count

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at a time if `n_jobs` are asked for; 1 is the program itself, without a pool."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        return max(2, n_jobs if n_jobs > 0 else self._base(n_jobs)._max_workers + 1 + n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> PilotFuture[Any]:
        """Have a batch called."""
        pool = self._pool
        assert pool is not None
        batch = copy.copy(func)
        copied: list[tuple[int, int | str]] = []
        batch.items = [
            (
                function,
                [self._lean(value, copied, number, place) for place, value in enumerate(args)],
                {name: self._lean(value, copied, number, name) for name, value in kwargs.items()},
            )
            for number, (function, args, kwargs) in enumerate(func.items)
        ]
        function, args, kwargs = func.items[0]
        text = arguments(args, kwargs)
        if len(func) > 1:
            text = bounded(f"{len(func)} calls, from {text}")
        try:
            pool._check_open()
            future = pool._engine.submit(_runner(name_of(function)), pool._setup, (batch, copied), {}, text)
        except RuntimeError as error:  # joblib, which calls this as other batches end, would wait for ever
            future = PilotFuture(pool._engine, name_of(function), text)
            future.begin()
            future.set_exception(error)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: PilotFuture[Any]) -> Any:
        """Return the results of a batch that is over."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what does not run yet."""
        for future in list(self._futures):
            future.cancel()

    def stop_call(self) -> None:
        """Let go of what was stored for the batches of one call of ``joblib.Parallel``."""
        with self._lock:
            self._stored.clear()

    def terminate(self) -> None:
        """Be done with ``joblib.Parallel``; the pool stays for the next one."""
        self.stop_call()
        self.parallel = None
        self.reset_batch_stats()

    # -- within -----------------------------------------------------------------------------------------------

    def _base(self, n_jobs: int) -> PilotExecutor | PoolView:
        if self._given is not None:
            return self._given
        jobs = 0 if n_jobs < 0 or any(name in self._options for name in _SIZES) else n_jobs
        if self._own is None or self._own_jobs != jobs:
            self._own = PilotExecutor(**(self._options | ({"max_workers": jobs} if jobs else {})))
            self._own_jobs = jobs
        return self._own

    def _lean(self, value: object, copied: list[tuple[int, int | str]], item: int, place: int | str) -> object:
        """Return what stands for an argument that is large, and note if each call needs a copy of it."""
        if self._large_bytes is None or _bytes_of(value) <= self._large_bytes:
            return value
        assert self._pool is not None
        with self._lock:
            known = self._stored.get(id(value))
            if known is None or known[0]() is not value:
                try:
                    stored = self._pool.put(value)
                except Exception:  # noqa: BLE001 -- whatever it is, the call itself will say it
                    return value
                # Not the value: of what is made for one call only, all would be kept.
                known = self._stored[id(value)] = weakref.ref(value), stored
        if type(value).__name__ not in _ARRAYS:  # as a table, to which a call may add a column
            copied.append((item, place))
        return known[1]


def _bytes_of(value: object) -> int:
    """Return the size of what arrays and tables hold; 0 for what is none, or cannot be known again."""
    size = getattr(value, "nbytes", None)
    if size is None:  # as of sparse matrices
        size = getattr(getattr(value, "data", None), "nbytes", None)
    if size is None and type(value).__name__ == "DataFrame" and hasattr(value, "memory_usage"):
        size = value.memory_usage().sum()
    if size is None or not hasattr(size, "__index__") or not type(value).__weakrefoffset__:
        return 0
    return int(size)


@functools.lru_cache(100)
def _runner(name: str) -> Callable[..., list[Any]]:
    """Return what calls a batch, under the name of the function in it; as an inner function it is pickled by value."""

    def run(batch: Any, copied: list[tuple[int, int | str]]) -> list[Any]:
        from copy import copy

        for item, place in copied:
            values = batch.items[item][1 if isinstance(place, int) else 2]
            values[place] = copy(values[place])
        return batch()  # type: ignore[no-any-return]

    run.__name__ = run.__qualname__ = name
    return run
