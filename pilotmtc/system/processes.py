"""Processes: what /proc says about them, and the calls that Python lacks.

A process that is gone is not an error: nothing is known of it, and it has nothing.
"""

import ctypes
import math
import os
import time
from collections.abc import Iterator

SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
DEAD = (b"Z", b"X")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


def become_subreaper() -> None:
    """Become the parent of what descendants of this process leave behind when they end."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def signal_group(pid: int, number: int) -> None:
    """Signal the group of a process that is not reaped yet, so that the number is still its own."""
    try:  # noqa: SIM105 -- suppress() takes a microsecond
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # what is left of the group is another user's, such as sudo's
        pass


def pids() -> Iterator[int]:
    """Yield the number of each process of this machine."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def stat(pid: int, fields: int = -1) -> list[bytes]:
    """Return the first of the fields of ``/proc/PID/stat`` from the state on, each by itself, and the rest as one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, fields)
    except _GONE:
        return []


def command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process; none if it cannot be looked at."""
    return _read(pid, "cmdline").split(b"\0")


def environment(pid: int) -> list[bytes]:
    """Return the variables that a process was started with; none if it cannot be looked at."""
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
    """Return when a process was started at the latest, by the monotonic clock; infinite if it is gone."""
    fields = stat(pid)
    if not fields:
        return math.inf
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return (int(fields[19]) + 1) / _TICKS - asleep


def living_groups() -> set[int]:
    """Return the groups in which a process is alive."""
    found = (stat(pid, 3) for pid in pids())
    return {int(fields[2]) for fields in found if fields and fields[0] not in DEAD}


def proportional_memory(pid: int, resident: int) -> int:
    """Return the bytes of a process, with its share of what it shares; `resident` if the kernel does not say."""
    try:
        return _bytes_in(f"/proc/{pid}/smaps_rollup", b"Pss:", resident)
    except PermissionError:
        return resident
    except _GONE:
        return 0 if not os.path.exists(f"/proc/{pid}") else resident


def peak_memory(pid: int) -> int:
    """Return the peak resident bytes of a process so far, 0 if it is gone."""
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
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES


def machine_use() -> tuple[int, int]:
    """Return the bytes of memory of this machine, and how many of them are in use."""
    with open("/proc/meminfo", "rb") as file:
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(b":") for line in file)}
    return sizes[b"MemTotal"], sizes[b"MemTotal"] - sizes[b"MemAvailable"]
