"""Memory limits of tasks: all processes that a task has started count."""

import re
from collections.abc import Iterable, Iterator

from pilotmtc.agent.node import marks
from pilotmtc.agent.node.interface import Process
from pilotmtc.system import processes

_READINGS = 3
_VALUE = re.compile(rb"/[0-9a-f]{64}( \(deleted\))?$")  # files of values have their digests as names


def over_limit(limited: Iterable[Process]) -> Iterator[Process]:
    """Yield the tasks that use more memory than their limits, and record the peak of every task."""
    by_mark = {process.mark: process for process in limited}
    for mark, found in marks.processes_of(by_mark).items():
        process = by_mark[mark]
        process.peak = max(process.peak, processes.peak_memory(process.pid))
        limit = process.memory_bytes
        if process.cause is not None or sum(size for _, size in found) <= limit:
            continue
        # That sum counts shared memory once per process. The exact one takes longer, and when processes end meanwhile,
        # it counts what they share more than once: their shares go to those that are read later. So it is repeated.
        if all(_use(process, found) > limit for _ in range(_READINGS)):
            yield process


def _use(process: Process, found: Iterable[tuple[int, int]]) -> int:
    """Return the memory of a task's processes; shared memory counts once."""
    used = sum(processes.proportional_memory(pid, size) for pid, size in found)
    if used > process.memory_bytes and process.over is not None:  # values belong to the node, not to the call
        used -= sum(processes.memory_of_files(pid, _VALUE) for pid, _ in found)
    return used
