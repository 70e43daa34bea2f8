"""Values that are too large for rows: each is in a file below the directory beside the store.

They come in parts. A file gets its place only when it is complete, checked and on disk; the store has the value from
when its row is committed. The name of a file is never used again, so that an owner of the store that was only asleep
cannot remove what the next one keeps.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pilotmtc.errors import ConfigError, StoreError, UsageError, shown
from pilotmtc.store.live.participant import Staged
from pilotmtc.system import private_files
from pilotmtc.system.digests import sha256, sha256_of_file
from pilotmtc.units import format_memory

if TYPE_CHECKING:
    from hashlib import _Hash

log = logging.getLogger("pilotmtc.store.server")

_PARTS = "parts"  # the directory of files that are not complete
SYNC_BYTES = 64 << 20  # so much is written between two syncs: a large value must not keep the disk busy at its end
_ABANDONED_S = 3600.0
_LOCK_S = 30.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def values_directory(store: str) -> str:
    """Return the directory of a store's large values."""
    return f"{store}.d/values"


class _Upload:
    """A value that has come in part."""

    def __init__(self, part: str, found: "_Hash | None" = None, received: int = 0) -> None:
        self.part = part
        self.received = received
        self.hash = found or sha256()
        self.touched_at = time.monotonic()


class ValueFiles(Staged):
    """The files of large values of one store.

    `take` and `read` wait for the disk: they are called beside the server's loop, one at a time. All else is brief.
    """

    def __init__(self, store: str) -> None:
        super().__init__()
        self._directory = values_directory(store)
        self._lock = threading.Lock()
        self._uploads: dict[tuple[str, int], _Upload] = {}  # by digest and size
        self._complete: dict[tuple[str, int], str] = {}  # files that no row has yet

    @property
    def parts(self) -> str:
        """The directory of files that are not complete."""
        return os.path.join(self._directory, _PARTS)

    def path(self, name: str) -> str:
        """Return where the file is whose name is in the store."""
        return os.path.join(self._directory, name)

    def is_whole(self, name: str, size: int) -> bool:
        """Return whether the file is there and has its size."""
        try:
            return os.stat(self.path(name)).st_size == size
        except OSError:
            return False

    def received(self, digest: str, size: int) -> int:
        """Return how many bytes of a value have come."""
        upload = self._uploads.get((digest, size))
        return upload.received if upload else 0

    def complete(self, digest: str, size: int) -> str | None:
        """Return the name of the file of a value that is complete, but has no row yet."""
        name = self._complete.get((digest, size))
        return name if name and self.is_whole(name, size) else None

    def keep(self, digest: str, size: int) -> None:
        """Note that the file of a value has a row."""
        self._staged.append(partial(self._complete.pop, (digest, size), None))

    def remove(self, name: str) -> None:
        """Remove a file, of which the row is gone; its path may also be absolute, that of a large output."""
        self._staged.append(partial(self._unlink, name))

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:  # a copy of a store may be without it
            return
        except OSError as error:  # `sweep` tries again
            log.error("a file that nobody needs cannot be removed: %s: %s", self.path(name), error.strerror)

    # -- beside the loop ---------------------------------------------------------------------------------------------

    def take(self, digest: str, offset: int, size: int, data: bytes) -> int:
        """Take a part of a value, as far as it is new and leaves no gap; return how many bytes there are now.

        Raises
        ------
        UsageError
            If the value is complete and not what its digest says. Nothing of it is kept.
        StoreError
            If the disk fails. Nothing of the value is kept.
        """
        with self._alone(), _explained(self._directory):
            key = digest, size
            if key in self._complete:
                return size
            upload = self._uploads.get(key)
            if upload is None:
                if offset:
                    return 0
                upload = self._uploads[key] = self._begin(digest, size)
            with memoryview(data) as view:
                new = view[upload.received - offset :] if offset <= upload.received else view[:0]
                try:
                    _append(upload, new)
                    if upload.received == size:
                        self._complete[key] = self._finish(upload, digest)
                        del self._uploads[key]
                except BaseException:
                    self._drop(key)
                    raise
            return upload.received

    def take_file(self, digest: str, size: int, name: str) -> bool:
        """Take a file among the parts that a client has written, and return True; False if it is not there.

        Raises
        ------
        UsageError
            If it is not the value that the digest names. It is removed then.
        StoreError
            If the disk fails.
        """
        if not name.startswith(f"{digest}-") or "/" in name:
            raise UsageError(f"the file {shown(name)} cannot be the value {digest}: begin its name with that")
        part = os.path.join(self.parts, name)
        with self._alone(), _explained(self._directory):
            if (digest, size) in self._complete:
                self._unlink(f"{_PARTS}/{name}")
                return True
            try:
                with os.fdopen(private_files.open_file(part, os.O_RDONLY), "rb") as file:
                    found = sha256_of_file(file)
                    upload = _Upload(part, found, os.fstat(file.fileno()).st_size)
            except FileNotFoundError:  # a server that has just begun removes parts
                return False
            try:
                if upload.received != size:
                    raise UsageError(f"the file of the value {digest} has {upload.received} bytes, not {size}")
                self._complete[digest, size] = self._finish(upload, digest)
            except BaseException:
                self._unlink(f"{_PARTS}/{name}")
                raise
            return True

    def _begin(self, digest: str, size: int) -> _Upload:
        """Make the file for a new value."""
        now = time.monotonic()
        for key, upload in list(self._uploads.items()):
            if now - upload.touched_at > _ABANDONED_S:
                self._drop(key)
        upload = _Upload(os.path.join(self.parts, part_name(digest)))
        os.close(make_part(self.parts, upload.part, size))
        return upload

    def _finish(self, upload: _Upload, digest: str) -> str:
        """Check a value and bring it to its place; return the name of its file."""
        if upload.hash.hexdigest() != digest:
            raise UsageError(f"the value {digest} is not what its digest says: put it again from the beginning")
        name = f"{digest[:2]}/{os.path.basename(upload.part)}"
        directory = os.path.dirname(self.path(name))
        private_files.make_below(self._directory, directory)
        _sync(upload.part)
        os.rename(upload.part, self.path(name))
        _sync(directory)
        _sync(self._directory)  # it may have got that directory just now
        return name

    def _drop(self, key: tuple[str, int]) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(upload.part)

    def read(self, name: str, size: int, offset: int, limit: int) -> bytes:
        """Return up to `limit` bytes of a value from `offset` on.

        Raises
        ------
        StoreError
            If they cannot be read.
        """
        path = self.path(name)
        wanted = max(0, min(limit, size - offset))
        try:
            descriptor = private_files.open_file(path, os.O_RDONLY)
            try:
                data = os.pread(descriptor, wanted, offset)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise StoreError(_gone(path)) from error
        except OSError as error:
            raise StoreError(f"{path}, which holds a value, cannot be read: {error.strerror}") from error
        if len(data) < wanted:
            raise StoreError(_gone(path))
        return data

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_LOCK_S):  # of a thread that was given up, on a disk that hangs
            raise StoreError(f"the disk of {self._directory} hangs: look at it, and try again")
        try:
            yield
        finally:
            self._lock.release()

    # -- cleaning up -------------------------------------------------------------------------------------------------

    def remove_parts(self) -> None:
        """Remove what an earlier server has left of values that have come in part."""
        for path in _files(self.parts):
            self._unlink(f"{_PARTS}/{path.name}")

    def sweep(self, known: Collection[str]) -> None:
        """Remove complete files of no value, which a server has left that was killed at the wrong moment."""
        waiting = set(self._complete.values())
        for name in names(self._directory):
            if name in known or name in waiting:
                continue
            try:
                changed_at = os.stat(self.path(name)).st_ctime
            except OSError as error:
                log.error("%s cannot be looked at: %s", self.path(name), error.strerror)
                continue
            if time.time() - changed_at > _ABANDONED_S:
                self._unlink(name)


def part_name(digest: str) -> str:
    """Return a new name for a file of a value."""
    return f"{digest}-{os.urandom(4).hex()}"


def make_part(parts: str, path: str, size: int) -> int:
    """Make a file for a value of `size` bytes, and the directory of such `parts`; return its descriptor.

    Raises
    ------
    OSError
        If that cannot be, or if there is no room.
    """
    directory = os.path.dirname(parts)
    private_files.make_below(os.path.dirname(directory), parts)
    room = os.statvfs(parts)
    if size > room.f_bavail * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return private_files.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def names(directory: str) -> Iterator[str]:
    """Yield the names of the complete files in a `values_directory`."""
    for path in _files(directory, "??"):
        yield f"{path.parent.name}/{path.name}"


def _files(directory: str, below: str = "") -> Iterator[Path]:
    """Yield files of ours."""
    yield from Path(directory).glob(f"{below}/{'[0-9a-f]' * 64}-*" if below else f"{'[0-9a-f]' * 64}-*")


def _append(upload: _Upload, data: memoryview) -> None:
    if not data:
        return
    descriptor = private_files.open_file(upload.part, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], upload.received + written)
        if upload.received // SYNC_BYTES != (upload.received + written) // SYNC_BYTES:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    upload.hash.update(data)
    upload.received += written
    upload.touched_at = time.monotonic()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _gone(path: str) -> str:
    return f"{path}, which holds a value, is gone or cut short: put it back, or run again what made it"


@contextlib.contextmanager
def _explained(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreError(
                f"no space left for a value in {directory}, or a quota is used up: nothing of it was kept; free some "
                "and retry"
            ) from error
        raise StoreError(
            f"a value cannot be kept in {directory}: {error.strerror}; nothing of it was kept; look at the disk"
        ) from error


def absent(store: str, files: Iterator[tuple[str, str, int]]) -> Iterator[str]:
    """Yield messages about files of values ``(digest, name, size)`` that are gone, or not what their digests say."""
    for digest, name, size in files:
        path = os.path.join(values_directory(store), name)
        try:
            with os.fdopen(private_files.open_file(path, os.O_RDONLY), "rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    yield f"{path}, which holds a value of {size} bytes, has {found}"
                elif sha256_of_file(file).hexdigest() != digest:
                    yield f"{path}, which holds a value, is not as it was written"
        except FileNotFoundError:
            yield f"{path}, which holds a value of {format_memory(size)}, is gone"
        except OSError as error:
            yield f"{path}, which holds a value, cannot be read: {error.strerror}"
        except ConfigError as error:
            yield str(error)
