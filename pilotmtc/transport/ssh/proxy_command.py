"""A socket that connects through a ProxyCommand."""

import contextlib
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from typing import IO

from pilotmtc.errors import ConnectError

_QUOTED_BYTES = 1000
_PATIENCE_S = 1.0
_AFTER_KILL_S = 5.0


class ProxySocket(socket.socket):
    """A socket on the stdin and stdout of the shell line `command`, which is ended by `close`.

    Raises
    ------
    ConnectError
        If it cannot be started.
    """

    def __init__(self, command: str) -> None:
        ours, theirs = socket.socketpair()
        self._stderr: IO[bytes] = tempfile.TemporaryFile(prefix="pilotmtc-")  # noqa: SIM115 -- lives with the socket
        self._ending = threading.Lock()
        self._words = ""
        self.command = command
        try:
            with theirs:
                # As in OpenSSH, the command replaces the shell. Its own session keeps a Ctrl-C away from it.
                self._child = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._stderr,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            self._stderr.close()
            raise ConnectError(f"cannot run ProxyCommand {shlex.quote(command)}: {error.strerror}") from error
        super().__init__(fileno=ours.detach())

    def last_words(self) -> str:
        """Return the end of the command's stderr."""
        with self._ending:
            return self._said()

    def _said(self) -> str:
        if not self._stderr.closed:
            size = os.fstat(self._stderr.fileno()).st_size
            said = os.pread(self._stderr.fileno(), _QUOTED_BYTES, max(0, size - _QUOTED_BYTES))
            self._words = said.decode("utf-8", "replace").strip()
        return self._words

    def close(self) -> None:
        """Close the socket and end the command. Safe to repeat."""
        with contextlib.suppress(OSError):  # it is no longer connected
            self.shutdown(socket.SHUT_RDWR)
        super().close()
        with self._ending:
            self._said()
            self._stderr.close()
            for stop in (self._child.terminate, self._child.kill):
                if self._child.poll() is not None:
                    return
                stop()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(_PATIENCE_S if stop == self._child.terminate else _AFTER_KILL_S)
