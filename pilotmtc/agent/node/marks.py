"""Which processes belong to which task: `guard` explains the marks by which they are found."""

from collections.abc import Collection

from pilotmtc.agent.guard import mark_of
from pilotmtc.store import serve  # the one part of the store that imports nothing: there may be thousands of workers
from pilotmtc.system import processes

_SERVER = f"{serve.MARK}=".encode()
_SERVE = b"/pilotmtc/store/serve.py"


def is_server(pid: int, mark: int) -> bool:
    """Return whether a process is a store server, or a ``serve`` that starts one; neither has a mark."""
    if mark >= 0:
        return False
    return any(each.startswith(_SERVER) for each in processes.environment(pid)) or any(
        _SERVE in word for word in processes.command_line(pid)
    )


def processes_of(marks: Collection[int]) -> dict[int, list[tuple[int, int]]]:
    """Return the processes with each of `marks`, as pairs of process id and resident bytes.

    A process that has become another user's hides its mark; it counts as its parent's.
    """
    found: dict[int, list[tuple[int, int]]] = {mark: [] for mark in marks}
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for pid in processes.pids():
        if fields := processes.stat(pid):
            parents[pid] = int(fields[1])
            resident[pid] = int(fields[21]) * processes.PAGE_BYTES
    for pid, size in resident.items():
        own: int | None = pid
        while own and (mark := mark_of(own)) not in found:
            own = parents.get(own)
        if own:
            found[mark].append((pid, size))
    return found
