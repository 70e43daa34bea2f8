"""Memory limits of tasks where the kernel does not keep them (`memory_groups`), and its kills where memory runs out.

All processes that a task has started count.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator

from pilotmtc.agent.node import allowance, marks
from pilotmtc.agent.node.interface import Process
from pilotmtc.system import control_groups, processes
from pilotmtc.units import format_memory

_READINGS = 3
_NEAR = 0.8  # of all memory that there is here: the rest is of the system and of other processes
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


class KernelKills:
    """Tells whether a task that was killed was probably killed by the kernel, because memory ran out.

    The kernel counts its kills in the control group of this process, which is that of its tasks as well.
    """

    def __init__(self) -> None:
        self._memory_bytes = allowance.memory(processes.machine_memory(), os.environ)
        own = {"": "memory.events", "memory": "memory.oom_control"}  # versions 2 and 1
        groups = ((control_groups.own(controller), name) for controller, name in own.items())
        self._counters = [group / name for group, name in groups if group is not None]
        self._count = self._kills()
        self._grew_at = -math.inf  # when that was seen

    def look(self, now: float) -> None:
        """Note whether the kernel has killed."""
        count = self._kills()
        if count > self._count:
            self._grew_at = now
        self._count = count

    def likely(self, began: float, peak: int, now: float) -> str | None:
        """Return what to say of a task that began then and was killed by nobody of ours; None if it is not likely."""
        self.look(now)
        if self._grew_at < began and peak < _NEAR * self._memory_bytes:
            return None
        return f"killed by signal 9, probably for memory: peak was {format_memory(peak)}"

    def _kills(self) -> int:
        return sum(control_groups.counter(path, "oom_kill") for path in self._counters)
