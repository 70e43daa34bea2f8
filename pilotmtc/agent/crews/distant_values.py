"""Calls on a node that has not the pilot's directory: what they need comes from the agent, and large results go there.

The agent answers in the order in which it is asked, and nothing of that is lost.
"""

from collections import deque
from collections.abc import Callable, Sequence

from msgspec import structs

from pilotmtc.agent.core import events as c
from pilotmtc.agent.value_files import ValueFiles
from pilotmtc.agent.values import Values
from pilotmtc.errors import StoreError, UsageError
from pilotmtc.model import Claimed, PilotId, Result, TaskId
from pilotmtc.protocol.agent import Batch
from pilotmtc.protocol.values import GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import Cause

Report = Callable[[TaskId, int, Cause, str], None]


class DistantValues:
    """The values of this node, and the calls that wait for some.

    Parameters
    ----------
    pilot
        The pilot.
    files
        Where the values are on this node.
    start
        Starts calls that have all they need.
    report
        Tells of the end of a call that was not started.

    Attributes
    ----------
    asks, puts
        What the agent is to be asked next.
    """

    def __init__(
        self, pilot: PilotId, files: ValueFiles, start: Callable[[c.Start, float], None], report: Report
    ) -> None:  # fmt: skip
        self._values = Values(pilot, files, self._send)
        self._start = start
        self._report = report
        self._held: dict[TaskId, c.Start] = {}  # with its mates, by each of them
        self._lacking: set[TaskId] = set()
        self.asks: list[GetValue] = []
        self.puts: list[PutValue] = []
        self._asked: deque[GetValue] = deque()
        self._put: deque[PutValue] = deque()

    def _send(self, request: GetValue | PutValue) -> None:
        if isinstance(request, GetValue):
            self.asks.append(request)
            self._asked.append(request)
        else:
            self.puts.append(request)
            self._put.append(request)

    # -- calls ------------------------------------------------------------------------------------------------

    def start(self, start: c.Start, now: float) -> None:
        """Start calls, or hold them until all that they need is here."""
        calls = (start.claimed, *start.mates)
        lacking = self._values.want(Batch(0, calls, {start.claimed.template: start.template}))
        if not lacking:
            self._start(start, now)
            return
        self._lacking |= lacking
        for claimed in calls:
            self._held[claimed.task] = start

    def stop(self, stop: c.Stop, now: float) -> None:
        """End a call that is held."""
        start = self._held.get(stop.task)
        if start is not None and stop.attempt in [each.attempt for each in _calls(start) if each.task == stop.task]:
            self._end(stop.task, stop.cause, "it was ended before it was started", now)

    def over(self, tasks: Sequence[TaskId]) -> None:
        """Let go what calls need that are over, or not here any more."""
        self._values.release(tasks)

    def bring(self, result: Result, brought: Callable[[Result], None]) -> None:
        """Bring the large value of a result to the agent; then call with it, or with what became of it."""
        self._values.bring(result, brought)

    @property
    def owes(self) -> bool:
        """Whether results wait for their values to be at the agent."""
        return bool(self._values.owed)

    # -- the agent --------------------------------------------------------------------------------------------

    def hear(self, parts: Sequence[ValuePart], taken: Sequence[int], now: float) -> None:
        """Take in what the agent has answered."""
        for part in parts:
            ask = self._asked.popleft()
            if part.found:
                self._note(self._values.got(ask, part, now), now)
            else:
                self._note(self._values.refused(ask, StoreError("the agent cannot read it"), now), now)
        for received in taken:
            put = self._put.popleft()
            if received >= 0:
                self._values.put(put, ValueStatus(received))
            else:
                self._values.refused(put, UsageError("its agent could not keep it"), now)

    def poll(self, now: float) -> None:
        """Try again what is due."""
        self._values.poll(now)

    def _note(self, events: Sequence[c.Event], now: float) -> None:
        for event in events:
            if isinstance(event, c.ValuesCame):
                self._lacking.difference_update(event.tasks)
                for start in [self._held[task] for task in event.tasks if task in self._held]:
                    self._start_whole(start, now)
            elif isinstance(event, c.ValuesMissing):
                for task in event.tasks:
                    self._end(task, event.cause, event.message, now)

    def _start_whole(self, start: c.Start, now: float) -> None:
        """Start calls of which none lacks anything any more."""
        tasks = [each.task for each in _calls(start)]
        if self._held.get(tasks[0]) is start and not self._lacking.intersection(tasks):
            for task in tasks:
                del self._held[task]
            self._start(start, now)

    def _end(self, task: TaskId, cause: Cause, message: str, now: float) -> None:
        """End a call that is held; those with it go on."""
        start = self._held.pop(task, None)
        self._lacking.discard(task)
        if start is None:
            return
        (gone,) = [each for each in _calls(start) if each.task == task]
        self._values.release((task,))
        self._report(task, gone.attempt, cause, message)
        left = [each for each in _calls(start) if each.task != task]
        if left:
            start = structs.replace(start, claimed=left[0], mates=tuple(left[1:]))
            for each in left:
                self._held[each.task] = start
            self._start_whole(start, now)

    def close(self) -> None:
        """Close what is open, and remove the values."""
        self._values.close()


def _calls(start: c.Start) -> tuple[Claimed, ...]:
    return (start.claimed, *start.mates)
