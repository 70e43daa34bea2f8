"""What the agent's loop and a crew, which runs the tasks, know of each other."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pilotmtc.agent.core.events import Event, Report, Start, Stop
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.records import NodeState, OutputTail


class Agent(Protocol):
    """The loop, as its crew sees it. Threads of the crew's own hold `lock` whenever they call it, but for `fail`."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What a thread must hold; the loop's own thread does while it calls the crew."""
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
        """Let the core react to `event`, and do what it says: at once, or after what is being done already."""
        ...

    def written(self, outputs: Sequence[OutputTail]) -> None:
        """Tell the store what running tasks have written so far."""
        ...

    def watch(self, fd: int) -> None:
        """Have `Crew.ready` called when the descriptor is readable. Raises `OSError` if there is no room for it."""
        ...

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        ...

    def wake(self) -> None:
        """Wake the loop's own thread if there is something to do before it wakes by itself."""
        ...

    def fail(self, reason: str) -> None:
        """End the loop with an error."""
        ...


class Crew(Protocol):
    """What runs the tasks, as the loop sees it."""

    def open(self, agent: Agent) -> None:
        """Get to know the agent, before anything else."""
        ...

    def start(self, start: Start, now: float) -> None:
        """Start an attempt, and tell the agent what came of it, now or later."""
        ...

    def stop(self, stop: Stop, now: float) -> None:
        """Stop an attempt; the agent is told when it has ended."""
        ...

    def report(self, report: Report) -> Result:
        """Return the result of an attempt that was never started, or was lost."""
        ...

    def ready(self, fd: int, now: float) -> None:
        """Deal with a watched descriptor that is readable."""
        ...

    def due(self) -> float:
        """Return when `poll` wants to be called."""
        ...

    def poll(self, now: float) -> None:
        """Do what is due."""
        ...

    def states(self, busy: int) -> tuple[NodeState, ...]:
        """Return the states of the nodes; `busy` is the number of cores in use."""
        ...

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> None:
        """Tell the agent, now or later, what these attempts have written so far."""
        ...

    def leave(self) -> None:
        """Let the workers go: all tasks have ended, and the store has their results."""
        ...

    def close(self) -> None:
        """Close what is open, after `leave` or a failure."""
        ...
