"""Which cores of this host the pilots of this user have bound tasks to, so that no two bind them to the same.

A claim is a lock on a byte of a file in the user's private runtime directory: byte 5 is core 5. The kernel takes it
back when its holder ends, however that ends.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pilotmtc.errors import ConfigError
from pilotmtc.store import serve  # of the store the one part that imports nothing: there may be thousands of workers

_SHARED = "tasks are not bound to cores: another pilot of yours has bound its tasks to cores of this machine"
_BUSY = (errno.EACCES, errno.EAGAIN)


class CoreClaim(NamedTuple):
    """What a pilot has of its host.

    Attributes
    ----------
    cores
        The cores to use.
    fd
        Holds the claim on all of them, as long as it is open in this process; None if others hold some.
    """

    cores: tuple[int, ...]
    fd: int | None


class OwnCores(NamedTuple):
    """What a pilot uses of its host.

    Attributes
    ----------
    cores
        Which.
    pin
        Whether tasks can be bound to them.
    note
        Why they are not, if somebody should know.
    fd
        Holds the claim, see `CoreClaim`.
    """

    cores: tuple[int, ...]
    pin: bool = False
    note: str = ""
    fd: int | None = None


def own_cores(asked: int, allowed: int, *, pin: bool, part: bool) -> OwnCores:
    """Return the cores that a pilot uses of this host.

    Parameters
    ----------
    asked
        How many it is to have; 0 is as many as are `allowed`.
    allowed
        How many of those that it could be bound to it may use.
    pin
        Whether tasks are to be bound, if that is possible.
    part
        Whether they may be if these are a part only of the cores that are there. Else others are likely to use them,
        too, who make no claims: jobs of other users, or containers.
    """
    there = sorted(os.sched_getaffinity(0))
    count = asked or allowed
    if count > len(there):  # what is not there can only be pretended
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
    """Return `count` cores of those that are `there`, claimed if so many are left; else those first that nobody has.

    Parameters
    ----------
    path
        The file; not given: the one of this user and host.

    Raises
    ------
    ConfigError
        If the file cannot be used: it must be the user's own, and nobody else's to write.
    """
    fd = _open(path or _default_path())
    with contextlib.ExitStack() as on_error:
        on_error.callback(os.close, fd)
        free: list[int] = []
        for core in there:
            if len(free) < count and _lock(fd, core):
                free.append(core)
        if len(free) == count:
            on_error.pop_all()
            return CoreClaim(tuple(free), fd)
    # What cannot be had alone is not bound, and so need not be claimed.
    others = [core for core in there if core not in free]
    return CoreClaim(tuple(sorted([*free, *others][:count])), None)


def _default_path() -> str:
    try:
        return f"{serve.runtime_dir()}/cores-{socket.gethostname()}"
    except serve.Refused as refused:
        raise ConfigError(str(refused)) from refused


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
