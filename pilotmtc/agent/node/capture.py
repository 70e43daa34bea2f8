"""Where tasks' output goes: into a pipe for each stream, and beyond what the store takes into a file.

Pipes, because of what tasks do to files: ``> /dev/stderr`` opens the stream again and truncates a file, and a
process that got hold of a stream could write into a file that another task's output is in by then. A new pipe costs
less than half of what a new file does.

The pipe of a short task is read when the task has ended. A thread reads those of longer ones, so that a slow disk
delays only the tasks that write much.
"""

import contextlib
import errno
import logging
import os
import select
import signal
import stat
import threading
import time
import zlib
from pathlib import Path

from pilotmtc.system import pipes

LIMIT_BYTES = 64 * 1024  # of a stream, in the store
PART_BYTES = 32 * 1024  # of its head and of its tail, when it is larger
RESERVE_BYTES = 64 << 20  # left free on the disk, or a fiftieth of it: as much as results that wait may take
_READ_BYTES = 1 << 20
_BUSY_BYTES = 16 * 1024  # a task that writes so much between two looks is looked at without a pause
_LOOK_S = 0.02
_LARGE_S = 10.0
_JOIN_S = 5.0
Harvest = tuple[bytes, int, str | None, str, int | None]
_log = logging.getLogger("pilotmtc.agent")


class Stream:
    """What was read of a pipe so far.

    Parameters
    ----------
    fd
        The pipe.
    path
        Where to keep what is too large for the store.
    limit
        How much of it to keep there.
    """

    __slots__ = (
        "_crc",
        "_data",
        "_fd",
        "_file",
        "_head",
        "_limit",
        "_lock",
        "_path",
        "_trouble",
        "_written",
        "listed",
        "size",
    )

    def __init__(self, fd: int, path: str, limit: int) -> None:
        self._fd = fd
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._data = bytearray()  # all of it, or its end if there is a head
        self._head = b""
        self._file = -1
        self._written = 0
        self._crc = 0  # of what is in the file
        self._trouble = ""
        self.listed = False  # among those that the thread looks at
        self.size = 0

    def drain(self) -> int:
        """Read what is there; return how much that was, 0 if another thread has finished it."""
        with self._lock:
            return self._drain() if self._fd >= 0 else 0

    def leave(self, epoll: select.epoll) -> None:
        """Stop polling the pipe if nobody writes to it; the event may have been for an older pipe with this number."""
        with self._lock:
            if self._fd < 0:
                return
            now = select.poll()
            now.register(self._fd, 0)
            if any(mask & select.POLLHUP for _, mask in now.poll(0)) and not pipes.available(self._fd):
                with contextlib.suppress(FileNotFoundError):
                    epoll.unregister(self._fd)

    def end(self, limit: int) -> tuple[bytes, int]:
        """Return the end of what has been written so far, up to `limit` bytes, and how much it is in all."""
        with self._lock:
            self._drain()
            return bytes(self._data[-limit:]), self.size

    def finish(self) -> Harvest:
        """Read the rest and close; return as `Captures.harvest`."""
        with self._lock:
            left = pipes.available(
                self._fd
            )  # no more than that: a process that lives on may write faster than this reads
            while left > 0:
                left -= self._drain()
            pipes.close(self._fd)
            self._fd = -1
            if not self._head:
                return bytes(self._data), self.size, None, "", None
            return self._finish_large()

    def _drain(self) -> int:
        waiting = pipes.available(self._fd)
        if not waiting:
            return 0
        data = os.read(self._fd, min(waiting, _READ_BYTES))
        self.size += len(data)
        self._data += data
        count = len(data)
        if not self._head:
            whole = min(LIMIT_BYTES, self._limit)
            if self.size <= whole:
                return count
            self._head = bytes(self._data[: min(PART_BYTES, max(whole // 2, 1))])
            self._open()
            data = bytes(self._data)
        data = data[: self._limit - self._written]
        self._written += len(data)
        self._keep(data)
        del self._data[: -len(self._head)]
        return count

    def _open(self) -> None:
        if self._limit <= LIMIT_BYTES:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(self._path), 0o700)
            with contextlib.suppress(FileNotFoundError):  # the same attempt's, of another life of this pilot
                os.unlink(self._path)
            self._file = os.open(self._path, flags, 0o600)
        except OSError as error:
            self._give_up(error)

    def _keep(self, data: bytes) -> None:
        """Write `data`, or what is left of it, to the file."""
        self._crc = zlib.crc32(data, self._crc)
        left = memoryview(data)
        try:
            if left and self._file >= 0:
                disk = os.fstatvfs(self._file)
                if disk.f_bavail * disk.f_frsize < min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 50):
                    raise OSError(errno.ENOSPC, "its disk is all but full")
            while left and self._file >= 0:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.warning("cannot keep the whole output %s: %s", self._path, error)
        self._trouble = error.strerror or type(error).__name__
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with contextlib.suppress(OSError):  # a part of it would only take room on what may be a full disk
                os.unlink(self._path)

    def _finish_large(self) -> Harvest:
        path: str | None = self._path
        tail = bytes(self._data)
        if self._file >= 0 and self._written < self.size:  # it must be seen in the file, too
            end = tail[-(self.size - self._written) :]
            left = self.size - self._written - len(end)
            self._keep((_left_out(left, "more than was to be kept") if left else b"") + end)
        if self._trouble:
            path, where = None, f"it could not be kept: {self._trouble}"
        elif self._file < 0:
            path, where = None, "more than was to be kept"
        else:
            os.close(self._file)
            self._file = -1
            where = f"all of it is in {path}" if self._written == self.size else f"more of it is in {path}"
        content = self._head + _left_out(self.size - len(self._head) - len(tail), where) + tail
        return content, self.size, path, self._trouble, None if path is None else self._crc


class Captures:
    """The pipes that tasks write to.

    Parameters
    ----------
    outputs
        Where outputs that are too large for the store are kept; made when the first is.
    """

    def __init__(self, outputs: Path) -> None:
        self._outputs = str(outputs)
        self._streams: dict[int, Stream] = {}  # by the pipe that is read from, of those that are looked at
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._large_at = 0.0

    def get(self) -> tuple[int, int]:
        """Return the two ends of a new pipe, the one to read from first."""
        return pipes.make()

    @property
    def large(self) -> bool:
        """Whether tasks have written so much lately that their pipes are better looked at from the start."""
        return self._large_at > 0.0 and time.monotonic() - self._large_at < _LARGE_S

    def watch(self, fd: int, name: str, limit: int) -> Stream:
        """Have a pipe read while its task runs; `name` and `limit` as for `harvest`.

        If there is no room for that now, the next call tries again.
        """
        stream = self._streams.get(fd)
        if stream is None:
            stream = self._streams[fd] = Stream(fd, os.path.join(self._outputs, name), limit)
        if not stream.listed:
            with contextlib.suppress(OSError):
                self._epoll.register(fd, select.EPOLLIN)
                stream.listed = True
        if self._thread is None:
            thread = threading.Thread(target=self._read, name="captures", daemon=True)
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return stream

    def harvest(self, fd: int, name: str, limit: int) -> Harvest:
        """Return ``(content, size, path, trouble, crc)`` of a stream that has ended, and close its pipe.

        A stream that is too large for the store is kept as `name` among the outputs, up to `limit` bytes of it, and the
        content is its head and tail. `trouble` is why it could not be, `crc` the CRC-32 of
        the file.
        """
        stream = self._streams.pop(fd, None)
        if stream is None:
            count = pipes.available(fd)
            if count <= LIMIT_BYTES and count <= limit:
                data = os.read(fd, count) if count else b""
                pipes.close(fd)
                if count >= PART_BYTES:  # the pipe may have been full, and the task may have waited
                    self._large_at = time.monotonic()
                return data, count, None, "", None
            stream = Stream(fd, os.path.join(self._outputs, name), limit)
        else:
            with contextlib.suppress(FileNotFoundError):  # its end was read already
                self._epoll.unregister(fd)
        found = stream.finish()
        if found[1] > LIMIT_BYTES:
            self._large_at = time.monotonic()
        return found

    def close(self) -> None:
        """Close what is open. Tasks must be over."""
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join(_JOIN_S)
        self._epoll.close()
        os.close(self._stop)

    def _read(self) -> None:
        """Read the pipes, in a thread."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while True:
            busy = False
            for fd, mask in self._epoll.poll():
                if fd == self._stop:
                    return
                stream = self._streams.get(fd)
                if stream is None:
                    continue  # it was over meanwhile
                count = stream.drain()
                busy = busy or count >= _BUSY_BYTES
                if not count and mask & select.EPOLLHUP:  # nobody writes to it any more
                    stream.leave(self._epoll)
            if not busy:
                time.sleep(_LOOK_S)  # much is read at once, so that chatty tasks cost little


def tail(path: str, limit: int) -> tuple[bytes, int]:
    """Return the end of what was written to the file `path` so far, up to `limit` bytes, and how much it is in all.

    Of anything but a plain file, nothing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # the task has moved it away, or may write but not read it
        return b"", 0
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return b"", 0
        return os.pread(fd, limit, max(seen.st_size - limit, 0)), seen.st_size
    finally:
        os.close(fd)


def _left_out(count: int, where: str) -> bytes:
    return f"\n[pilotmtc: {count} bytes left out here; {where}]\n".encode()
