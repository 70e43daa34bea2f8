"""Where tasks' output goes: nameless files, used again, so that a small task costs no file.

A file goes to the *dirty* list when its task is over, because a process of the task may have survived and still
write to it. Now and then one look at the agent's children (it is a subreaper: survivors become its children) proves
that nobody has, and all dirty files become clean at once.
"""

import errno
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

LIMIT_BYTES = 64 * 1024  # of a stream, in the store
PART_BYTES = 32 * 1024  # of its head and of its tail, when it is larger
DIRTY = 32
_COPY_BYTES = 1 << 20
_log = logging.getLogger("pilotmtc.agent")


class Captures:
    """A pool of capture files.

    Parameters
    ----------
    directory
        Where the nameless files are made.
    outputs
        Where outputs that are too large for the store are kept.
    survivors
        Whether any process of a task that is over may still be there.
    """

    def __init__(self, directory: Path, outputs: Path, survivors: Callable[[], bool]) -> None:
        self._directory = str(directory)
        self._outputs = outputs
        self._survivors = survivors
        self._clean: list[int] = []
        self._dirty: list[int] = []
        self._used: set[int] = set()
        self._nameless = hasattr(os, "O_TMPFILE")
        self._any_fd = os.open("/", os.O_RDONLY)  # only makes os.link use linkat, which can follow /proc links

    def get(self) -> int:
        """Return the descriptor of an empty file that nobody else writes to."""
        if not self._clean and len(self._dirty) >= DIRTY:
            self._wash()
        return self._clean.pop() if self._clean else self._new()

    def put_unused(self, fd: int) -> None:
        """Take back a file that no process has seen."""
        self._clean.append(fd)

    def harvest(self, fd: int, name: str) -> tuple[bytes, int, str | None]:
        """Return ``(content, size, path)`` of the file of a stream that is over, and take the file back.

        A stream above the limit is kept as `name` among the outputs, and the content is its head and tail.
        """
        size = os.lseek(fd, 0, os.SEEK_END)  # a tenth of what fstat costs in Python; the file only appends
        if not size:
            self._dirty.append(fd)
            return b"", 0, None
        if size <= LIMIT_BYTES:
            data = os.pread(fd, size, 0)
            self._used.add(fd)
            self._dirty.append(fd)
            return data, size, None
        path: str | None = str(self._outputs / name)
        where = f"all of it is in {path}"
        try:
            self._keep(fd, str(path))
        except OSError as error:
            _log.warning("cannot keep the whole output %s: %s", path, error)
            where = f"it could not be kept: {error.strerror}"
            path = None
        head = os.pread(fd, PART_BYTES, 0)
        tail = os.pread(fd, PART_BYTES, size - PART_BYTES)
        os.close(fd)
        between = f"\n[pilotmtc: {size - 2 * PART_BYTES} bytes left out here; {where}]\n"
        return head + between.encode() + tail, size, path

    def close(self) -> None:
        """Close all files."""
        for fd in (*self._clean, *self._dirty, self._any_fd):
            os.close(fd)
        self._clean.clear()
        self._dirty.clear()

    def _new(self) -> int:
        if self._nameless:
            try:
                return os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
                self._nameless = False  # NFS and some others
        fd, path = tempfile.mkstemp(dir=self._directory, prefix=".capture-")
        os.unlink(path)
        os.set_blocking(fd, True)
        return _appending(fd)

    def _keep(self, fd: int, path: str) -> None:
        self._outputs.mkdir(mode=0o700, exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        if self._nameless:
            try:
                os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=self._any_fd, follow_symlinks=True)
                return
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOENT, errno.EPERM):
                    raise
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            offset = 0
            while chunk := os.pread(fd, _COPY_BYTES, offset):
                offset += os.write(target, chunk)
        finally:
            os.close(target)

    def _wash(self) -> None:
        if self._survivors():
            for fd in self._dirty:
                os.close(fd)
        else:
            for fd in self._dirty:
                if fd in self._used:
                    os.ftruncate(fd, 0)
                    os.lseek(fd, 0, os.SEEK_SET)
            self._clean.extend(self._dirty)
        self._used.clear()
        self._dirty.clear()


def tail(fd: int, path: str | None, limit: int) -> tuple[bytes, int]:
    """Return the end of what was written to a file so far, up to `limit` bytes, and how much it is in all.

    The file is `path`, if there is one; anything but a plain file has nothing.
    """
    if path is None:
        return _end_of(fd, limit)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # the task has moved it away, or may write but not read it
        return b"", 0
    try:
        return _end_of(fd, limit)
    finally:
        os.close(fd)


def _end_of(fd: int, limit: int) -> tuple[bytes, int]:
    seen = os.fstat(fd)
    if not stat.S_ISREG(seen.st_mode):
        return b"", 0
    return os.pread(fd, limit, max(seen.st_size - limit, 0)), seen.st_size


def _appending(fd: int) -> int:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd
