"""Claims on cores of this host, so that no two pilots of this user bind their tasks to the same cores.

A claim is a lock on a byte of a file in the user's private runtime directory: byte 5 is core 5. The kernel releases it
when its holder ends, in whatever way.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pilotmtc.errors import ConfigError
from pilotmtc.store import serve  # the one part of the store that imports nothing: there may be thousands of workers

_SHARED = "tasks are not bound to cores: another pilot of yours has bound its tasks to cores of this machine"
_BUSY = (errno.EACCES, errno.EAGAIN)
# A pilot that has reported its end takes a moment to exit; in a loop of runs the next one is here before.
_PATIENCE_S = 0.6
_PAUSE_S = 0.01


class CoreClaim(NamedTuple):
    """The cores that a pilot has claimed.

    Attributes
    ----------
    cores
        The cores to use.
    fd
        Holds the claim while it is open in this process; None if other pilots have some of the cores.
    """

    cores: tuple[int, ...]
    fd: int | None


class OwnCores(NamedTuple):
    """The cores that a pilot uses on its host.

    Attributes
    ----------
    cores
        Which.
    pin
        Whether tasks can be bound to them.
    note
        Why they cannot be bound, if users should know.
    fd
        Holds the claim; see `CoreClaim`.
    """

    cores: tuple[int, ...]
    pin: bool = False
    note: str = ""
    fd: int | None = None


def own_cores(asked: int, allowed: int, *, pin: bool, part: bool) -> OwnCores:
    """Return the cores that a pilot uses on this host.

    Parameters
    ----------
    asked
        Requested number; 0: as many as are `allowed`.
    allowed
        How many cores of its affinity it may use.
    pin
        Whether to bind tasks, if that is possible.
    part
        Whether tasks may be bound even if these are only some of the machine's cores. If not, programs that make no
        claims are likely to use the same cores: jobs of other users, or containers.
    """
    there = sorted(os.sched_getaffinity(0))
    count = asked or allowed
    if count > len(there):  # more cores than exist can only be pretended
        return OwnCores(tuple(range(count)))
    if not pin or (count < len(there) and not (part and asked)):
        return OwnCores(tuple(there[:count]))
    try:
        claimed = claim(there, count)
    except (ConfigError, OSError) as error:
        return OwnCores(tuple(there[:count]), note=f"tasks are not bound to cores: {error}")
    if claimed.fd is None:
        return OwnCores(claimed.cores, note=_SHARED)
    return OwnCores(claimed.cores, pin=True, fd=claimed.fd)


def claim(there: Sequence[int], count: int, path: str = "") -> CoreClaim:
    """Return `count` of the cores `there`: claimed if enough are free within a moment, otherwise free ones first.

    Parameters
    ----------
    path
        The file; default: that of this user and host.

    Raises
    ------
    ConfigError
        If the file cannot be used: it must belong to the user, and nobody else may write to it.
    """
    fd = _open(path or _default_path())
    with contextlib.ExitStack() as on_error:
        on_error.callback(os.close, fd)
        until = time.monotonic() + _PATIENCE_S
        while len(free := _lock_some(fd, there, count)) < count and time.monotonic() < until:
            for core in free:  # two pilots that wait must not have one half each
                fcntl.lockf(fd, fcntl.LOCK_UN, 1, core)
            time.sleep(_PAUSE_S)
        if len(free) == count:
            on_error.pop_all()
            return CoreClaim(tuple(free), fd)
    # Without exclusive cores, tasks are not bound, so nothing need be claimed.
    others = [core for core in there if core not in free]
    return CoreClaim(tuple(sorted([*free, *others][:count])), None)


def _default_path() -> str:
    try:
        return f"{serve.runtime_dir()}/cores-{socket.gethostname()}"
    except serve.Refused as refused:
        raise ConfigError(str(refused)) from refused


def _lock_some(fd: int, there: Sequence[int], count: int) -> list[int]:
    """Lock up to `count` of the cores `there`, and return them."""
    locked: list[int] = []
    for core in there:
        if len(locked) < count and _lock(fd, core):
            locked.append(core)
    return locked


def _lock(fd: int, core: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, core)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        return False
    return True


def _open(path: str) -> int:
    with _explained(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    seen = os.fstat(fd)
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077 or seen.st_nlink != 1:
        os.close(fd)
        raise ConfigError(f"{path} must be a file that is yours alone (mode 0600): remove it")
    return fd


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}; remove it, or set XDG_RUNTIME_DIR") from error
