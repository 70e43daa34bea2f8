"""`SqliteStore`: the store in an SQLite file, which one process owns. Nothing here waits.

The handlers of requests are in `requests`; this file runs them in transactions.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

from pilotmtc.clock import Clock, SystemClock
from pilotmtc.errors import PilotMTCError, StoreBusy, StoreError, UsageError
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import Effect, Execution, R, Reply, Request
from pilotmtc.protocol.client.campaigns import DeleteCampaign
from pilotmtc.protocol.client.maintenance import Compacted, CompactStore
from pilotmtc.protocol.client.pilots import GetPilotFile
from pilotmtc.protocol.client.tasks import Cancel, Edit, HoldTasks, Retry
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.file import maintenance
from pilotmtc.store.file.opening import TROUBLE, open_file, translate
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.file.values import file_names, remove_unused
from pilotmtc.store.live.wakeups import Wakeup

# Some are imported only to register what they handle.
from pilotmtc.store.requests import programs, slow, values  # noqa: F401
from pilotmtc.store.requests.handlers import HANDLERS, THREAD_HANDLERS, InThread, StoreFile
from pilotmtc.store.requests.look import history, inspect, overview, query  # noqa: F401
from pilotmtc.store.requests.pilots import jobs, pilot_files, pilots  # noqa: F401
from pilotmtc.store.requests.pilots.jobs import OpenJobs
from pilotmtc.store.requests.steer import delete, slices, steer
from pilotmtc.store.requests.tasks import claim, finish, submit  # noqa: F401

log = logging.getLogger("pilotmtc.store.server")

# Raised by SQLite and Python for values that no row can hold.
_BAD_VALUES = (OverflowError, UnicodeEncodeError, sqlite3.IntegrityError)

T = TypeVar("T")
ReplyOrError = Reply | PilotMTCError
Join = Callable[[Wakeup], Iterable[AnyRequest]]


class SqliteStore:
    """The store in the file `path`, which is created with mode 0600 if it does not exist.

    Parameters
    ----------
    path
        The file.
    clock
        The time for leases and records.
    lease_s
        How long a pilot may be silent.
    exclusive
        Let no other process open the file, as on a network file system.
    prove
        Raises or exits if this process must not use the file any longer. Called before each commit and before the
        answers to it.

    Raises
    ------
    ConfigError, SchemaMismatch, StoreError
        If the file cannot be opened; the text says why, and what to do.
    """

    def __init__(
        self,
        path: str | Path,
        clock: Clock | None = None,
        lease_s: float = 60.0,
        *,
        exclusive: bool = False,
        prove: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        clock = clock or SystemClock()
        self._exclusive = exclusive
        self._prove = prove
        self._connection = open_file(self.path, exclusive, prove)
        self._failed_changes: dict[str, PilotMTCError] = {}
        with self._translated():
            # Higher than all numbers of earlier servers: a client with one of those is told to read everything again.
            seq = int(clock.now() * 1e9)
            self._tx = Transaction(self._connection, clock, lease_s, seq, prove)
            self._tx.value_files.remove_parts()

    def close(self) -> None:
        """Close the file."""
        with self._translated():
            self._prove()
            self._connection.close()

    def close_moved(self) -> None:
        """Close a file that was renamed or removed: merge its log into it, and remove the log under its old name.

        SQLite itself would leave the log there, and it would be used with the next file of that name.

        Raises
        ------
        StoreError
            If another process has opened the file under its new name.
        """
        with self._translated():
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            except sqlite3.OperationalError as error:  # the log has gone, but the file's old name cannot be used
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED:
                    raise
                mode = "delete"
            if mode != "delete":
                raise StoreBusy(f"another process has opened what was {self.path} by its new name")
            self._connection.close()

    def complete(self) -> None:
        """Merge the log into the file, which stays open.

        Closing it would also remove the log by name. On a network file system, if this process is paused at that
        moment, the next owner's log may have that name when it continues.
        """
        with self._translated():
            self._prove()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def call(self, request: Request[R]) -> R:
        """Perform `request`, whose class documents it, in one transaction.

        Raises
        ------
        UsageError, StateError, StoreError
            If the request is invalid, not possible in the present state, or the file fails.
        """
        (answer,) = self.call_many((request,))
        while isinstance(answer, slices.Pending | InThread):
            if isinstance(answer, slices.Pending):
                self.due()
            elif (reply := answer.do()) is not None:
                return cast("R", reply)
            (answer,) = self.call_many((request,))
        if isinstance(answer, PilotMTCError):
            raise answer
        return cast("R", answer)

    def call_many(self, requests: Sequence[AnyRequest], join: Join = lambda _: ()) -> list[ReplyOrError]:
        """Perform `requests` in order, with one commit; return a reply or an error for each.

        A failed request does not affect the others. If the commit fails, nothing is changed, and all requests that
        would have changed something get the error.

        Parameters
        ----------
        join
            Told what `requests` will wake when they are committed. The requests that it returns are performed after
            them, with the same commit. Their replies come last, and are missing if nothing was committed.
        """
        answers: list[ReplyOrError | None] = [None] * len(requests)
        inside = [n for n, request in enumerate(requests) if request.handling.execution is Execution.TRANSACTION]
        joined: list[ReplyOrError] = []
        if inside:
            found = self._transaction([requests[n] for n in inside], join)
            joined = found[len(inside) :]
            for n, answer in zip(inside, found, strict=False):
                answers[n] = answer
        for n, request in enumerate(requests):
            if answers[n] is None:
                answers[n] = self._outside(request)
        return [*cast("list[ReplyOrError]", answers), *joined]

    def due(self) -> float:
        """Do what is due; return the time until this should be called again, at most 10 s.

        Raises
        ------
        StoreError
            If the disk fails; call again later.
        """
        with self._translated():
            if pilots.is_due(self._tx):
                self._by_itself(lambda: pilots.do_due(self._tx))
            if self._tx.caches.pending_changes:
                self._go_on()
            return pilots.nap_s(self._tx)

    def nap(self) -> float:
        """Return the time until `due` may have something to do, at most 10 s. It may become shorter with each commit.

        Raises
        ------
        StoreError
            If the disk fails.
        """
        with self._translated():
            return pilots.nap_s(self._tx)

    def heard(self, pilot: int, ago_s: float) -> None:
        """Take any data from a pilot's agent as a sign of life, because a large message may take long."""
        self._tx.leases.heard(PilotId(pilot), ago_s)

    def extend_leases(self, stalled_s: float) -> bool:
        """Extend leases, since the server stalled for so long; return whether all of them start again."""
        return self._tx.leases.extend(stalled_s)

    def watch_keys(self, keys: Sequence[str]) -> None:
        """Have schedulers asked again about ended pilots that still have one of these keys.

        Raises
        ------
        StoreError
            If the disk fails.
        """
        with self._translated():
            if found := jobs.left_keys(self._tx, keys):
                self._by_itself(lambda: jobs.watch_again(self._tx, found))

    @property
    def pending_changes(self) -> int:
        """How many users' changes are not complete: each `due` does a slice."""
        return self._tx.caches.pending_changes

    def _go_on(self) -> None:
        tx = self._tx
        acts: dict[type, Callable[..., slices.Slice]] = {
            Cancel: steer.cancel, Retry: steer.retry, Edit: steer.edit, HoldTasks: steer.hold,
            DeleteCampaign: delete.delete,
        }  # fmt: skip
        durable = slices.next_is_over(tx)  # sync what the slices have written before the client gets its reply
        try:
            self._by_itself(lambda: slices.go_on(tx, acts), durable=durable)
        except _BAD_VALUES as error:
            failure = _bad_value(error)
        except (*TROUBLE, StoreError):  # it may work later
            raise
        except PilotMTCError as error:
            failure = error
        except Exception as error:
            # A change that meets a bug must not meet it again in every server.
            log.exception("a change cannot be completed")
            failure = StoreError(f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it")
        else:
            return
        self._failed_changes[self._by_itself(lambda: slices.give_up(tx))] = failure

    def _by_itself(self, do: Callable[[], T], *, durable: bool = False) -> T:
        """Do something in a transaction of its own, without a request."""
        tx = self._tx
        try:
            tx.begin(durable=durable or self._exclusive)
            done = do()
            tx.commit()
        except BaseException:
            tx.roll_back()
            raise
        self._prove()
        return done

    def open_jobs(self) -> dict[str, OpenJobs]:
        """Return the schedulers that must be asked about pilots."""
        with self._translated():
            return jobs.open_jobs(self._tx)

    def take_wakeup(self) -> Wakeup:
        """Return what to wake for the commits since the last call."""
        return self._tx.wakeups.take()

    def find_pilot(self, key: str) -> PilotId | None:
        """Return the pilot with this key; None if there is none."""
        with self._translated():
            return inspect.find_pilot(self._tx, key)

    def pilot_directory(self, pilot: int) -> str:
        """Return the directory of a pilot.

        Raises
        ------
        UsageError
            If there is no such pilot.
        """
        with self._translated():
            return inspect.pilot_directory(self._tx, pilot)

    # -- transactions ------------------------------------------------------------------------------------------

    def _transaction(self, requests: list[AnyRequest], join: Join = lambda _: ()) -> list[ReplyOrError]:
        tx = self._tx
        effects = {request.handling.effect for request in requests}
        # The next owner does not see what this host has not written to disk.
        durable = self._exclusive or Effect.DURABLE in effects
        try:
            tx.begin(writes=effects != {Effect.READ}, durable=durable)
            answers = [self._one(request, alone=len(requests) == 1) for request in requests]
            answers += [self._one(request, alone=False) for request in join(tx.wakeups.staged)]
            tx.commit()
        except TROUBLE as error:
            tx.roll_back()
            return self._after_failure(requests, translate(error, self.path))
        except _RolledBack as failure:
            tx.roll_back()
            return [failure.error]
        except BaseException:
            tx.roll_back()
            raise
        self._prove()  # if another owner has taken over, no client gets an answer
        return answers

    def _one(self, request: AnyRequest, alone: bool) -> ReplyOrError:
        """Perform a request; if it fails, undo it: with a savepoint, unless it is the only request."""
        handler = HANDLERS.get(type(request))
        if handler is None:
            return UsageError(f"the store does not know the request {type(request).__name__}")
        if isinstance(request, Cancel | Retry | Edit | HoldTasks) and request.key in self._failed_changes:
            return self._failed_changes.pop(request.key)
        tx = self._tx
        reads = request.handling.effect is Effect.READ
        marks = None if reads or alone else tx.mark()
        try:
            answer = handler(tx, request)
            tx.settle()
        except PilotMTCError as error:
            failure = error
        except _BAD_VALUES as error:
            failure = _bad_value(error)
        else:
            if marks is not None:
                tx.keep()
            return answer
        if marks is not None:
            tx.rewind(marks)
        elif not reads:
            raise _RolledBack(failure)
        return failure

    def _after_failure(self, requests: list[AnyRequest], error: PilotMTCError) -> list[ReplyOrError]:
        """Return `error` for requests that would have changed something; perform the others again."""
        looks = [request for request in requests if request.handling.effect is Effect.READ]
        if len(looks) == len(requests):
            return [error] * len(requests)
        found = iter(self._transaction(looks) if looks else ())
        return [next(found) if request.handling.effect is Effect.READ else error for request in requests]

    def _outside(self, request: AnyRequest) -> ReplyOrError:
        """Perform a request outside of transactions."""
        try:
            return self._compact() if isinstance(request, CompactStore) else self.for_thread(request)()
        except PilotMTCError as error:
            return error

    def _compact(self) -> Compacted:
        with self._translated():
            self._prove()
            self._by_itself(lambda: remove_unused(self._tx))
            self._tx.value_files.sweep(file_names(self._connection))
            done = maintenance.compact(self._connection, self.path)
            self._prove()
            return done

    def for_thread(self, request: AnyRequest) -> Callable[[], Reply]:
        """Return a function that performs a request outside of transactions, for another thread.

        Raises
        ------
        PilotMTCError
            If the request cannot be performed; the returned function may raise them as well.
        """
        handler = THREAD_HANDLERS[type(request)]
        directory = self.pilot_directory(request.pilot) if isinstance(request, GetPilotFile) else ""
        file = StoreFile(self.path, self._connection if self._exclusive else None, directory)

        def do() -> Reply:
            with self._translated():
                return handler(file, request)

        return do

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            raise translate(error, self.path) from error
        except (OverflowError, UnicodeError) as error:
            raise _bad_value(error) from error


class _RolledBack(Exception):
    """The only request of a transaction has failed."""

    def __init__(self, error: PilotMTCError) -> None:
        super().__init__(str(error))
        self.error = error


def _bad_value(error: Exception) -> PilotMTCError:
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError(f"the store refused: {error}; `pilotmtc store check` looks for what is wrong")
    return UsageError(f"the request holds a value that cannot be stored: {error}")
