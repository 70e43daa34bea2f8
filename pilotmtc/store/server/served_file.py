"""The file of a store's server: its lock, whether it is still at its path, and requests to it."""

import contextlib
import logging
import os

from pilotmtc.errors import PilotMTCError, StoreError
from pilotmtc.protocol.base import Reply
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.access.keys import keyed_pilots
from pilotmtc.store.ownership.filesystem import NETWORK, place_of
from pilotmtc.store.ownership.owner import EXIT_MOVED, Lease
from pilotmtc.store.ownership.takeover import Tell, become_owner
from pilotmtc.store.server.listener import ServerLock
from pilotmtc.store.sqlite import SqliteStore

log = logging.getLogger("pilotmtc.store.server")

LEASE_S = 60.0  # a pilot that is silent for so long is given up
LEASE_VARIABLE = "PILOTMTC_SERVER_LEASE_S"


class ServedFile:
    """The store at `path` (real and absolute), open in this process only.

    On a network file system `tell` hears what the start waits for.

    Attributes
    ----------
    exclusive
        Whether it lies on a network file system.
    over
        Whether there is no use in going on with it.
    ousted
        Whether the names beside the store may be those of another server.
    """

    def __init__(self, path: str, tell: Tell) -> None:
        self._path = path
        self._place = place_of(path)
        self.exclusive = self._place.mode == NETWORK
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
        """The name to which other hosts send clients; empty if they send none."""
        return self.ownership.host if isinstance(self.ownership, Lease) else ""

    def _open(self) -> SqliteStore:
        lease_s = float(os.environ.get(LEASE_VARIABLE, LEASE_S))
        return SqliteStore(self._path, lease_s=lease_s, exclusive=self.exclusive, prove=self._prove)

    def _prove(self) -> None:
        """Return if nobody else can have the store, and its name still leads to the file that is open.

        Raises
        ------
        StoreError
            If not: nothing may be written, and nothing that was may be told.
        """
        self.ownership.prove()
        if self._identity is None:  # it is only being opened
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
        ):  # it is still open: closing the store brings it into the file
            self.over = True
            raise StoreError(
                f"{self._path}-wal, with the end of the store's contents, was removed under its server, which saves "
                "them and leaves: do that again, and let the file be"
            )

    def _take_up_keys(self) -> None:
        """Look for keys left behind by pilots that have ended."""
        try:
            self.store.watch_keys(keyed_pilots(self._path))
        except StoreError as error:
            log.error("keys of pilots that are over are not looked for: %s", error)

    def ask(self, requests: list[AnyRequest], log_path: str) -> list[Reply | PilotMTCError]:
        """Do `requests` in one commit; an error names the log at `log_path`."""
        if not requests:
            return []
        try:
            return list(self.store.call_many(requests))
        except PilotMTCError as error:
            return [error] * len(requests)
        except Exception:
            # A bug that one request triggers must not take the store away from everybody: the client asks again, and
            # would bring down every next server, too. It is logged, and the client gets an error.
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
                self._log = None  # it has removed it
                self.store = self._open()  # which undoes what was half done
                self._log = _identity(f"{self._path}-wal")
            except PilotMTCError as failure:  # the next server may be able to
                self.over = True
                return failure
            return StoreError(
                f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it with the log {log_path}"
            )

    def still_there(self) -> bool:
        """Return whether the file at the store's path is the one that is open, and opened as it should be.

        If not, leave.
        """
        if self.over:
            return False
        if _identity(self._path) != self._identity or not self.ownership.held():
            log.warning("leaving: %s was moved, removed or replaced", self._path)
            if self.exclusive:
                os._exit(EXIT_MOVED)  # its files belong to another server now
            self.over = True
        elif place_of(self._path).mode != self._place.mode:
            log.info("leaving: %s is to be opened in another mode", self._path)
            self.over = True
        return not self.over

    def close(self) -> None:
        """Bring the log into the file, and remove the log unless it may be another server's by now."""
        try:
            if self.exclusive:
                self.store.complete()
            elif not self.ownership.held():
                self.ousted = True
            elif _identity(self._path) != self._identity:
                self.store.close_moved()
            else:
                self.store.close()
        except (PilotMTCError, OSError) as error:  # the next server does it
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
