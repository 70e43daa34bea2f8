"""What /proc says about processes."""

import math
import os
import time
from collections.abc import Collection

from pilotmtc.agent.guard import mark_of

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_DEAD = (b"Z", b"X")
# How the store's `serve` marks the server that it starts, and what itself looks like.
_MARK = b"PILOTMTC_STORE_SERVER="
_WAY = b"/pilotmtc/store/serve.py"


def children(pid: int | str, thread: int) -> list[int]:
    """Return the children of a thread of a process."""
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def threads(pid: int) -> list[int]:
    """Return the threads of a process."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def born(pid: int) -> float:
    """Return when a process was started at the latest, by the monotonic clock; infinite if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return math.inf
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return (ticks + 1) / _TICKS - asleep


def is_server(pid: int, mark: int) -> bool:
    """Whether a process with that mark is a store server, or the way to one that started it. Both have none."""
    if mark >= 0:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if _MARK in file.read():
                return True
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _WAY in file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def living_groups() -> set[int]:
    """Return the groups in which a process is alive."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split(None, 3)
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in _DEAD:
                found.add(int(fields[2]))
    return found


def processes_of(marks: Collection[int]) -> dict[int, list[tuple[int, int]]]:
    """Return the processes that bear each of `marks`, with the resident bytes of each.

    What has no mark to be seen, being another user's by now, belongs where its parent does.
    """
    found: dict[int, list[tuple[int, int]]] = {mark: [] for mark in marks}
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(name)] = int(fields[1])
        resident[int(name)] = int(fields[21]) * _PAGE
    for pid, size in resident.items():
        own: int | None = pid
        while own and (mark := mark_of(own)) not in found:
            own = parents.get(own)
        if own:
            found[mark].append((pid, size))
    return found


def proportional_memory(pid: int, resident: int) -> int:
    """Return the bytes of a process, of what it shares only its share; all that is `resident` if nobody says."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0 if not os.path.exists(f"/proc/{pid}") else resident
    except PermissionError:
        pass
    return resident


def peak_memory(pid: int) -> int:
    """Return the peak resident bytes of a process so far, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def machine_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def machine_use() -> tuple[int, int]:
    """Return the bytes of memory of this machine, and how many of them are in use."""
    with open("/proc/meminfo", "rb") as file:
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(b":") for line in file)}
    return sizes[b"MemTotal"], sizes[b"MemTotal"] - sizes[b"MemAvailable"]
