"""What /proc says about processes."""

import os
from collections.abc import Collection

_PAGE = os.sysconf("SC_PAGE_SIZE")
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


def task_of(pid: int) -> tuple[int, int] | None:
    """Return task and attempt that a process says it belongs to, None if it does not say."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    found = {}
    for word in words:
        name, _, value = word.partition(b"=")
        if name in (b"PILOTMTC_TASK_ID", b"PILOTMTC_ATTEMPT"):
            found[name] = value
    try:
        return int(found[b"PILOTMTC_TASK_ID"]), int(found[b"PILOTMTC_ATTEMPT"])
    except (KeyError, ValueError):
        return None


def is_server(pid: int) -> bool:
    """Whether a process is a store server, or the way to one: started by the agent's link, but not its own."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if _MARK in file.read():
                return True
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _WAY in file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def session_memory(sessions: Collection[int]) -> dict[int, int]:
    """Return the resident bytes of all processes of each of `sessions`, summed."""
    total = dict.fromkeys(sessions, 0)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        session = int(fields[3])
        if session in total:
            total[session] += int(fields[21]) * _PAGE
    return total


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
