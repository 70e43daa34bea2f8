"""`PilotExecutor`: what users see of a pool."""

import collections
import concurrent.futures
import itertools
import os
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar, Unpack

from pilotmtc.agent.node import allowance
from pilotmtc.errors import UsageError, shown
from pilotmtc.executor.engine import engine as engines
from pilotmtc.executor.engine.engine import Engine, Plan
from pilotmtc.executor.future import PilotFuture, PoolBroken, StoredValue
from pilotmtc.executor.options import CallOptions, CallSetup, PoolOptions, read_call, read_pilot, split_options
from pilotmtc.executor.pickling.trust import check_file
from pilotmtc.executor.progress import progress_of
from pilotmtc.executor.texts import arguments, bounded, name_of
from pilotmtc.model import CampaignId, Pilot, PilotDescription, Resources
from pilotmtc.session import arguments as given
from pilotmtc.session.run.fitting import check_fit
from pilotmtc.session.stores import find_store
from pilotmtc.session.submit.pilot import PilotOptions, describe
from pilotmtc.sites import LOCAL, get_site

T = TypeVar("T")
_OWN, _ANY = "own", "any"
_UNKNOWN_WORKERS = 1024  # as long as nobody knows how many cores a site's pilots will have


class _Caller(concurrent.futures.Executor):
    """Calls functions in a pool, all under the same options."""

    _engine: Engine
    _setup: CallSetup
    _calls: CallOptions

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PilotFuture[T]:
        """Have ``fn(*args, **kwargs)`` called, and return its future.

        Futures and stored values of this pool may be among the arguments, also within lists and the like: the call
        waits for the futures, and gets their results and the values in their places.

        Raises
        ------
        RuntimeError
            If the pool is shut down.
        PoolBroken
            If it can call nothing more.
        """
        self._check_open()
        return self._engine.submit(fn, self._setup, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over ``fn`` of the items of `iterables`, in their order.

        Parameters
        ----------
        timeout
            Seconds from now on; getting a result raises `TimeoutError` after that.
        chunksize
            So many calls are one task. Calls are sent in batches in any case: this saves only what the store keeps.
        buffersize
            No more calls than that are ahead of the result that is asked for; None takes all of `iterables` at once.

        Raises
        ------
        ValueError
            If `chunksize` or `buffersize` is not positive.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError(f"buffersize={shown(buffersize)}: it must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize={buffersize}: it must be None or > 0")
        if chunksize < 1:
            raise ValueError(f"chunksize={chunksize}: chunksize must be >= 1.")
        until = None if timeout is None else time.monotonic() + timeout
        self._check_open()
        rows = zip(*iterables)  # noqa: B905 -- as the standard library does
        send: Callable[[Any], PilotFuture[Any]]
        if chunksize == 1:
            calls: Iterator[Any] = rows
            send = _Sender(self, fn)
        else:
            calls = iter(lambda: list(itertools.islice(rows, chunksize)), [])
            send = _ChunkSender(self, _in_chunks(fn))
        futures = collections.deque(map(send, calls if buffersize is None else itertools.islice(calls, buffersize)))
        results = _results(futures, until, None if buffersize is None else _Rest(self, send, calls))
        return results if chunksize == 1 else _flat(results)

    def put(self, value: T) -> StoredValue:
        """Store `value` and return what stands for it among the arguments of calls.

        It is sent once, and is once on each node, however many calls use it; arrays are read there without copies.
        """
        self._check_open()
        return self._engine.put(value)

    def options(self, **options: Unpack[CallOptions]) -> "PoolView":
        """Return the same pool with other options for calls; what is not given is as here.

        Raises
        ------
        TypeError
            If there is no such option.
        UsageError
            If a value cannot be, or such a call could not run in the pool's own pilots.
        """
        given.check_names(options, CallOptions.__annotations__)
        return PoolView(self, {**self._calls, **options})

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pool cannot be pickled: make another one in the function or the process that needs it")

    def _check_open(self) -> None:
        ledger = self._engine.ledger
        if ledger.broken is not None:
            raise PoolBroken(str(ledger.broken)) from ledger.broken
        if ledger.closing:
            when = "interpreter shutdown" if engines.exiting.is_set() else "shutdown"
            raise RuntimeError(f"cannot schedule new futures after {when}")
        if engines.exiting.is_set():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")


class PoolView(_Caller):
    """A pool under other options. It lives as long as the pool, which alone can be shut down."""

    def __init__(self, pool: _Caller, calls: CallOptions) -> None:
        self._pool = pool  # which must not be taken for left
        self._engine = pool._engine
        self._calls = calls
        plan = self._engine.plan
        self._setup = read_call(calls, here=plan.here)
        if not plan.shared and not self._engine.has_others and not self._setup.resources.named:
            _check_fit(self._setup.resources, plan.pilot)

    @property
    def _max_workers(self) -> int:
        return getattr(self._pool, "_max_workers", _UNKNOWN_WORKERS)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the pool goes on."""


class PilotExecutor(_Caller):
    """A pool of function workers in pilots: a `concurrent.futures.Executor` whose calls are tasks of a store.

    Parameters
    ----------
    max_workers
        How many calls run at a time; None is as many as the pilots have room for.
    store
        The store's file, or an ``ssh://`` URL; None is that of `site`.
    site
        Where the pilots are: ``local`` is this machine, else a site of ``sites.toml``.
    name
        Of the campaign that the calls are.
    resume
        Go on with the newest campaign of that `name`: calls that it has are not made again.
    memo
        Take the results of calls that this store has from any earlier pool, if these called the same: the code of the
        function and of `initializer`, the arguments, ``env``, ``cwd``, ``python``, and the content of the files to
        ``watch``.
    pilots
        ``own``: calls run in the pool's own pilots and in those that are added to it. ``any``: in any pilot of the
        store, and it starts one of its own only if there is none.
    initializer, initargs
        Called once in each worker before its first call.
    python
        The workers' Python interpreter; None is what `site` says, or this one on this machine, and that of pilotmtc on
        another.
    ship
        Modules that travel by value, as workers cannot import them. None or True: those outside of site-packages and
        the standard library. A list: these modules, too. False: none but ``__main__``.
    progress
        Whether to show on stderr how far it is; None: if that is a terminal.
    **options
        See `PoolOptions`.

    Raises
    ------
    TypeError
        If there is no such option.
    UsageError
        If a value cannot be.

    Examples
    --------
    >>> with PilotExecutor() as pool:                                     # doctest: +SKIP
    ...     print(list(pool.map(pow, range(10), range(10))))
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        store: str | Path | None = None,
        site: str = LOCAL,
        name: str = "",
        resume: bool = False,
        memo: bool = False,
        pilots: str = _OWN,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[object, ...] = (),
        python: str | os.PathLike[str] | None = None,
        ship: bool | Sequence[ModuleType | str] | None = None,
        progress: bool | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        if max_workers is not None and given.whole("max_workers", max_workers) < 1:
            raise ValueError(f"max_workers={max_workers}: max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer={shown(initializer)}: initializer must be a callable")
        if isinstance(initargs, str) or not isinstance(initargs, Iterable):
            raise TypeError(f"initargs={shown(initargs)}: give a tuple, as in initargs=({shown(initargs)},)")
        if resume and not name:
            raise UsageError("resume=True needs the name of what to go on with: give name=, as then")
        if pilots not in (_OWN, _ANY):
            raise UsageError(f"pilots={shown(pilots)} is neither {_OWN!r} nor {_ANY!r}")
        calls, pilot_options = split_options(options, *_KEYWORDS)
        where = find_store(None if store is None else given.path("store", store), given.text("site", site))
        remote = where.target is not None
        if not remote:
            check_file(where.path)
        here = not remote
        self._calls = calls
        self._setup = read_call(calls, here=here)
        pilot = read_pilot(pilot_options, max_workers, self._setup.resources, site=site, remote=remote)
        if pilots == _OWN and not self._setup.resources.named:
            _check_fit(self._setup.resources, pilot)
        self._engine = Engine(
            Plan(
                where.url,
                here,
                given.text("name", name),
                pilot,
                resume=given.flag("resume", resume),
                memo=given.flag("memo", memo),
                shared=pilots == _ANY,
                python=_python(python, site, here=here),
                ship=True if ship is None else ship,
                initializer=initializer,
                initargs=tuple(initargs),
                progress=progress_of(None if progress is None else given.flag("progress", progress)),
            )
        )
        self._max_workers = max_workers or _room(self._engine.plan, self._setup)
        finalizer = weakref.finalize(self, self._engine.close)
        finalizer.atexit = False

    @property
    def campaign(self) -> CampaignId | None:
        """The campaign that the calls are, as ``pilotmtc status`` and the like take it; None before the first call."""
        return self._engine.campaign

    def __repr__(self) -> str:
        over = " (shut down)" if self._engine.ledger.closing else ""
        added, counts = self._engine.ledger.counts()
        there = [f"{n} {state.name.lower()}" for state, n in counts.items() if n]
        name = f" {self._engine.plan.name!r}" if self._engine.plan.name else ""
        campaign = "" if self.campaign is None else f" campaign={self.campaign}"
        return f"<{type(self).__name__}{name}{campaign}: {', '.join([f'{added} calls', *there])}{over}>"

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let no more calls come; see `concurrent.futures.Executor.shutdown`. The pool's pilots leave then.

        Parameters
        ----------
        wait
            Return when all calls are over, and the pool has let its pilots go.
        cancel_futures
            Cancel all calls that do not run yet.
        """
        engine = self._engine
        if engine.inherited:
            return
        engine.ledger.close()
        if cancel_futures:
            for future in engine.ledger.futures():
                future.cancel()
        if wait:
            engine.join()

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Shut the pool down. Whoever has interrupted the program need not wait for what has not begun."""
        self.shutdown(cancel_futures=kind is not None and issubclass(kind, KeyboardInterrupt))

    def add_pilots(
        self, count: int = 1, *, wait_s: float | None = None, **options: Unpack[PilotOptions]
    ) -> list[Pilot]:
        """Start more pilots for the calls of this pool, and return their records. They leave with the pool.

        Parameters
        ----------
        wait_s
            How long to wait for each to become active, or for the scheduler to take it; None is some seconds.
        **options
            As ``session.pilots.submit`` takes them; what is not said of a pilot's place is as of the pool's own.
        """
        self._check_open()
        if given.whole("count", count) < 1:
            raise UsageError(f"count={count}: give 1 or more")
        plan = self._engine.plan
        if not options.get("site") and not options.get("scheduler"):
            options["site"] = plan.pilot.site
        description = describe(remote=not plan.here, **options)
        return [self._engine.add_pilot(description, wait_s) for _ in range(count)]


_KEYWORDS = tuple(name for name in PilotExecutor.__init__.__annotations__ if name not in ("options", "return"))


def _python(given_one: str | os.PathLike[str] | None, site: str, *, here: bool) -> str:
    """Return the interpreter of the workers; empty is that of the pilots."""
    if given_one is not None:
        return given.path("python", given_one)
    known = "" if site == LOCAL else get_site(site).python
    return known or (sys.executable if here else "")


def _check_fit(needs: Resources, pilot: PilotDescription) -> None:
    """Raise `UsageError` if it is certain that such a call can never run in such a pilot."""
    try:
        check_fit(needs, pilot, {})
    except UsageError as error:  # its words are those of the command line
        words = re.sub(r"--([a-z-]+)(?: (?=\d))?", lambda option: f"{option[1].replace('-', '_')}=", str(error))
        raise UsageError(words.replace("a task", "a call", 1)) from None


def _room(plan: Plan, setup: CallSetup) -> int:
    """Return how many calls may run at a time, as far as that is known: programs ask for it."""
    pilot = plan.pilot
    cores = pilot.cores or (0 if pilot.scheduler else allowance.cores(len(os.sched_getaffinity(0)), os.environ))
    return max(1, cores * pilot.nodes // (setup.resources.cores * setup.resources.ranks)) if cores else _UNKNOWN_WORKERS


# -- map ------------------------------------------------------------------------------------------------------


class _Sender:
    """Sends the calls of a map. It does not keep the pool from being forgotten."""

    def __init__(self, caller: _Caller, fn: Callable[..., Any]) -> None:
        self._engine = caller._engine
        self._setup = caller._setup
        self._fn = caller._engine.for_many(fn)

    def __call__(self, row: tuple[Any, ...]) -> PilotFuture[Any]:
        return self._engine.submit(self._fn, self._setup, row, {})


class _ChunkSender(_Sender):
    def __call__(self, rows: list[tuple[Any, ...]]) -> PilotFuture[Any]:  # type: ignore[override]
        text = bounded(f"{len(rows)} calls, from {arguments(rows[0], {})}")
        return self._engine.submit(self._fn, self._setup, (rows,), {}, text)


class _Rest:
    """Sends what is left of a map, as long as its pool is there."""

    def __init__(self, caller: _Caller, send: Callable[[Any], PilotFuture[Any]], calls: Iterator[Any]) -> None:
        self._caller = weakref.ref(caller)
        self._send = send
        self._calls = calls

    def next(self) -> PilotFuture[Any] | None:
        caller = self._caller()
        if caller is None:
            return None
        for call in self._calls:
            caller._check_open()
            return self._send(call)
        return None


def _results(futures: collections.deque[PilotFuture[Any]], until: float | None, rest: _Rest | None) -> Iterator[Any]:
    """Yield the results of `futures`; those that are not yielded in the end are canceled."""
    try:
        while futures:
            if rest is not None and (more := rest.next()) is not None:
                futures.append(more)
            yield _result_or_cancel(futures.popleft(), None if until is None else until - time.monotonic())
    finally:
        for left in futures:
            left.cancel()


def _result_or_cancel(future: PilotFuture[T], timeout_s: float | None) -> T:
    try:
        return future.result(timeout_s)
    finally:
        future.cancel()  # if it was not waited for to its end
        del future  # whose exception must not keep it alive


def _flat(lists: Iterator[list[T]]) -> Iterator[T]:
    for values in lists:
        values.reverse()
        while values:  # which are not kept
            yield values.pop()


def _in_chunks(fn: Callable[..., T]) -> Callable[[list[tuple[Any, ...]]], list[T]]:
    """Return a function that calls `fn` for each of many rows. It is pickled by value, as all inner functions are."""

    def call(rows: list[tuple[Any, ...]]) -> list[T]:
        return [fn(*row) for row in rows]

    call.__name__ = call.__qualname__ = name_of(fn)
    call.__wrapped__ = fn  # type: ignore[attr-defined]  # as functools.wraps does
    return call
