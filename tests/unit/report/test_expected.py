"""How tasks may go, from what has been measured of others."""

from collections import Counter

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.model import Resources, Template
from pilotmtc.report.expected import Course, Expected, courses, repeat
from pilotmtc.report.measure.columns import Attempts
from pilotmtc.report.work import Work
from pilotmtc.states import Cause, TaskState

GOOD, BAD, LOST, OOM = (Cause.EXIT, 0), (Cause.EXIT, 1), (Cause.NODE_LOST, 0), (Cause.OOM, 9)
CAMPAIGNS = frozenset([1])


def past_of(*tasks: tuple[TaskState, list[tuple[tuple[Cause, int], float]]], command: str = "work") -> Attempts:
    """Return the attempts of tasks: the state of each, and how and after which time its attempts ended."""
    found = Attempts()
    found.commands[1] = command
    for task, (state, ends) in enumerate(tasks, 1):
        for attempt, ((cause, code), took_s) in enumerate(ends, 1):
            values = {
                "task": task, "attempt": attempt, "campaign": 1, "state": state, "cause": cause, "code": code,
                "template": 1, "elapsed_s": took_s,
            }  # fmt: skip
            for name in ("task", "attempt", "campaign", "state", "cause", "code", "template", "elapsed_s"):
                getattr(found, name).append(values[name])
            for name in ("resources_id", "pilot", "newest"):
                getattr(found, name).append(0)
    return found


def drawn(past: Attempts, *, number: int = 400, failures: int = 0, **template: int) -> list[tuple[int, float, bool]]:
    """Return how `number` tasks may go: failures before the last attempt, how long that takes, whether it is good."""
    work, expected = Work(), Expected(past, CAMPAIGNS)
    for _ in range(number):
        expected.add(work, Template(("work",), **template), Resources(), failures=failures)  # type: ignore[arg-type]
    assert expected.measured == number
    return [
        (len(work.failures.get(task, ())), work.durations[task], task not in work.failing) for task in range(number)
    ]


def test_attempts_that_others_ended_do_not_count() -> None:
    past = past_of(
        (TaskState.DONE, [(LOST, 3.0), (BAD, 1.0), (GOOD, 2.0)]),
        (TaskState.READY, [(BAD, 1.0)]),
        (TaskState.CANCELED, [((Cause.CANCELED, 15), 1.0)]),
        (TaskState.FAILED, [(BAD, 5.0)]),
    )
    found: list[Course] = [course for _, course in courses(past, CAMPAIGNS)]
    assert found == [((*BAD, 1.0), (*GOOD, 2.0)), ((*BAD, 5.0),)]


def test_as_many_tasks_fail_as_have_failed() -> None:
    past = past_of(*[(TaskState.DONE, [(GOOD, 2.0)])] * 3, (TaskState.DONE, [(BAD, 1.0), (GOOD, 4.0)]))
    found = Counter(drawn(past, max_retries=2))
    assert set(found) == {(0, 2.0, True), (1, 4.0, True)}
    assert 60 < found[1, 4.0, True] < 140  # a quarter of them, by a fixed seed
    assert set(drawn(past, max_retries=0)) == {(0, 2.0, True), (0, 1.0, False)}


def test_task_that_always_fails_uses_all_its_retries() -> None:
    past = past_of((TaskState.FAILED, [(BAD, 1.0), (BAD, 1.0)]))
    assert set(drawn(past, max_retries=3)) == {(3, 1.0, False)}
    assert set(drawn(past, number=1, max_retries=2**31 - 1)) == {(1000, 1.0, False)}


def test_task_that_has_failed_goes_on_as_those_that_had_failed() -> None:
    past = past_of(*[(TaskState.DONE, [(GOOD, 2.0)])] * 9, (TaskState.DONE, [(BAD, 1.0), (GOOD, 4.0)]))
    assert set(drawn(past, failures=1, max_retries=2)) == {(0, 4.0, True)}
    assert len(set(drawn(past, failures=7, max_retries=9))) == 2  # none has failed so often


def test_retries_are_those_of_the_template() -> None:
    past = past_of((TaskState.DONE, [(OOM, 1.0), (GOOD, 2.0)]))
    work, expected, need = Work(), Expected(past, CAMPAIGNS), Resources(memory_bytes=100)
    expected.add(work, Template(("work",), max_retries=1, retry_memory=2.0, backoff_s=5.0), need)
    ((failure,),) = work.failures.values()
    assert (failure.took_s, failure.pause_s, work.needs[failure.kind].memory_bytes) == (1.0, 5.0, 200)
    expected.add(work, Template(("work",), max_retries=1, no_retry_on=("oom",)), need)
    assert work.failing == {1}


def test_unknown_tasks_take_as_long_as_was_said() -> None:
    work, expected = Work(), Expected(None, CAMPAIGNS, (2.0, 3.0))
    expected.add(work, Template(("other",)), Resources())
    assert (2.0 <= work.durations[0] <= 3.0, expected.measured) == (True, 0)
    with pytest.raises(UsageError, match="nothing is known of how long 'other' takes"):
        Expected(None, CAMPAIGNS).add(work, Template(("other",)), Resources())
    Expected(None, CAMPAIGNS).add(work, Template(("other",)), Resources(expected_s=7.0))
    assert work.durations[1] == 7.0


def test_task_is_repeated_as_it_went() -> None:
    work = Work()
    repeat(work, work.kind_of(Resources()), ((*BAD, 1.0), (*BAD, 2.0), (*GOOD, 3.0)), 10.0, 4)
    assert [(failure.took_s, failure.pause_s) for failure in work.failures[0]] == [(1.0, 10.0), (2.0, 20.0)]
    assert (work.durations[0], work.priorities[0], work.failing) == (3.0, 4, set())
