"""The values of calls that are on this node: one file each in ``values`` of the pilot's directory, named by its digest.

What the store has in a file that can be reached from here is linked, not copied. Other large values go to /dev/shm, up
to a share of the node's memory, and are linked from there; the rest goes to the disk of the pilot's directory. Values
that no call holds any more are kept for later ones, within a bound. All of it is removed when the pilot ends.
"""

import contextlib
import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec import structs

from pilotmtc.agent import guard
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.model import Result
from pilotmtc.states import Cause
from pilotmtc.system.private_files import make_directory

_MEMORY = Path(guard.MEMORY)
_SHARE = 4  # of the node's memory, one part
_LARGE_BYTES = 1 << 20  # smaller ones go to the disk
_KEPT_BYTES = 2 << 30  # of copies that no call holds
_KEPT = 4096  # of these, and of links
_log = logging.getLogger("pilotmtc.agent")


class ValueFiles:
    """The files, and who holds them.

    Parameters
    ----------
    directory
        The pilot's.
    alone
        Whether no worker on another node reads the files.
    memory
        Where they may be in this node's memory, see `memory_directory`.
    memory_bytes
        How much memory this node has.
    """

    def __init__(
        self, directory: Path, *, alone: bool = True, memory: Path | None = None, memory_bytes: int = 0
    ) -> None:
        self.directory = directory / VALUES
        self._alone = alone
        self._memory = memory if alone else None
        self._memory_bytes = memory_bytes // _SHARE
        self._memory_used = 0
        self._made = False
        self._sizes: dict[str, int] = {}  # what they take here; 0 for links
        self._in_memory: set[str] = set()
        self._holds: Counter[str] = Counter()
        self._idle: dict[str, None] = {}  # those that nobody holds, the oldest first
        self._idle_bytes = 0

    def __contains__(self, digest: object) -> bool:
        return digest in self._sizes

    def path(self, digest: str) -> Path:
        """Return where a value is, or would be."""
        return self.directory / digest

    # -- coming -----------------------------------------------------------------------------------------------

    def adopt(self, digest: str, size: int) -> None:
        """Take in a file that a worker has written."""
        self._forget(digest)
        self._came(digest, size)

    def link(self, digest: str, path: str, size: int) -> bool:
        """Have the store's own file here under the value's name; return whether that is possible."""
        try:
            found = os.stat(path, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size or found.st_uid != os.geteuid():
                return False
            new = self._new(digest)
            try:
                os.link(path, new, follow_symlinks=False)
            except OSError:  # another file system, or one without links
                if not self._alone or not os.access(path, os.R_OK):
                    return False
                os.symlink(path, new)
            os.rename(new, self.path(digest))
        except OSError:  # another host, say
            return False
        self._came(digest, 0)
        return True

    def begin(self, digest: str, size: int) -> int:
        """Return the descriptor of a new file for a value, which `commit` gives its name.

        Raises
        ------
        OSError
            If there is no room for it.
        """
        new = self._new(digest)
        if self._memory is not None and size >= _LARGE_BYTES and self._has_memory(size):
            _make_own(self._memory)
            there = self._memory / digest
            there.unlink(missing_ok=True)
            os.symlink(there, new)
            self._in_memory.add(digest)
            self._memory_used += size
            new = there
        return os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def commit(self, digest: str, size: int) -> None:
        """Give a file that was begun, and is complete, its name."""
        os.rename(self._temporary(digest), self.path(digest))
        self._came(digest, size)

    def abandon(self, digest: str, size: int) -> None:
        """Remove a file that was begun."""
        with contextlib.suppress(OSError):
            self._temporary(digest).unlink()
        self._leave_memory(digest, size)

    def _new(self, digest: str) -> Path:
        if not self._made:
            make_directory(self.directory)
            self._made = True
        new = self._temporary(digest)
        new.unlink(missing_ok=True)
        return new

    def _temporary(self, digest: str) -> Path:
        return self.directory / f".{digest}.part"

    def _came(self, digest: str, size: int) -> None:
        self._sizes[digest] = size
        if not self._holds[digest]:
            self._keep(digest)

    # -- holding ----------------------------------------------------------------------------------------------

    def hold(self, digests: Iterable[str]) -> None:
        """Keep these values, whether they are here already or not, until they are released as often."""
        for digest in digests:
            self._holds[digest] += 1
            if digest in self._idle:
                del self._idle[digest]
                self._idle_bytes -= self._sizes[digest]

    def release(self, digests: Iterable[str]) -> None:
        """Undo `hold`."""
        for digest in digests:
            self._holds[digest] -= 1
            if not self._holds[digest]:
                del self._holds[digest]
                if digest in self._sizes:
                    self._keep(digest)

    def drop(self, digest: str) -> None:
        """Remove a value that no later call will need, unless one holds it."""
        if digest in self._idle:
            self._remove(digest)

    def _keep(self, digest: str) -> None:
        """Keep a value that nobody holds, in place of those that nobody has held for longest."""
        del self._holds[digest]
        self._idle[digest] = None
        self._idle_bytes += self._sizes[digest]
        while self._idle_bytes > _KEPT_BYTES or len(self._idle) > _KEPT:
            self._remove(next(iter(self._idle)))

    def _remove(self, digest: str) -> None:
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:  # it is removed with the directory
            _log.warning("cannot remove %s: %s", self.path(digest), error.strerror)
        self._forget(digest)

    def _forget(self, digest: str) -> None:
        size = self._sizes.pop(digest, 0)
        if digest in self._idle:
            del self._idle[digest]
            self._idle_bytes -= size
        self._leave_memory(digest, size)

    # -- memory -----------------------------------------------------------------------------------------------

    def _has_memory(self, size: int) -> bool:
        """Return whether a value may go there; make room by what nobody holds."""
        for digest in [one for one in self._idle if one in self._in_memory]:
            if self._memory_used + size <= self._memory_bytes:
                break
            self._remove(digest)
        left = os.statvfs(_MEMORY)
        return self._memory_used + size <= self._memory_bytes and size <= left.f_bavail * left.f_frsize

    def _leave_memory(self, digest: str, size: int) -> None:
        if digest in self._in_memory:
            assert self._memory is not None
            self._in_memory.discard(digest)
            self._memory_used -= size
            with contextlib.suppress(OSError):
                (self._memory / digest).unlink()

    def close(self, keep: Iterable[str] = ()) -> None:
        """Remove all, but for values that are to `keep`: the store does not have them yet."""
        kept = set(keep)
        if self._memory is not None:
            import shutil

            shutil.rmtree(self._memory, ignore_errors=True)
        if not kept:
            remove(self.directory.parent)
            return
        try:
            for path in self.directory.iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot remove the values in %s: %s", self.directory, error.strerror)


def _make_own(directory: Path) -> None:
    """Make a directory where others may make some, too."""
    try:
        directory.mkdir(0o700)
    except FileExistsError:
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise PermissionError(errno.EPERM, f"{directory} is another user's") from None


def memory_directory(pilot: int) -> Path | None:
    """Return where large values of a pilot may be in memory; None if there is no such place.

    The guard removes it if this process is killed: it knows it by the mark.
    """
    mark = guard.mark_of(os.getpid()) >> guard.HALF
    if mark <= 0 or not os.access(_MEMORY, os.W_OK | os.X_OK):
        return None
    return _MEMORY / f"{guard.IN_MEMORY}{pilot}-{mark:x}"


def without_value(result: Result, why: str) -> Result:
    """Return what becomes of a result whose value is lost: its call is to run again."""
    return structs.replace(
        result, cause=Cause.NODE_LOST, exit_code=None, signal=None, value=None, value_text="", message=why
    )


def remove(directory: Path) -> None:
    """Remove the values of the pilot that has `directory`."""
    values = directory / VALUES
    if not os.path.lexists(values):
        return
    import shutil

    try:
        shutil.rmtree(values)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("cannot remove %s: %s", values, error.strerror)
