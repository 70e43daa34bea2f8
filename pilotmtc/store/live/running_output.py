"""The newest output of running tasks, which agents report when a client asks for it. Pure."""

from collections import defaultdict
from functools import partial

from pilotmtc.model import PilotId, TaskId
from pilotmtc.protocol.records import OutputTail
from pilotmtc.store.live.participant import Staged

_AGAIN_S = 2.0  # after this time without an answer, the agent is asked again
_KEPT = 32  # number of reports that are kept

AttemptKey = tuple[TaskId, int]


class RunningOutput(Staged):
    """The attempts on which agents should report, and their reports."""

    def __init__(self) -> None:
        super().__init__()
        self._questions: defaultdict[PilotId, set[AttemptKey]] = defaultdict(set)
        self._asked_at: dict[AttemptKey, float] = {}  # agents have not answered about these yet
        self._answers: dict[AttemptKey, tuple[float, OutputTail]] = {}  # oldest first

    def answer(self, attempt: AttemptKey) -> tuple[float, OutputTail | None]:
        """Return the time of the last report on an attempt, and the output in it."""
        return self._answers.get(attempt, (0.0, None))

    def ask(self, pilot: PilotId, attempt: AttemptKey, now: float) -> bool:
        """Note that a client asks about an attempt; return whether to tell its pilot."""
        if now - self._asked_at.get(attempt, float("-inf")) < _AGAIN_S:
            return False
        self._staged.append(partial(self._ask, pilot, attempt, now))
        return True

    def _ask(self, pilot: PilotId, attempt: AttemptKey, now: float) -> None:
        if len(self._asked_at) >= _KEPT:
            self._asked_at.clear()
        self._asked_at[attempt] = now
        self._questions[pilot].add(attempt)

    def questions(self, pilot: PilotId) -> tuple[AttemptKey, ...]:
        """Return the attempts on which a pilot should report; each is returned once."""
        questions = self._questions.get(pilot)
        if not questions:
            return ()
        self._staged.append(partial(self._questions.pop, pilot, None))
        return tuple(sorted(questions))

    def take(self, written: OutputTail, at: float) -> None:
        """Keep a report that came at the time `at`."""
        attempt = written.task, written.attempt
        self._asked_at.pop(attempt, None)
        self._answers.pop(attempt, None)
        self._answers[attempt] = at, written
        if len(self._answers) > _KEPT:
            del self._answers[next(iter(self._answers))]
