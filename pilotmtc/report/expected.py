"""How attempts of tasks may go: as those of tasks like them have gone."""

import random
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby

from pilotmtc.errors import UsageError
from pilotmtc.model import Resources, Template
from pilotmtc.report.measure.columns import RUNNING, Attempts
from pilotmtc.report.work import Failure, Work
from pilotmtc.resources.retry import grown, is_retried, retry_pause_s
from pilotmtc.states import NOT_CHARGED, Cause, TaskState, after_attempt

COMMAND_CHARS = 200  # as the store cuts them
_SEED = 1  # the same plan each time
_MOST_FAILURES = 1000  # of one task: if all that were measured failed, a plan need not try a million times

End = tuple[Cause, int, float]  # why an attempt ended, its exit code or signal, and how long it took
Course = tuple[End, ...]  # the attempts of a task


def courses(some: Attempts, campaigns: frozenset[int]) -> Iterator[tuple[int, Course]]:
    """Yield the attempts of tasks that have succeeded or failed for good, without those that others ended.

    With the place of each task's last attempt in `some`.
    """
    for _, places in groupby(range(len(some)), some.task.__getitem__):
        found = []
        for at in places:
            if some.campaign[at] not in campaigns or some.cause[at] == RUNNING:
                break
            if some.cause[at] not in NOT_CHARGED:
                found.append((Cause(some.cause[at]), some.code[at], some.elapsed_s[at]))
        else:
            if some.state[at] in (TaskState.DONE, TaskState.FAILED) and found and found[-1][0] is not Cause.CANCELED:
                yield at, tuple(found)


class _Pool:
    """What has been measured of one kind of tasks: durations of those that succeeded at once, and courses of others."""

    def __init__(self) -> None:
        self.plain: array[float] = array("d")
        self.others: list[Course] = []
        self._rests: dict[int, list[Course]] = {}

    def draw(self, chance: random.Random, failures: int) -> Course:
        """Return how a task may go on that has failed so often already."""
        if failures:
            if failures not in self._rests:
                self._rests[failures] = [course[failures:] for course in self.others if len(course) > failures]
            if self._rests[failures]:
                return chance.choice(self._rests[failures])
        at = chance.randrange(len(self.plain) + len(self.others))
        if at < len(self.plain):
            return ((Cause.EXIT, 0, self.plain[at]),)
        return self.others[at - len(self.plain)]


class Expected:
    """How tasks may go: as measured of the same command and resources, else of the same command, else as was said.

    Parameters
    ----------
    some, campaigns
        What was measured, and of which campaigns it counts.
    said_s
        Between which durations tasks are that nothing else is known of; None: it was not said.

    Attributes
    ----------
    measured
        How many tasks have been added that something had been measured of.
    """

    def __init__(
        self, some: Attempts | None, campaigns: frozenset[int], said_s: tuple[float, float] | None = None
    ) -> None:
        self._pools: dict[tuple[str, tuple[float, ...] | None], _Pool] = {}
        self._said_s = said_s
        self._random = random.Random(_SEED)
        self.measured = 0
        if some is None:
            return
        for at, course in courses(some, campaigns):
            command = some.commands[some.template[at]]
            for need in (_key(some.resources[some.resources_id[at]]), None):
                pool = self._pools.get((command, need))
                if pool is None:
                    pool = self._pools[command, need] = _Pool()
                if len(course) == 1 and _is_success(course[0]):
                    pool.plain.append(course[0][2])
                else:
                    pool.others.append(course)

    def add(self, work: Work, template: Template, need: Resources, *, failures: int = 0, priority: int = 0) -> int:
        """Add a task that has failed so often already; return its number in `work`.

        Raises
        ------
        UsageError
            If nothing is known of how long it takes.
        """
        command = " ".join(template.command)[:COMMAND_CHARS]
        pool = self._pools.get((command, _key(need))) or self._pools.get((command, None))
        self.measured += pool is not None
        first = work.kind_of(need)
        before: list[Failure] = []
        while True:
            course = self._unknown(command, need) if pool is None else pool.draw(self._random, failures)
            for cause, code, took_s in course:
                failures += 1
                retries = template.max_retries if is_retried(template, cause, code) else 0
                state = after_attempt(cause, code, cancel=False, failures=failures, max_retries=retries, crashes=0)
                if state is not TaskState.READY or len(before) >= _MOST_FAILURES:
                    return work.add(first, took_s, before, well=state is TaskState.DONE, priority=priority)
                need = grown(template, need, cause)
                before.append(Failure(took_s, retry_pause_s(template.backoff_s, failures), work.kind_of(need)))

    def _unknown(self, command: str, need: Resources) -> Course:
        """Return how a task goes that nothing was measured of."""
        if self._said_s is not None:
            took_s = self._random.uniform(*self._said_s)
        else:
            took_s = need.expected_s or need.time_limit_s
        if not took_s:
            raise UsageError(
                f"nothing is known of how long {command!r} takes: give a duration, such as 30s or 27s..33s, or tasks "
                "an expected time"
            )
        return ((Cause.EXIT, 0, took_s),)


def repeat(work: Work, kind: int, course: Sequence[End], backoff_s: float, priority: int) -> int:
    """Add a task that goes exactly as it went; return its number."""
    *failed, last = course
    before = [Failure(end[2], retry_pause_s(backoff_s, number), kind) for number, end in enumerate(failed, 1)]
    return work.add(kind, last[2], before, well=_is_success(last), priority=priority)


def _is_success(end: End) -> bool:
    return end[:2] == (Cause.EXIT, 0)


def _key(need: Resources) -> tuple[float, ...]:
    """Return what of its resources a command's duration may depend on."""
    return need.cores, need.gpus, need.memory_bytes, need.ranks
