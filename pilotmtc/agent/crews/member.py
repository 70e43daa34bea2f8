"""A worker of the pool, and what it is still to be told."""

from pilotmtc.agent.core.events import Start
from pilotmtc.agent.crews.protocol import (
    Numbered,
    NumberedLine,
    StartAttempt,
    StopAttempt,
    ToAgent,
    ToWorker,
    WorkerReady,
)
from pilotmtc.model import Resources, TaskId, Template


class Member:
    """A worker that is there.

    Parameters
    ----------
    identity
        Its socket's.
    hello
        What it has said of itself.
    beat_s
        How often it gets a sign of life.
    """

    __slots__ = (
        "_beat_s", "_begins", "_resources", "_templates", "beat_at", "halts", "heard_at", "hello", "identity", "line",
        "load", "owes", "peek", "used_bytes",
    )  # fmt: skip

    def __init__(self, identity: bytes, hello: WorkerReady, now: float, beat_s: float) -> None:
        self.identity = identity
        self.hello = hello
        self.line = NumberedLine(hello.birth, ToAgent)
        self._begins: list[StartAttempt] = []
        self._templates: dict[int, Template] = {}  # of those
        self._resources: dict[int, Resources] = {}
        self.halts: list[StopAttempt] = []
        self.peek: list[tuple[TaskId, int]] = []
        self._beat_s = beat_s
        self.heard_at = self.beat_at = now
        self.owes = False  # a confirmation
        self.load = 0.0
        self.used_bytes = 0

    def begin(self, start: Start, begin: StartAttempt) -> None:
        """Have it start its part of an attempt."""
        self._begins.append(begin)
        self._templates[start.claimed.template] = start.template
        self._resources[start.claimed.resources] = start.resources

    def to_say(self, now: float) -> Numbered | None:
        """Return the message that it is to get now, if there is one."""
        if self._begins or self.halts or self.peek:
            down = ToWorker(tuple(self._begins), tuple(self.halts), self._templates, self._resources, tuple(self.peek))
            self._begins, self.halts, self._templates, self._resources, self.peek = [], [], {}, {}, []
            return self._after(now, self.line.say(down, now))
        return self._after(now, self.line.beat()) if self.owes else None

    def sign_of_life(self, now: float) -> Numbered | None:
        """Return one if it is time for it."""
        return self._after(now, self.line.beat()) if now >= self.beat_at else None

    def _after(self, now: float, message: Numbered) -> Numbered:
        self.owes = False
        self.beat_at = now + self._beat_s
        return message
