"""Which processes belong to which task, by the marks that `guard` explains."""

from collections.abc import Collection

from pilotmtc.agent.guard import mark_of
from pilotmtc.store import serve  # of the store the one part that imports nothing: there may be thousands of workers
from pilotmtc.system import processes

_SERVER = f"{serve.MARK}=".encode()
_SERVE = b"/pilotmtc/store/serve.py"


def is_server(pid: int, mark: int) -> bool:
    """Whether a process is a store server, or a ``serve`` that starts one: these two have no mark."""
    if mark >= 0:
        return False
    return any(each.startswith(_SERVER) for each in processes.environment(pid)) or any(
        _SERVE in word for word in processes.command_line(pid)
    )


def processes_of(marks: Collection[int]) -> dict[int, list[tuple[int, int]]]:
    """Return the processes that bear each of `marks`, with the resident bytes of each.

    A process whose mark cannot be seen, being another user's by now, belongs to the task of its parent.
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
