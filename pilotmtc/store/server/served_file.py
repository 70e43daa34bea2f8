"""The file that a store's server has opened: its lock, requests to it, and whether it is still at its path."""

import contextlib
import logging
import os

from pilotmtc.errors import PilotMTCError, StoreError
from pilotmtc.protocol.base import Reply
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.access.keys import keyed_pilots
from pilotmtc.store.ownership.filesystem import NETWORK, opening_of
from pilotmtc.store.ownership.owner import EXIT_MOVED, Lease
from pilotmtc.store.ownership.takeover import Tell, become_owner
from pilotmtc.store.server.listener import ServerLock
from pilotmtc.store.sqlite import Join, SqliteStore

log = logging.getLogger("pilotmtc.store.server")

LEASE_S = 60.0  # a pilot that is silent for this time is given up
LEASE_VARIABLE = "PILOTMTC_SERVER_LEASE_S"


class ServedFile:
    """The open store at `path`, which is real and absolute; no other server has it.

    On a network file system, `tell` is called with what the start waits for.

    Attributes
    ----------
    exclusive
        Whether it is on a network file system.
    over
        Whether the server must stop using it.
    ousted
        Whether the files beside the store may belong to another server.
    """

    def __init__(self, path: str, tell: Tell) -> None:
        self._path = path
        self._opening = opening_of(path)
        self.exclusive = self._opening.mode == NETWORK
        self.over = False
        self.ousted = False
        self.ownership: ServerLock | Lease = become_owner(path, tell) if self.exclusive else ServerLock(path)
        self._identity: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.ownership.release)
            self.store = self._open()
            undo.callback(self.store.close)
            self._identity, self._log = _identity(path), _identity(f"{path}-wal")
            self._take_up_keys()
            undo.pop_all()

    @property
    def host(self) -> str:
        """The name under which other hosts send clients here; empty if they send none."""
        return self.ownership.host if isinstance(self.ownership, Lease) else ""

    def _open(self) -> SqliteStore:
        lease_s = float(os.environ.get(LEASE_VARIABLE, LEASE_S))
        return SqliteStore(self._path, lease_s=lease_s, exclusive=self.exclusive, prove=self._prove)

    def _prove(self) -> None:
        """Check that no other process can have the store, and that its path still leads to the open file.

        Raises
        ------
        StoreError
            If not: then nothing may be written, and no answer may be sent for what was written.
        """
        self.ownership.prove()
        if self._identity is None:  # it is being opened
            return
        try:
            there, log_there = _identity(self._path), _identity(f"{self._path}-wal")
        except OSError as error:
            raise StoreError(f"{self._path} cannot be looked at: {error.strerror}; nothing may be written") from error
        if there != self._identity:
            self.over = True
            raise StoreError(
                f"{self._path} was moved, removed or replaced under its server, which leaves; what it has acknowledged "
                "is in the file that was there: put that back, or name its new place with --store"
            )
        if (
            log_there != self._log and self._log is not None and not self.over
        ):  # it is still open: closing the store merges it into the file
            self.over = True
            raise StoreError(
                f"{self._path}-wal, with the end of the store's contents, was removed under its server, which saves "
                "them and leaves: do that again, and let the file be"
            )

    def _take_up_keys(self) -> None:
        """Find keys that were left behind by ended pilots."""
        try:
            self.store.watch_keys(keyed_pilots(self._path))
        except StoreError as error:
            log.error("keys of pilots that are over are not looked for: %s", error)

    def ask(self, requests: list[AnyRequest], log_path: str, join: Join = lambda _: ()) -> list[Reply | PilotMTCError]:
        """Perform `requests` in one commit, as `SqliteStore.call_many` does; an internal error names the log."""
        if not requests:
            return []
        try:
            return list(self.store.call_many(requests, join))
        except PilotMTCError as error:
            return [error] * len(requests)
        except Exception:
            # A bug that one request triggers must not stop the store for everyone: the client repeats its request, and
            # would bring down every new server as well. So it is logged, and the client gets an error.
            log.exception("a request could not be done; trying each by itself")
        return [self._ask_one(request, log_path) for request in requests]

    def _ask_one(self, request: AnyRequest, log_path: str) -> Reply | PilotMTCError:
        try:
            return self.store.call_many([request])[0]
        except PilotMTCError as error:
            return error
        except Exception as error:
            log.exception("a request cannot be done: %.1000r", request)
            try:
                self.store.close()
                self._log = None  # closing has removed the file
                self.store = self._open()  # this undoes an incomplete transaction
                self._log = _identity(f"{self._path}-wal")
            except PilotMTCError as failure:  # the next server may succeed
                self.over = True
                return failure
            return StoreError(
                f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it with the log {log_path}"
            )

    def still_there(self) -> bool:
        """Return whether the file at the store's path is the open one, and opened in the right mode.

        If not, the server must exit.
        """
        if self.over:
            return False
        if _identity(self._path) != self._identity or not self.ownership.held():
            log.warning("leaving: %s was moved, removed or replaced", self._path)
            if self.exclusive:
                os._exit(EXIT_MOVED)  # the files belong to another server now
            self.over = True
        elif opening_of(self._path).mode != self._opening.mode:
            log.info("leaving: %s is to be opened in another mode", self._path)
            self.over = True
        return not self.over

    def close(self) -> None:
        """Merge the log into the file, and remove the log unless it may belong to another server."""
        try:
            if self.exclusive:
                self.store.complete()
            elif not self.ownership.held():
                self.ousted = True
            elif _identity(self._path) != self._identity:
                self.store.close_moved()
            else:
                self.store.close()
        except (PilotMTCError, OSError) as error:  # the next server will do it
            log.error("the store was not closed: %s", error)
            self.ousted = True
        self.ownership.release()

    def give_up(self) -> None:
        """Close a file that was never served."""
        self.store.close()
        self.ownership.release()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        seen = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_dev, seen.st_ino
