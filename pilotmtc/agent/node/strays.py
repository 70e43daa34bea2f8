"""Processes that tasks have left behind: the kernel hands them to this process, which kills them."""

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
    """Finds and kills them.

    Parameters
    ----------
    mark
        As `Launcher.mark`.
    """

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._thread = threading.get_native_id()  # the kernel hands orphans to the first thread

    def kill(self, tasks: Collection[Process], spared: Collection[int]) -> int:
        """Kill processes of tasks that have ended; return how many processes there were.

        Parameters
        ----------
        tasks
            The tasks that run.
        spared
            Children of this process that are left alone.
        """
        strays = self._find(tasks, spared)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return len(strays)

    def _find(self, tasks: Collection[Process], spared: Collection[int]) -> list[int]:
        """Return those that no running task can have started, by their descent: they could lie about all else."""
        own = {process.pid for process in tasks}.union(spared)
        adopted = list(self._adopted(own))
        running = {process.mark for process in tasks} if adopted else set()
        return [pid for pid in adopted if self._is_stray(pid, tasks, running)]

    def _adopted(self, own: Collection[int]) -> Iterator[int]:
        """Yield the living children of this process that are not its own; reap the dead ones."""
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
        if mark == self._mark or is_server(pid, mark):  # it serves the agent
            return False
        if mark > 0 and mark >> HALF == self._mark >> HALF:
            return mark not in running
        # Another mark, or none: it belongs to a pilot that a task started, or to sudo. Its task began before it did.
        born = processes.born(pid)
        return all(process.began > born for process in tasks)
