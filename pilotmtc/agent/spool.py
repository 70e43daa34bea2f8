"""Keeps results on the pilot's disk until the store has acknowledged them.

`pilotmtc.protocol.spool` says what is in the files ``spool.N``. A file is emptied when all in it is acknowledged, or
removed when a newer one is in use. Its writer keeps it locked: when the lock is free the writer is dead.

What the store takes at once never waits for the disk. What it has not taken for a second is synced, by a thread of its
own, so that it outlives the machine, too.
"""

import contextlib
import fcntl
import logging
import os
import queue
import threading
import time
from pathlib import Path

import msgspec

from pilotmtc.errors import ConfigError
from pilotmtc.model import Result
from pilotmtc.protocol.spool import pack, spool_files

SEGMENT_BYTES = 4 << 20
OWED_MAX_BYTES = 64 << 20  # that much unacknowledged, and nothing new is started
SYNC_AFTER_S = 1.0
_JOIN_S = 10.0
_NO_WRITE = "cannot spool results"
_NO_FILE = "cannot make another file for the spool"
_log = logging.getLogger("pilotmtc.agent")


class Segment:
    """One file of the spool.

    Attributes
    ----------
    size
        What is in the file.
    open_records, owed_bytes
        What is not acknowledged, in the file or not.
    complete
        All that is not acknowledged is in the file.
    """

    __slots__ = ("complete", "fd", "open_records", "owed_bytes", "path", "size", "synced")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks, where no spool counts as left behind
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = 0
        self.synced = 0
        self.open_records = 0
        self.owed_bytes = 0
        self.complete = True


class Spool:
    """The writer of the spool. Errors of the disk only cause warnings.

    Raises
    ------
    ConfigError
        If nothing can be written in `directory`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._encoder = msgspec.msgpack.Encoder()
        try:
            taken = [int(path.suffix[1:]) for path in spool_files(directory)]
            self._number = max(taken, default=0) + 1
            self._segment = Segment(directory / f"spool.{self._number}")
        except OSError as error:
            raise ConfigError(f"cannot write in the pilot's directory {directory}: {error.strerror}") from error
        self._open = {self._segment}
        self._warned: set[str] = set()
        self._unsynced_since: float | None = None
        self._syncer: _Syncer | None = None

    @property
    def full(self) -> bool:
        """Whether the store must take some results before there may be more."""
        return sum(segment.owed_bytes for segment in self._open) > OWED_MAX_BYTES

    @property
    def complete(self) -> bool:
        """Whether all results that the store has not acknowledged are on disk."""
        return all(segment.complete for segment in self._open)

    def write(self, results: list[Result]) -> Segment:
        """Append `results` with one write; return the segment, for `acked`.

        A full disk loses nothing: the results are on their way to the store. Only if the agent were killed now would
        their tasks have to run again.
        """
        if self._segment.size > SEGMENT_BYTES:
            self._next()
        segment = self._segment
        record = pack(self._encoder.encode(results))
        segment.open_records += 1
        segment.owed_bytes += len(record)
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        try:
            written = os.write(segment.fd, record)
            if written < len(record):
                segment.complete = False
                os.ftruncate(segment.fd, segment.size)
            else:
                segment.size += written
                self._warned.discard(_NO_WRITE)
        except OSError as error:
            segment.complete = False
            self._warn(_NO_WRITE, error)
        return segment

    def acked(self, segment: Segment) -> None:
        """Note that a record of `segment` is safe in the store."""
        segment.open_records -= 1
        if segment.open_records:
            return
        segment.owed_bytes = 0
        segment.complete = True
        if segment is self._segment:
            try:
                os.ftruncate(segment.fd, 0)
                segment.size = segment.synced = 0
            except OSError as error:  # sent once more at the worst, which does no harm
                self._warn("cannot empty the spool", error)
        else:
            self._drop(segment)
        if not any(each.open_records for each in self._open):
            self._unsynced_since = None

    def poll(self, now: float) -> None:
        """Sync what is old enough."""
        if self._unsynced_since is None or now - self._unsynced_since < SYNC_AFTER_S:
            return
        self._unsynced_since = now  # counts for what comes from now on
        for segment in self._open:
            if segment.size > segment.synced:
                try:
                    if self._syncer is None:
                        self._syncer = _Syncer(self._directory)
                    self._syncer.sync(segment)
                    segment.synced = segment.size
                except (OSError, RuntimeError) as error:  # no descriptors, no threads
                    self._warn("cannot sync spooled results", error)

    def close(self) -> None:
        """Close, and remove the files whose records are all acknowledged."""
        if self._syncer is not None:
            self._syncer.close()
        for segment in list(self._open):
            if segment.open_records:
                os.close(segment.fd)
            else:
                self._drop(segment)

    def _warn(self, what: str, error: Exception) -> None:
        """Log only the first of many warnings."""
        if what not in self._warned:
            _log.warning("%s: %s; going on without", what, error)
        self._warned.add(what)

    def _next(self) -> None:
        """Start a new file; if that is not possible, continue with the old one."""
        old = self._segment
        try:
            segment = Segment(self._directory / f"spool.{self._number + 1}")
        except OSError as error:
            self._warn(_NO_FILE, error)
            return
        self._warned.discard(_NO_FILE)
        self._number += 1
        self._segment = segment
        self._open.add(self._segment)
        if not old.open_records:
            self._drop(old)

    def _drop(self, segment: Segment) -> None:
        self._open.discard(segment)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:  # sent once more at the worst, which does no harm
            self._warn("cannot remove a file of the spool", error)
        os.close(segment.fd)


class _Syncer:
    """Syncs files in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool-sync", daemon=True)
        self._thread.start()

    def sync(self, segment: Segment) -> None:
        """Have the data of `segment`, and its file's name, written to disk."""
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = os.dup(segment.fd)
        except OSError:
            os.close(directory)
            raise
        self._todo.put(file)
        self._todo.put(directory)

    def close(self) -> None:
        """Finish what has begun, but do not wait for a hanging disk."""
        self._todo.put(None)
        self._thread.join(_JOIN_S)

    def _work(self) -> None:
        while (fd := self._todo.get()) is not None:  # a daemon, in case `close` is never called
            try:
                os.fsync(fd)
            except OSError as error:
                _log.warning("cannot sync spooled results: %s; going on without", error)
            finally:
                os.close(fd)
