"""Kills processes that tasks have left behind: the kernel makes them children of this process."""

import contextlib
import os
import signal
import threading
from collections.abc import Collection, Iterator

from pilotmtc.agent.guard import HALF, mark_of
from pilotmtc.agent.node.interface import Process
from pilotmtc.agent.node.marks import is_server
from pilotmtc.system import processes


class Strays:
    """Finds and kills such processes.

    Parameters
    ----------
    mark
        See `Launcher.mark`.
    """

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._thread = threading.get_native_id()  # the first thread, to which the kernel gives orphans

    def kill(self, tasks: Collection[Process], spared: Collection[int]) -> int:
        """Kill processes of tasks that have ended; return their number.

        Parameters
        ----------
        tasks
            The running tasks.
        spared
            Children of this process that are left alone.
        """
        strays = self._find(tasks, spared)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return len(strays)

    def _find(self, tasks: Collection[Process], spared: Collection[int]) -> list[int]:
        """Return processes that do not descend from any running task, which is the only thing that they cannot fake."""
        own = {process.pid for process in tasks}.union(spared)
        adopted = list(self._adopted(own))
        running = {process.mark for process in tasks} if adopted else set()
        return [pid for pid in adopted if self._is_stray(pid, tasks, running)]

    def _adopted(self, own: Collection[int]) -> Iterator[int]:
        """Yield living children that this process has not started itself; reap the dead ones."""
        for pid in processes.children(os.getpid(), self._thread):
            if pid in own:
                continue
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                continue
            yield pid

    def _is_stray(self, pid: int, tasks: Collection[Process], running: Collection[int]) -> bool:
        mark = mark_of(pid)
        if mark == self._mark or is_server(pid, mark):  # it serves this agent
            return False
        if mark > 0 and mark >> HALF == self._mark >> HALF:
            return mark not in running
        # Another mark or none: it is of a pilot that a task has started, or of sudo. Its task was started before it.
        born = processes.born(pid)
        return all(process.began > born for process in tasks)
