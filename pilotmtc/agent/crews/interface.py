"""The interface between the agent's loop and a crew, which runs the tasks."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pilotmtc.agent.core.events import Event, Report, Start, Stop
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.records import NodeState, OutputTail


class Agent(Protocol):
    """The agent's loop, from its crew's point of view. The crew's threads hold `lock` for all calls except `fail`."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The lock that threads must hold; the loop's own thread holds it while it calls the crew."""
        ...

    def started(self, task: TaskId, attempt: int, node: str, slot: str, now: float) -> None:
        """Note that an attempt runs, and where."""
        ...

    def ended(self, result: Result, now: float) -> None:
        """Note how an attempt ended, and start what there is room for now."""
        ...

    def ended_many(self, results: Sequence[Result], now: float) -> None:
        """Do as `ended` for attempts that have ended at once, such as calls that one worker ran."""
        ...

    def tell(self, event: Event, now: float) -> None:
        """Let the core react to `event`, and do what it decides, now or after what is being done already."""
        ...

    def written(self, outputs: Sequence[OutputTail]) -> None:
        """Tell the store what running tasks have written so far."""
        ...

    def watch(self, fd: int) -> None:
        """Call `Crew.ready` when the descriptor is readable. Raises `OSError` if it cannot be watched."""
        ...

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        ...

    def wake(self) -> None:
        """Wake the loop's own thread if something is due before it wakes by itself."""
        ...

    def fail(self, reason: str) -> None:
        """End the loop with an error."""
        ...


class Crew(Protocol):
    """What runs the tasks, from the loop's point of view."""

    def open(self, agent: Agent) -> None:
        """Remember the agent; called before anything else."""
        ...

    def start(self, start: Start, now: float) -> None:
        """Start an attempt, and tell the agent what came of it, now or later."""
        ...

    def stop(self, stop: Stop, now: float) -> None:
        """Stop an attempt; the agent is told when it has ended."""
        ...

    def report(self, report: Report) -> Result:
        """Return the result of an attempt that was never started or was lost."""
        ...

    def ready(self, fd: int, now: float) -> None:
        """Handle a watched descriptor that is readable."""
        ...

    def due(self) -> float:
        """Return when to call `poll`."""
        ...

    def poll(self, now: float) -> None:
        """Do what is due."""
        ...

    def states(self, busy: int) -> tuple[NodeState, ...]:
        """Return the states of all nodes; `busy` is the number of cores in use."""
        ...

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> None:
        """Report to the agent, now or later, what these attempts have written so far."""
        ...

    def leave(self) -> None:
        """Dismiss the workers: all tasks have ended, and the store has their results."""
        ...

    def close(self) -> None:
        """Close everything, after `leave` or an error."""
        ...
