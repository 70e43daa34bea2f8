"""A crew of one node: the tasks run here, started by the agent's own process.

`waiters` deal with the ends of tasks where they ran; what has no waiter is polled for.
"""

import logging
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from pilotmtc.agent.core import events as c
from pilotmtc.agent.node import mpi
from pilotmtc.agent.node.process import Process
from pilotmtc.agent.node.supervisor import NodeWorker
from pilotmtc.agent.node.waiters import Waiters
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.messages import NodeState
from pilotmtc.resources.slots import Node
from pilotmtc.states import Cause

if TYPE_CHECKING:
    from pilotmtc.agent.loop import Loop

_log = logging.getLogger("pilotmtc.agent")


class Here:
    """Runs tasks on this node.

    Parameters
    ----------
    worker
        What starts and watches them.
    node
        What they may use.
    environ
        What they inherit.
    """

    def __init__(self, worker: NodeWorker, node: Node, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._worker = worker
        self._node = node
        self._waiters = Waiters(len(os.sched_getaffinity(0)), self._waited, self._failed)
        self._told = False  # that the node is unfit
        self.due: Callable[[], float] = worker.due

    def open(self, loop: "Loop") -> None:
        """Get to know the loop, which calls from now on."""
        self._loop = loop

    def start(self, start: c.Start, now: float, *, stay: bool) -> Process | c.Ended | c.NoRoom | None:
        """Start a task; return what came of it at once, or with `stay` its process, which is the calling thread's."""
        if len(start.slots) > 1:
            try:
                way = mpi.way(self._environ | start.template.env)
            except mpi.LaunchError as error:
                report = c.Report(start.claimed.task, start.claimed.attempt, Cause.LAUNCH_ERROR, str(error))
                self._loop.outbox.ended(self._worker.report(report), now)
                return c.Ended(report.task, report.attempt)
            ranks = c.Wide(way, 0, len(start.slots), self._node.name)
            start = structs.replace(start, wide=ranks)
        started = self._worker.start(start, stay=stay)
        if started is None:
            return c.NoRoom(start.claimed.task, start.claimed.attempt)
        outbox = self._loop.outbox
        if isinstance(started, Result):
            outbox.ended(started, now)
            return c.Ended(started.task, started.attempt)
        if not stay and not self._waiters.take(started):
            try:
                self._loop.epoll.register(self._worker.watch(started), select.EPOLLIN)
            except OSError as error:  # no descriptors are left
                _log.warning("cannot watch over task %d now: %s", started.task, error.strerror)
                self._worker.undo(started)
                return c.NoRoom(start.claimed.task, started.attempt)
        outbox.started(start.claimed.task, started.attempt, self._worker.name, started.slot, now)
        return started if stay else None

    def stop(self, stop: c.Stop, now: float) -> None:
        """End a task."""
        self._worker.stop(stop, now)

    def report(self, report: c.Report) -> Result:
        """Return the result of an attempt that was never started."""
        return self._worker.report(report)

    def ready(self, fd: int, now: float) -> None:
        """Deal with a process that has ended and had no waiter."""
        self._loop.epoll.unregister(fd)
        self._over(self._worker.ended(fd), waiter=False)

    def _over(self, process: Process, *, waiter: bool) -> Process | None:
        """Deal with a process that has ended; return one that was started instead and is the calling waiter's."""
        now = time.monotonic()
        result = self._worker.reap(process, now)
        return None if result is None else self._ended(result, now, waiter=waiter)

    def _ended(self, result: Result, now: float, *, waiter: bool) -> Process | None:
        self._loop.outbox.ended(result, now)
        return self._loop.tell(c.Ended(result.task, result.attempt), now, waiter=waiter)

    def _waited(self, process: Process) -> Process | None:
        """Do the same, in a waiter's thread."""
        with self._loop.lock:
            following = self._over(process, waiter=True)
            if following is None:
                self._waiters.idle += 1
            self._loop.hurry()
        return following

    def _failed(self) -> None:
        self._loop.fail("a waiter has failed; its own words are above")

    def poll(self, now: float) -> None:
        """Do what the time demands."""
        for result in self._worker.poll(now):
            self._ended(result, now, waiter=False)
        if self._worker.unfit and not self._told:
            self._told = True
            _log.error("%s", self._worker.unfit)
            self._loop.tell(c.Unfit(self._node.name, self._worker.unfit), now)

    def states(self, busy: int) -> tuple[NodeState, ...]:
        """Return how the node is."""
        return (self._worker.state(self._node.cores, busy, self._node.gpus),)

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> None:
        """Tell what tasks have written so far."""
        self._loop.peeked(self._worker.peek(tasks))

    def leave(self) -> None:
        """End the waiters. Tasks must be over."""
        self._waiters.close()

    def close(self) -> None:
        """Close what is open."""
        self._worker.close()
