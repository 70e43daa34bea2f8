"""A channel to a local child process."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

from pilotmtc.errors import ChannelClosed, ConnectError
from pilotmtc.transport.channel import Channel

_QUOTED_BYTES = 2000
# The child should exit by itself when its stream ends. If not, it gets SIGTERM after the first time and SIGKILL after
# the second.
_PATIENCE_S = (0.3, 1.0)
_AFTER_KILL_S = 5.0


class ProcessChannel(Channel, Protocol):
    """The stdin and stdout of a child process."""

    def exit_status(self, wait_s: float) -> int | None:
        """Return the child's exit code, or the negative number of the signal; None if it still runs after `wait_s`."""
        ...


def open_process(argv: Sequence[str], env: Mapping[str, str] | None = None) -> ProcessChannel:
    """Start `argv` with a socket as its stdin and stdout.

    It runs in a session of its own, so that a Ctrl-C at the terminal reaches the caller only.

    Raises
    ------
    ConnectError
        If it cannot be started.
    """
    ours, theirs = socket.socketpair()
    stderr: IO[bytes] = open(os.memfd_create("pilotmtc"), "r+b")  # noqa: SIM115 -- lives as long as the channel
    try:
        with theirs:
            child = subprocess.Popen(
                list(argv),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=stderr,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        stderr.close()
        raise ConnectError(f"cannot run {argv[0]}: {error.strerror or error}") from error
    return _ProcessChannel(ours, child, stderr)


class _ProcessChannel:
    def __init__(self, stream: socket.socket, child: "subprocess.Popen[bytes]", stderr: IO[bytes]) -> None:
        self._stream = stream
        self._child = child
        self._stderr = stderr
        self._lock = threading.Lock()
        self._closed = False
        self._moved = 0

    def moved(self) -> int:
        return self._moved

    def read(self, n: int) -> bytes:
        try:
            return self._stream.recv(n)
        except OSError:  # reset by the other side, or closed by this one: the end in both cases
            return b""

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                sent = self._stream.send(left)
                self._moved += sent
                left = left[sent:]
        except OSError as error:
            raise ChannelClosed(f"the connection has ended: {error.strerror or error}") from error

    def last_words(self) -> str:
        with self._lock:
            if self._stderr.closed:
                return ""
            # pread, because the child writes at the shared position in the file
            size = os.fstat(self._stderr.fileno()).st_size
            said = os.pread(self._stderr.fileno(), _QUOTED_BYTES, max(0, size - _QUOTED_BYTES))
            return said.decode("utf-8", "replace").strip()

    def exit_status(self, wait_s: float) -> int | None:
        try:
            return self._child.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other side may have closed it
            self._stream.shutdown(socket.SHUT_RDWR)  # wakes a waiting reader; close() alone would not
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end_child()
            self._stream.close()
            self._stderr.close()

    def _end_child(self) -> None:
        for wait_s, then in zip(_PATIENCE_S, (self._child.terminate, self._child.kill), strict=True):
            try:
                self._child.wait(wait_s)
            except subprocess.TimeoutExpired:
                then()
            else:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):  # in uninterruptible sleep: nothing more can be done
            self._child.wait(_AFTER_KILL_S)
