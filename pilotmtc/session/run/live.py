"""What running tasks write, line by line, while they run."""

import collections
import time
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from pilotmtc.model import Task, TaskId
from pilotmtc.protocol.client.tasks import GetTail, Tail
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import Step
from pilotmtc.session.look.pages import pages
from pilotmtc.session.run.events import Wrote

MOST = 256  # tasks that are followed at a time: each costs a request a round
_EVERY_S = 0.25
_STREAMS = ("stdout", "stderr")


class _Followed(Struct):
    """A task that runs: how many bytes of its attempt's streams were told, always up to the end of a line."""

    attempt: int = 0
    at: float = 0.0
    told: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    task: Task | None = None
    ended: bool = False


class LiveOutput:
    """Follows what a run's tasks write; what is too much to be followed is left to the end of the task."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._waiting: collections.deque[TaskId] = collections.deque()
        self._running: dict[TaskId, _Followed] = {}
        self._asked_at = 0.0

    def take(self, step: Step) -> Iterator[Wrote]:
        """Yield what has been written until now by tasks that run; call `end` for those that have ended before."""
        over = {task for task, _ in step.ended}
        self._waiting.extend([task for task in step.begun if task not in over])
        if time.monotonic() - self._asked_at < _EVERY_S:
            return
        self._asked_at = time.monotonic()
        asked = [task for task, followed in self._running.items() if not followed.ended]
        while self._waiting and len(asked) < MOST:
            task = self._waiting.popleft()
            self._running.setdefault(task, _Followed()).ended = False
            asked.append(task)
        tails = self._link.call_many([GetTail(task, self._running[task].at) for task in asked])
        news = [(task, tail) for task, tail in zip(asked, tails, strict=True) if self._is_news(task, tail)]
        self._look_up([task for task, _ in news if self._running[task].task is None])
        for task, tail in news:
            yield from self._fresh(self._running[task], tail)

    def end(self, task: TaskId, attempt: int) -> tuple[int, int]:
        """Forget a task that has ended; return how many bytes of its attempt's stdout and stderr were told."""
        followed = self._running.pop(task, None)
        if followed is None or followed.attempt != attempt:
            return 0, 0
        out, err = followed.told
        return out, err

    def _is_news(self, task: TaskId, tail: Tail) -> bool:
        """Return whether a task that is followed has written something."""
        followed = self._running[task]
        if not tail.attempt:  # it has ended, perhaps before it was asked for; what was told is still to be known
            followed.ended = True
            if not any(followed.told):
                del self._running[task]
            return False
        if tail.attempt != followed.attempt:
            followed.attempt, followed.told = tail.attempt, [0, 0]
        fresh = tail.written is not None and tail.at != followed.at
        followed.at = tail.at
        return fresh

    def _look_up(self, ids: list[TaskId]) -> None:
        """Find out what users know the tasks by."""
        for page in pages(self._link, Filter(ids=tuple(ids))) if ids else ():
            for task in page:
                self._running[task.id].task = task

    def _fresh(self, followed: _Followed, tail: Tail) -> Iterator[Wrote]:
        written, task = tail.written, followed.task
        if written is None or task is None or written.attempt != followed.attempt:
            return
        sizes = written.stdout_bytes, written.stderr_bytes
        for number, data in enumerate((written.stdout, written.stderr)):
            known = followed.told[number] - (sizes[number] - len(data))  # of what came; negative: some of it never came
            lines = data[known : data.rfind(b"\n") + 1] if known >= 0 else b""
            if lines:
                followed.told[number] += len(lines)
                yield Wrote(task, _STREAMS[number], lines)
