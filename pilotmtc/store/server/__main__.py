"""The store server: ``python -m pilotmtc.store.server STORE``, started by `pilotmtc.store.serve`.

One process owns the store's file (`file`) and serves it to all clients (`loop`).
"""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from msgspec import Struct

from pilotmtc.errors import PilotMTCError
from pilotmtc.store.ownership.takeover import ServedHere
from pilotmtc.store.serve import close_inherited
from pilotmtc.store.server.loop import LINGER_S, Server
from pilotmtc.system import open_files
from pilotmtc.system.command_words import read_words
from pilotmtc.system.locale import speak_utf8
from pilotmtc.system.streams import keep_exit_code

log = logging.getLogger("pilotmtc.store.server")

LINGER_VARIABLE = "PILOTMTC_SERVER_LINGER_S"


class _Options(Struct, frozen=True):
    """The words of the server, which `serve` starts.

    Attributes
    ----------
    ready_fd
        Where to say "ready", or what is wrong.
    lock_fd
        The lock of those that start, kept until this one serves.
    linger
        How long it stays without clients; below 0: as the environment or the default says.
    """

    store: str
    ready_fd: int | None = None
    lock_fd: int | None = None
    linger: float = -1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the store that `argv` names; return the exit code."""
    options = read_words(sys.argv[1:] if argv is None else argv, _Options, "store")
    close_inherited(options.ready_fd, options.lock_fd)
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    open_files.raise_limit()
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level=logging.INFO)
    path = os.path.realpath(options.store)
    os.chdir("/")
    report = StartReport(options.ready_fd, options.lock_fd)
    linger_s = options.linger if options.linger >= 0 else float(os.environ.get(LINGER_VARIABLE, LINGER_S))
    try:
        server = Server(path, linger_s, report.tell)
    except ServedHere as error:
        log.info("not needed: %s", error)
        report.end("served" if error.socket else "StoreBusy", error.socket or str(error))
        return error.exit_code
    except PilotMTCError as error:
        log.error("%s cannot be served: %s", path, error)
        report.end(type(error).__name__, str(error))
        return error.exit_code
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.wake_by(woken)
    log.info("serving %s", path)
    report.end("ready", "")
    server.run()
    if server.file.exclusive or server.file.ousted:
        os._exit(0)  # without closing SQLite, which would remove the log by name: it may be the next owner's
    return 0


class StartReport:
    """Reports the progress of the start: first through a pipe to the `serve` that started the server; later in the lock
    file, which waiting `serve` processes read."""

    def __init__(self, ready_fd: int | None, lock_fd: int | None) -> None:
        self._ready_fd = ready_fd
        self._lock_fd = lock_fd
        self._told = ""

    def tell(self, word: str, message: str) -> None:
        """Report a state (``wait``, ``served``, ``ready`` or the name of an error) and a message."""
        text = f"{word}\n{message}"
        if self._lock_fd is not None and text != self._told:
            with contextlib.suppress(OSError):  # a full disk: the others wait without a message
                os.ftruncate(self._lock_fd, 0)
                os.pwrite(self._lock_fd, text.encode()[:4000], 0)
        self._told = text
        if self._ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # the `serve` that started this has gone; others will come
                os.write(self._ready_fd, text.encode()[:60_000])
            os.close(self._ready_fd)
            self._ready_fd = None

    def end(self, word: str, message: str) -> None:
        """Report the last state, and release the lock."""
        self.tell(word, message)
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = None


if __name__ == "__main__":
    speak_utf8()
    keep_exit_code()
    sys.exit(main())
