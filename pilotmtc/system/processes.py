"""Processes: facts from /proc, and system calls that Python lacks.

It is not an error if a process has gone: results are then empty.
"""

import ctypes
import math
import os
import re
import time
from collections.abc import Iterator

SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
DEAD = (b"Z", b"X")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


def become_subreaper() -> None:
    """Become the parent of orphaned descendants of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group of a process that is not reaped yet, so that the number cannot be another's."""
    try:  # noqa: SIM105 -- suppress() takes a microsecond
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # the rest of the group belongs to another user, as with sudo
        pass


def pids() -> Iterator[int]:
    """Yield the ids of all processes on this machine."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def stat(pid: int, fields: int = -1) -> list[bytes]:
    """Return the first fields of ``/proc/PID/stat`` from the state on, and the rest as one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, fields)
    except _GONE:
        return []


def command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process; none if they cannot be read."""
    return _read(pid, "cmdline").split(b"\0")


def environment(pid: int) -> list[bytes]:
    """Return the initial environment of a process; none if it cannot be read."""
    return _read(pid, "environ").split(b"\0")


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except (*_GONE, PermissionError):
        return b""


def children(pid: int, thread: int) -> list[int]:
    """Return the children of a thread of a process."""
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except _GONE:
        return []


def threads(pid: int) -> list[int]:
    """Return the threads of a process."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except _GONE:
        return []


def born(pid: int) -> float:
    """Return the latest time when a process may have started, by the monotonic clock; infinite if it has gone."""
    fields = stat(pid)
    if not fields:
        return math.inf
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return (int(fields[19]) + 1) / _TICKS - asleep


def living_groups() -> set[int]:
    """Return the process groups that have a living process."""
    found = (stat(pid, 3) for pid in pids())
    return {int(fields[2]) for fields in found if fields and fields[0] not in DEAD}


def proportional_memory(pid: int, resident: int) -> int:
    """Return the memory of a process in bytes, with its share of shared pages; `resident` if that is not known."""
    try:
        return _bytes_in(f"/proc/{pid}/smaps_rollup", b"Pss:", 0)
    except PermissionError:
        return resident
    except ProcessLookupError:  # it has ended, even if nobody has reaped it
        return 0
    except FileNotFoundError:
        return 0 if not os.path.exists(f"/proc/{pid}") else resident


def memory_of_files(pid: int, name: re.Pattern[bytes]) -> int:
    """Return the bytes of a process that are unchanged pages of files whose path matches `name`, as its share."""
    total = share = 0
    counts = False
    try:
        with open(f"/proc/{pid}/smaps", "rb") as file:
            for line in file:
                key, _, rest = line.partition(b" ")
                if not key.endswith(b":"):  # a mapping begins
                    total, share, counts = total + share, 0, name.search(line.rstrip()) is not None
                elif counts and key == b"Pss:":
                    share = int(rest.split()[0]) * 1024
                elif counts and key == b"Anonymous:":  # changed, and so its own
                    share = max(share - int(rest.split()[0]) * 1024, 0)
    except (*_GONE, PermissionError):
        return 0
    return total + share


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process in bytes; 0 if it has gone."""
    try:
        return _bytes_in(f"/proc/{pid}/status", b"VmHWM:", 0)
    except _GONE:
        return 0


def _bytes_in(path: str, key: bytes, otherwise: int) -> int:
    with open(path, "rb") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return otherwise


def machine_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES


def machine_use() -> tuple[int, int]:
    """Return the memory of this machine in bytes, and how much of it is in use."""
    with open("/proc/meminfo", "rb") as file:
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(b":") for line in file)}
    return sizes[b"MemTotal"], sizes[b"MemTotal"] - sizes[b"MemAvailable"]
