"""A crew on one node: the agent's own process starts the tasks.

`waiters` are threads that wait for the ends of tasks; a task without a waiter is polled.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence

from msgspec import structs

from pilotmtc.agent.core import events as c
from pilotmtc.agent.crews.interface import Agent
from pilotmtc.agent.functions.pool import FunctionPool
from pilotmtc.agent.node import mpi
from pilotmtc.agent.node.interface import LaunchError, Process
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.agent.node.waiters import Waiters
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.records import NodeState
from pilotmtc.resources.slots import Node
from pilotmtc.states import Cause

_log = logging.getLogger("pilotmtc.agent")


class LocalCrew:
    """Runs tasks on this node.

    Parameters
    ----------
    supervisor
        Of this node.
    node
        What tasks may use.
    environ
        The variables that they inherit.
    functions
        What runs calls of functions.
    """

    def __init__(self, supervisor: Supervisor, node: Node, environ: Mapping[str, str], functions: FunctionPool) -> None:
        self._environ = dict(environ)
        self._supervisor = supervisor
        self._functions = functions
        self._node = node
        self._waiters = Waiters(len(os.sched_getaffinity(0)), self._waited, self._failed)
        self._asking = False  # a waiter is asking for its next task
        self._next: Process | None = None  # which it has been given
        self._unfit_told = False

    def open(self, agent: Agent) -> None:
        """Get to know the agent, which calls from now on."""
        self._agent = agent
        self._functions.open(agent.watch, agent.unwatch)

    def start(self, start: c.Start, now: float) -> None:
        """Start a task. A waiter that is asking for its next one gets it."""
        task, attempt = start.claimed.task, start.claimed.attempt
        if start.template.function is not None and len(start.slots) == 1:
            if not self._functions.start(start, now):
                self._agent.tell(c.NoRoom(task, attempt), now)
            self._tell_of_calls(now)
            return
        if len(start.slots) > 1:
            try:
                way = mpi.way(self._environ | start.template.env)
            except LaunchError as error:
                self._agent.ended(self.report(c.Report(task, attempt, Cause.LAUNCH_ERROR, str(error))), now)
                return
            start = structs.replace(start, wide=c.Wide(way, 0, len(start.slots), self._node.name))
            if start.template.function is not None:
                try:
                    start = self._functions.wide.as_command(start)
                except OSError as error:
                    _log.warning("cannot start task %d now: %s", task, error)
                    self._agent.tell(c.NoRoom(task, attempt), now)
                    return
        stay = self._asking
        started = self._supervisor.start(start, stay=stay)
        if started is None:
            self._no_room(task, attempt, now)
            return
        if isinstance(started, Result):
            self._agent.ended(self._functions.wide.result(started), now)
            return
        if stay:
            self._asking = False
            self._next = started
        elif not self._waiters.take(started) and not self._supervisor.watch(started, self._agent.watch):
            self._no_room(task, attempt, now)
            return
        self._agent.started(task, attempt, self._supervisor.name, started.slot, now)

    def _no_room(self, task: TaskId, attempt: int, now: float) -> None:
        self._functions.wide.drop(task, attempt)
        self._agent.tell(c.NoRoom(task, attempt), now)

    def stop(self, stop: c.Stop, now: float) -> None:
        """Stop a task."""
        self._supervisor.stop(stop, now)
        self._functions.stop(stop, now)
        self._tell_of_calls(now)

    def _tell_of_calls(self, now: float) -> None:
        """Tell the agent what has come of calls."""
        outcome = self._functions.take()
        if outcome is None:
            return
        for task, attempt, slot in outcome.begun:
            self._agent.started(task, attempt, self._supervisor.name, slot, now)
        if outcome.results:
            self._agent.ended_many(outcome.results, now)
        if outcome.unbegun:
            self._agent.tell(c.Unbegun(tuple(outcome.unbegun)), now)

    def report(self, report: c.Report) -> Result:
        """Return the result of an attempt that was never started."""
        return self._supervisor.report(report)

    def ready(self, fd: int, now: float) -> None:
        """Deal with a process that has ended and had no waiter, or with workers that ring."""
        if not self._functions.ready(fd, now):
            self._agent.unwatch(fd)
            self._ended(self._supervisor.ended(fd))
        self._tell_of_calls(now)

    def _ended(self, process: Process) -> None:
        """Deal with a process that has ended."""
        now = time.monotonic()
        result = self._supervisor.reap(process, now)
        if result is not None:
            self._agent.ended(self._functions.wide.result(result), now)

    def _waited(self, process: Process) -> Process | None:
        """Do the same in a waiter's thread; return the process that it is to wait for next."""
        with self._agent.lock:
            self._asking = True
            self._ended(process)
            self._asking = False
            following, self._next = self._next, None
            if following is None:
                self._waiters.idle += 1
            self._agent.wake()
        return following

    def _failed(self) -> None:
        self._agent.fail("a waiter has failed; its error is above")

    def due(self) -> float:
        """Return when `poll` wants to be called."""
        return min(self._supervisor.due(), self._functions.due())

    def poll(self, now: float) -> None:
        """Do what is due."""
        for result in self._supervisor.poll(now):
            self._agent.ended(self._functions.wide.result(result), now)
        self._functions.poll(now)
        self._tell_of_calls(now)
        if self._supervisor.unfit and not self._unfit_told:
            self._unfit_told = True
            _log.error("%s", self._supervisor.unfit)
            self._agent.tell(c.NodeUnfit(self._node.name, self._supervisor.unfit), now)

    def states(self, busy: int) -> tuple[NodeState, ...]:
        """Return the state of the node."""
        return (self._supervisor.state(self._node.cores, busy, self._node.gpus),)

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> None:
        """Tell what tasks have written so far."""
        self._agent.written([*self._supervisor.peek(tasks), *self._functions.peek(tasks)])

    def leave(self) -> None:
        """End the waiters. Tasks must be over."""
        self._waiters.close()

    def close(self) -> None:
        """Close what is open."""
        self._functions.close()
        self._supervisor.close()
