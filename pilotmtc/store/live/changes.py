"""The feed of changes: the newest changes of tasks' states, for clients that follow them. Pure."""

from collections import deque
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from pilotmtc.model import TaskId
from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import split_attempt_id

KEPT = 100_000  # changes
_LONGEST_RUN = 4_096  # changes; longer runs are split, because runs are forgotten as a whole

Change = tuple[TaskId, TaskState, int]  # the task, its new state, and the number of the attempt


class ChangeRun(NamedTuple):
    """Consecutive changes of one kind: packed ids of a campaign's attempts whose tasks went to the same state."""

    campaign: int
    state: TaskState
    attempts: Sequence[int]


class ChangeFeed:
    """The newest changes, with numbers: those of a transaction are seen by what comes after them in it.

    Attributes
    ----------
    seq
        The number of the newest change.
    """

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._runs: deque[ChangeRun] = deque()
        self._kept = 0
        self._staged = 0  # of the runs, the last ones, which are not committed yet

    @property
    def first_seq(self) -> int:
        """The oldest number from which `since` can continue."""
        return self.seq - self._kept

    def add(self, campaign: int, state: TaskState, attempts: Sequence[int]) -> None:
        """Add changes that are not committed yet."""
        for at in range(0, len(attempts), _LONGEST_RUN):
            run = attempts if len(attempts) <= _LONGEST_RUN else attempts[at : at + _LONGEST_RUN]
            self._runs.append(ChangeRun(campaign, state, run))
            self._staged += 1
        self.seq += len(attempts)
        self._kept += len(attempts)

    def since(
        self, seq: int, campaign: int | None, limit: int, states: Container[TaskState] = ()
    ) -> tuple[int, list[Change]]:
        """Return up to `limit` changes (to some `states`) after number `seq`, and the number to continue from."""
        found: list[Change] = []
        for begin, run in self._runs_after(seq):
            if campaign not in (None, run.campaign) or (states and run.state not in states):
                continue
            for number, attempt_id in enumerate(islice(run.attempts, max(0, seq - begin), None), max(begin, seq) + 1):
                task, attempt = split_attempt_id(attempt_id)
                found.append((task, run.state, attempt))
                if len(found) >= limit:
                    return number, found
        return self.seq, found

    def _runs_after(self, seq: int) -> Iterator[tuple[int, ChangeRun]]:
        """Yield the runs with changes after number `seq`, in order, each with the number of the last one before it.

        They are looked for from the end, where those that follow are: there may be as many runs as changes.
        """
        runs: list[tuple[int, ChangeRun]] = []
        begin = self.seq
        for run in reversed(self._runs):
            if begin <= seq:
                break
            begin -= len(run.attempts)
            runs.append((begin, run))
        return reversed(runs)

    def mark(self) -> int:
        """Return the number of runs that are not committed yet."""
        return self._staged

    def rewind(self, mark: int) -> None:
        """Forget the runs after `mark`."""
        while self._staged > mark:
            undone = len(self._runs.pop().attempts)
            self.seq -= undone
            self._kept -= undone
            self._staged -= 1

    def commit(self) -> None:
        """Keep the new changes, and forget the oldest ones."""
        self._staged = 0
        while self._runs and self._kept - len(self._runs[0].attempts) >= KEPT:
            self._kept -= len(self._runs.popleft().attempts)
