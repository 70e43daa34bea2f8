"""The tables of transitions."""

import pytest

from pilotmtc.errors import InvalidTransition
from pilotmtc.states import (
    CRASH_LIMIT,
    PILOT_FINAL,
    PILOT_TRANSITIONS,
    TASK_HELD,
    TASK_TRANSITIONS,
    Cause,
    PilotState,
    TaskState,
    after_attempt,
    check_pilot,
    check_task,
)

S = TaskState


def test_the_numbers_on_disk_stay() -> None:
    assert [state.name for state in sorted(TaskState)] == [
        "WAITING", "READY", "CLAIMED", "RUNNING", "DONE", "FAILED", "CANCELED", "SKIPPED"
    ]  # fmt: skip
    assert [state.name for state in sorted(PilotState)] == [
        "NEW", "PENDING", "ACTIVE", "DRAINING", "DONE", "FAILED", "CANCELED"
    ]  # fmt: skip
    assert [cause.name for cause in sorted(Cause)] == [
        "EXIT", "SIGNAL", "TIMEOUT", "OOM", "WALLTIME", "PREEMPTED", "NODE_LOST", "PILOT_LOST", "CANCELED",
        "LAUNCH_ERROR",
    ]  # fmt: skip


def test_done_is_for_ever_and_only_held_tasks_get_there() -> None:
    assert {old for old, new in TASK_TRANSITIONS if new is S.DONE} == TASK_HELD
    assert {new for old, new in TASK_TRANSITIONS if old is S.DONE} == {S.READY, S.WAITING}  # a user's rerun


def test_final_pilots_stay_as_they_are_unless_they_were_only_given_up() -> None:
    back = [pair for pair in PILOT_TRANSITIONS if pair[0] in PILOT_FINAL]
    assert back == [(PilotState.FAILED, PilotState.ACTIVE)]


def test_a_missing_pair_is_refused_by_name() -> None:
    check_task(S.READY, S.CLAIMED)
    check_pilot(PilotState.NEW, PilotState.ACTIVE)
    with pytest.raises(InvalidTransition, match="FAILED to DONE"):
        check_task(S.FAILED, S.DONE)
    with pytest.raises(InvalidTransition, match="DONE to ACTIVE"):
        check_pilot(PilotState.DONE, PilotState.ACTIVE)


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("state", sorted(TASK_HELD))
@pytest.mark.parametrize("cancel", [False, True])
def test_every_end_of_an_attempt_is_a_legal_transition(cause: Cause, state: TaskState, cancel: bool) -> None:
    for failures in (0, 1):
        for crashes in (0, CRASH_LIMIT):
            for code in (0, 1):
                new = after_attempt(cause, code, cancel=cancel, failures=failures, max_retries=0, crashes=crashes)
                assert (state, new) in TASK_TRANSITIONS
