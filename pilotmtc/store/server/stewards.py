"""Stewards: short-lived child processes of the server that each deal with one scheduler.

They are processes of their own because neither their imports nor a hanging scheduler may affect the store. A steward is
an ordinary client on a socket that the server has made; this file only starts and ends it.
"""

import contextlib
import logging
import os
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

from pilotmtc.boot import program
from pilotmtc.errors import StoreError
from pilotmtc.store import serve
from pilotmtc.system.open_files import limit_as_found

log = logging.getLogger("pilotmtc.store.server")

MODULE = "pilotmtc.pilots.steward"
CONTROL_FD = 3  # in the steward, which exits when the other end closes
TIME_LIMIT_S = 120.0
LIMIT_VARIABLE = "PILOTMTC_SERVER_STEWARD_S"
_GRACE_S = 3.0
_LAST_LINES = 200
_LONGEST = 500
_PREFIX = re.compile(r"^[0-9-]+ [0-9:,]+ \d+ [A-Z]+ ")


class Steward(NamedTuple):
    """A running steward for the scheduler at `url`; `stream` and `control` are the server's ends."""

    url: str
    pid: int
    pidfd: int
    stream: socket.socket
    control: socket.socket
    words: int  # the file for its messages


class Stewards:
    """All running stewards. The descriptor of each in `epoll` becomes readable when it has ended."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._limit_s = float(os.environ.get(LIMIT_VARIABLE, TIME_LIMIT_S))
        self._children: dict[int, tuple[Steward, float]] = {}  # by pidfd, each with its deadline
        self._asked: set[int] = set()  # have been told to exit

    def __len__(self) -> int:
        return len(self._children)

    def __contains__(self, fd: int) -> bool:
        return fd in self._children

    def start(self, url: str, now: float) -> Steward:
        """Start one.

        Raises
        ------
        StoreError
            If that is not possible.
        """
        # A steward kills all its children, and must not take them for servers because of this variable.
        environment = {name: value for name, value in os.environ.items() if name != serve.MARK}
        try:
            stream, theirs = socket.socketpair()
        except OSError as error:
            raise _cannot(url, error) from error
        try:
            control, their_control = socket.socketpair()
        except OSError as error:
            stream.close()
            theirs.close()
            raise _cannot(url, error) from error
        pid, words = 0, -1
        try:
            with theirs, their_control, contextlib.ExitStack() as stack:
                words = os.memfd_create("steward", os.MFD_CLOEXEC)
                ends = serve.out_of_the_way(their_control.fileno())
                stack.callback(os.close, ends)
                stack.enter_context(limit_as_found())  # schedulers' commands pass it on to jobs
                pid = os.posix_spawn(
                    sys.executable,
                    program(MODULE, url),
                    environment,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
                        (os.POSIX_SPAWN_DUP2, words, 2),
                        (os.POSIX_SPAWN_DUP2, ends, CONTROL_FD),
                    ],
                    setpgroup=0,
                    setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
                )
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            stream.close()
            control.close()
            if words >= 0:
                os.close(words)
            if pid:
                _signal(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise _cannot(url, error) from error
        steward = Steward(url, pid, pidfd, stream, control, words)
        self._children[pidfd] = steward, now + self._limit_s
        self._epoll.register(pidfd, select.EPOLLIN)
        return steward

    def next_at(self) -> float:
        """Return when `expire` will have something to do."""
        return min((until for _, until in self._children.values()), default=float("inf"))

    def expire(self, now: float) -> None:
        """End stewards that take too long: first with SIGTERM, some seconds later with SIGKILL."""
        for pidfd, (steward, until) in self._children.items():
            if until > now:
                continue
            if pidfd in self._asked:
                _signal(steward.pid, signal.SIGKILL)
            else:
                log.warning("asking %s takes more than %g s: ended", steward.url, self._limit_s)
                _signal(steward.pid, signal.SIGTERM)
            self._asked.add(pidfd)
            self._children[pidfd] = steward, now + _GRACE_S

    def reap(self, pidfd: int) -> tuple[str, str]:
        """Reap a steward that has ended; return its URL, and what went wrong (empty if nothing did)."""
        steward, _ = self._children.pop(pidfd)
        _signal(steward.pid, signal.SIGKILL)  # kill the rest of its group first, because reaping frees the number
        _, status = os.waitpid(steward.pid, 0)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        said = _said(steward.words)
        late = pidfd in self._asked
        self._asked.discard(pidfd)
        if late:
            return steward.url, f"its commands have not answered within {self._limit_s:g} s"
        return steward.url, "" if code == 0 else f"asking it ended with {code}: {said or 'it said nothing'}"

    def close(self) -> None:
        """Kill all stewards."""
        for steward, _ in self._children.values():
            _signal(steward.pid, signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        for pidfd, (steward, _) in list(self._children.items()):
            if not select.select([pidfd], [], [], max(0.0, until - time.monotonic()))[0]:
                _signal(steward.pid, signal.SIGKILL)
            self.reap(pidfd)


def _said(fd: int) -> str:
    """Copy a steward's messages to the server's log; return the last one, without time and level."""
    with open(fd, encoding="utf-8", errors="replace") as file:
        file.seek(0)
        lines = [line for line in deque(file, _LAST_LINES) if line.strip()]
    sys.stderr.write("".join(lines))
    sys.stderr.flush()
    return _PREFIX.sub("", lines[-1]).strip()[:_LONGEST] if lines else ""


def _cannot(url: str, error: OSError) -> StoreError:
    return StoreError(f"the scheduler {url} cannot be asked: {error.strerror}")


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # commands of some schedulers run as root
        os.killpg(group, number)
