"""A worker of the pool, and the messages for it."""

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
from pilotmtc.protocol.values import ValuePart


class Member:
    """A worker that has joined.

    Parameters
    ----------
    identity
        Identifies its socket.
    hello
        Its first message, with what it has.
    beat_s
        How often to send it a sign of life.
    """

    __slots__ = (
        "_beat_s", "_begins", "_resources", "_templates", "beat_at", "halts", "heard_at", "hello", "identity", "line",
        "load", "owes", "parts", "peek", "taken", "used_bytes",
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
        self.parts: list[ValuePart] = []
        self.taken: list[int] = []
        self._beat_s = beat_s
        self.heard_at = self.beat_at = now
        self.owes = False  # it is to be sent a confirmation
        self.load = 0.0
        self.used_bytes = 0

    def begin(self, start: Start, begin: StartAttempt) -> None:
        """Note that it is to start its part of an attempt."""
        self._begins.append(begin)
        self._templates[start.claimed.template] = start.template
        self._resources[start.claimed.resources] = start.resources

    def to_say(self, now: float) -> Numbered | None:
        """Return the message to send now, if there is one."""
        if self._begins or self.halts or self.peek or self.parts or self.taken:
            down = ToWorker(
                tuple(self._begins), tuple(self.halts), self._templates, self._resources, tuple(self.peek),
                tuple(self.parts), tuple(self.taken),
            )  # fmt: skip
            self._begins, self.halts, self._templates, self._resources, self.peek = [], [], {}, {}, []
            self.parts, self.taken = [], []
            return self._after(now, self.line.say(down, now))
        return self._after(now, self.line.beat()) if self.owes else None

    def sign_of_life(self, now: float) -> Numbered | None:
        """Return a sign of life if one is due."""
        return self._after(now, self.line.beat()) if now >= self.beat_at else None

    def _after(self, now: float, message: Numbered) -> Numbered:
        self.owes = False
        self.beat_at = now + self._beat_s
        return message
