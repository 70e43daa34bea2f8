"""The store in an SQLite file. One process owns it; nothing here waits.

Handlers of the requests are functions over a `Transaction` in `requests`; this file does them in transactions.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

from pilotmtc.clock import Clock, SystemClock
from pilotmtc.errors import PilotMTCError, StoreBusy, StoreError, UsageError
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import Effect, Execution, R, Reply, Request
from pilotmtc.protocol.client.maintenance import Compacted, CompactStore
from pilotmtc.protocol.client.pilots import GetPilotFile
from pilotmtc.protocol.client.tasks import Cancel, Edit, Retry
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.file import maintenance
from pilotmtc.store.file.opening import TROUBLE, open_file, translate
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.file.values import file_names, remove_unused
from pilotmtc.store.live.wakeups import Wakeup
from pilotmtc.store.requests import (  # noqa: F401 -- some are imported only to register what they handle
    claim,
    finish,
    inspect,
    jobs,
    overview,
    pilots,
    query,
    slices,
    slow,
    steer,
    submit,
    values,
)
from pilotmtc.store.requests.handlers import HANDLERS, THREAD_HANDLERS, InThread, StoreFile
from pilotmtc.store.requests.jobs import OpenJobs

log = logging.getLogger("pilotmtc.store.server")

# What SQLite and Python raise for values that no row can hold.
_BAD_VALUES = (OverflowError, UnicodeEncodeError, sqlite3.IntegrityError)

T = TypeVar("T")
Answer = Reply | PilotMTCError


class SqliteStore:
    """A store in the file `path`, opened or created (mode 0600, directories made).

    Parameters
    ----------
    path
        The file.
    clock
        Time for leases and records.
    lease_s
        How long a pilot may be silent.
    exclusive
        Keep all other processes from opening the file, as on a network file system.
    prove
        Raises, or does not return, when this process may not have the file any more. Called before each commit and
        before its answers.

    Raises
    ------
    ConfigError, SchemaMismatch, StoreError
        If the file cannot be opened; the text says why and what to do.
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
            # Numbers of an earlier server lie below: a watcher that comes with one is told to look anew.
            seq = int(clock.now() * 1e9)
            self._tx = Transaction(self._connection, clock, lease_s, seq, prove)
            self._tx.value_files.remove_parts()

    def close(self) -> None:
        """Close the file."""
        with self._translated():
            self._prove()
            self._connection.close()

    def close_moved(self) -> None:
        """Close the file, which has another name by now or none: its log goes into it, and is removed by its old name.

        Left there, it would be taken for that of the next file with the store's name. SQLite by itself leaves it.

        Raises
        ------
        StoreError
            If another process has the file by its new name.
        """
        with self._translated():
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            except sqlite3.OperationalError as error:  # the log is gone, but the file cannot be told by its old name
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED:
                    raise
                mode = "delete"
            if mode != "delete":
                raise StoreBusy(f"another process has opened what was {self.path} by its new name")
            self._connection.close()

    def complete(self) -> None:
        """Bring the log into the file, which stays open.

        To close it is to remove the log by name as well. On a network file system this process may stand still just
        then, and find the next owner's log under that name when it goes on.
        """
        with self._translated():
            self._prove()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def call(self, request: Request[R]) -> R:
        """Do what `request` says, in one transaction; each request's class tells what it means.

        Raises
        ------
        UsageError, StateError, StoreError
            As the request deserves.
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

    def call_many(self, requests: Sequence[AnyRequest]) -> list[Answer]:
        """Do all of `requests` in order, in one transaction with one commit; answer a reply or an error for each.

        One that fails does not affect the others. If the commit fails, nothing is applied, and all requests that would
        have changed something get the error.
        """
        answers: list[Answer | None] = [None] * len(requests)
        inside = [n for n, request in enumerate(requests) if request.handling.execution is Execution.TRANSACTION]
        if inside:
            for n, answer in zip(inside, self._transaction([requests[n] for n in inside]), strict=True):
                answers[n] = answer
        for n, request in enumerate(requests):
            if answers[n] is None:
                answers[n] = self._outside(request)
        return cast("list[Answer]", answers)

    def due(self) -> float:
        """Do what is due; return seconds until this should be called again, 10 at the most.

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
        """Return seconds until `due` may have something to do, 10 at the most: each commit may bring a nearer deadline.

        Raises
        ------
        StoreError
            If the disk fails.
        """
        with self._translated():
            return pilots.nap_s(self._tx)

    def heard(self, pilot: int, ago_s: float) -> None:
        """Count anything that comes from a pilot's agent as a sign of life: a large message may take long."""
        self._tx.leases.heard(PilotId(pilot), ago_s)

    def extend_leases(self, stalled_s: float) -> bool:
        """Extend leases, since the server stalled for so long; return whether all of them start again."""
        return self._tx.leases.extend(stalled_s)

    def watch_keys(self, keys: Sequence[str]) -> None:
        """Have schedulers asked again about pilots that have ended but whose keys, among these, are still there.

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
        durable = slices.next_is_over(tx)  # what the slices have written is synced before anybody is told
        try:
            self._by_itself(lambda: slices.go_on(tx, steer.cancel, steer.retry, steer.edit), durable=durable)
        except _BAD_VALUES as error:
            failure = _bad_value(error)
        except (*TROUBLE, StoreError):  # it may get better
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
        """Do something that no request asks for, in a transaction."""
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
        """Return the schedulers that have to be asked about pilots."""
        with self._translated():
            return jobs.open_jobs(self._tx)

    def take_wakeup(self) -> Wakeup:
        """Return whom to wake for what commits have brought since the last call."""
        return self._tx.wakeups.take()

    def find_pilot(self, key: str) -> PilotId | None:
        """Return the pilot with this key, None if there is none."""
        with self._translated():
            return inspect.find_pilot(self._tx, key)

    def pilot_directory(self, pilot: int) -> str:
        """Return where the files of a pilot lie.

        Raises
        ------
        UsageError
            If there is no such pilot.
        """
        with self._translated():
            return inspect.pilot_directory(self._tx, pilot)

    # -- transactions ------------------------------------------------------------------------------------------

    def _transaction(self, requests: list[AnyRequest]) -> list[Answer]:
        tx = self._tx
        effects = {request.handling.effect for request in requests}
        # What this host has not written yet, the next owner does not see.
        durable = self._exclusive or Effect.DURABLE in effects
        try:
            tx.begin(writes=effects != {Effect.READ}, durable=durable)
            answers = [self._one(request, alone=len(requests) == 1) for request in requests]
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
        self._prove()  # another owner may have taken over: then nobody is told
        return answers

    def _one(self, request: AnyRequest, alone: bool) -> Answer:
        """Do one request; if it fails, what it has done is undone: by a savepoint unless it is the only request."""
        handler = HANDLERS.get(type(request))
        if handler is None:
            return UsageError(f"the store does not know the request {type(request).__name__}")
        if isinstance(request, Cancel | Retry | Edit) and request.key in self._failed_changes:
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

    def _after_failure(self, requests: list[AnyRequest], error: PilotMTCError) -> list[Answer]:
        """Return `error` for requests that would have changed something; do the others once more."""
        looks = [request for request in requests if request.handling.effect is Effect.READ]
        if len(looks) == len(requests):
            return [error] * len(requests)
        found = iter(self._transaction(looks) if looks else ())
        return [next(found) if request.handling.effect is Effect.READ else error for request in requests]

    def _outside(self, request: AnyRequest) -> Answer:
        """Do one request outside a transaction."""
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
        """Return what does a request that is done beside the loop; another thread may call it.

        Raises
        ------
        PilotMTCError
            If it cannot be done. What is returned raises them, too.
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
    """The only request of a transaction failed."""

    def __init__(self, error: PilotMTCError) -> None:
        super().__init__(str(error))
        self.error = error


def _bad_value(error: Exception) -> PilotMTCError:
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError(f"the store refused: {error}; `pilotmtc store check` looks for what is wrong")
    return UsageError(f"the request holds a value that cannot be stored: {error}")
