"""How a host becomes the owner of a store on a network file system: it waits, claims the store, and takes it over."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable

from pilotmtc.errors import ConfigError, StoreBusy, StoreError, StoreMoved
from pilotmtc.store.file.opening import TROUBLE, translate
from pilotmtc.store.ownership.filesystem import owner_directory
from pilotmtc.store.ownership.owner import (
    SILENT,
    Lease,
    Record,
    Seen,
    Verdict,
    claim,
    is_alive,
    judge,
    look,
    parse,
    period_s,
    this_host,
)
from pilotmtc.system import private_files
from pilotmtc.units import format_memory

log = logging.getLogger("pilotmtc.store.server")

# Told while a start waits: ``wait`` or the name of an error, and a message for clients.
Tell = Callable[[str, str], None]
_LOOKS = 5  # per period
_WORRIED = 2  # after so many periods without a change, clients are no longer sent to that host


class ServedHere(StoreBusy):
    """A process on this host has the store; it listens on `socket`, which is empty before it listens."""

    def __init__(self, message: str, socket: str = "") -> None:
        super().__init__(message)
        self.socket = socket


def become_owner(store: str, tell: Tell) -> Lease:
    """Wait until this host can own `store` (a real path); return the lease.

    While another host owns it, call `tell`, keep watching, and take over when that host has been silent for too long.

    Raises
    ------
    ServedHere
        If a process on this host has it.
    StoreMoved
        If another host owns it and has shown a sign of life.
    ConfigError, StoreError
        If the directory cannot be used.
    """
    directory = owner_directory(store)
    here, renew_s = this_host(), period_s()
    try:
        private_files.make_directory(directory)
        seen, since, stirred = look(directory), time.monotonic(), False
        while True:
            unchanged_s = time.monotonic() - since
            verdict = judge(seen, here, is_alive, unchanged_s, renew_s)
            if verdict is Verdict.HERE:
                record = parse(seen.data)
                raise ServedHere(f"process {record.pid} serves {store}", record.socket)
            if verdict is Verdict.ELSEWHERE:
                if stirred and (owner := _record(seen)) is not None:
                    raise _moved(owner, store)
                tell(*_words(store, seen, unchanged_s, renew_s))
            else:
                log.info("claim %d of %s is %s", seen.number, store, verdict.value)
                if (lease := claim(store, seen, here, renew_s)) is not None:
                    return _made_safe(store, lease, seen, verdict, tell)
            time.sleep(renew_s / _LOOKS)
            again = look(directory)
            if again != seen:
                seen, since, stirred = again, time.monotonic(), True
    except OSError as error:
        raise ConfigError(
            f"the store {store} cannot be used: {error.filename or directory}: {error.strerror}; "
            "choose another place with --store or PILOTMTC_STORE"
        ) from error


def _words(store: str, seen: Seen, unchanged_s: float, renew_s: float) -> tuple[str, str]:
    """Return the message about another host's claim."""
    record = _record(seen)
    if record is None:
        return "wait", f"somebody is about to open {store}, or was when it died; waiting to see which"
    period_s = max(renew_s, record.renew_s)
    if unchanged_s < _WORRIED * period_s:
        return "StoreMoved", str(_moved(record, store))
    return "wait", (
        f"{record.host.name} has {store} but has not been heard of for {unchanged_s:.0f} s; "
        f"it is taken over after {SILENT * period_s:.0f} s"
    )


def _moved(record: Record, store: str) -> StoreMoved:
    host = record.host.name
    return StoreMoved(f"moved: {host}: it has {store} open, and no other can before a minute without clients")


def _record(seen: Seen) -> Record | None:
    try:
        return parse(seen.data)
    except StoreError:
        return None


# -- keeping the former owner out ---------------------------------------------------------------------------------


def _made_safe(store: str, lease: Lease, seen: Seen, verdict: Verdict, tell: Tell) -> Lease:
    """Make sure that the former owner can do no harm if it was only asleep; return `lease`."""
    before = _record(seen)
    finished = seen.number == 0 or (before is not None and before.state != "claimed")
    try:
        _remove_copies(store)
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(store + suffix)  # the file system's client then drops what it has cached of it
        if (verdict is Verdict.SILENT or not finished) and os.path.exists(store):
            host = before.host.name if before is not None else "another host"
            _replace_file(store, lease, host, tell)
        lease.forget_older()
    except BaseException:
        lease.abandon()
        raise
    return lease


def _remove_copies(store: str) -> None:
    """Remove the copies that other claims have started, so that they cannot continue."""
    directory, name = os.path.split(store)
    for left in os.listdir(directory):
        if left.startswith(f"{name}.take-"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, left))


def _replace_file(store: str, lease: Lease, host: str, tell: Tell) -> None:
    """Replace the file and its log with copies.

    If the former owner was stopped in the middle of a write and wakes up later, it then writes to a file without a name
    (whose locks it may still hold). It has acknowledged nothing that the copy lacks, because it checks its lease before
    it answers. Both copies are renamed from names of this claim, which the next claim removes first: so a process that
    was stopped in the middle of *this* function does no harm later, either.
    """
    part = f"{store}.take-{lease.number}"
    size_bytes = sum(os.stat(path).st_size for path in (store, f"{store}-wal") if os.path.exists(path))
    log.info("copying %s (%d bytes), which %s may still have open", store, size_bytes, host)
    tell("wait", f"taking {store} over from {host}: copying {format_memory(size_bytes)}")
    import shutil

    try:
        # First the file, then its log: what moves from the log to the file meanwhile is in the copy of the log as well.
        for suffix in ("", "-wal"):
            if os.path.exists(store + suffix):
                os.close(os.open(part + suffix, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                shutil.copyfile(store + suffix, part + suffix)
        _merge(part)
        for suffix in ("", "-wal"):  # an empty log replaces the old one
            _sync(part + suffix, os.O_RDWR | os.O_CREAT)
        lease.prove()
        os.rename(part, store)
        os.rename(f"{part}-wal", f"{store}-wal")
        _sync(os.path.dirname(store), os.O_RDONLY | os.O_DIRECTORY)
    except TROUBLE as error:
        raise translate(error, store) from error
    except OSError as error:
        raise StoreError(
            f"{store} cannot be taken over from {host}: {error.strerror}; it needs room for a copy of "
            f"{format_memory(size_bytes)} beside it"
        ) from error


def _merge(path: str) -> None:
    """Merge the log of the file at `path` into the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
