"""What follows from the words of a scheduler."""

import pytest

from pilotmtc.model import BatchId, PilotId
from pilotmtc.protocol.records import JobReport
from pilotmtc.states import Cause, JobState, PilotState
from pilotmtc.store.requests.pilots.reconcile import NOT_HEARD, SETTLED_S, cause_of, end_of_silent, judge, why_waiting

PILOT = PilotId(1)
OLD = SETTLED_S + 1


def report(state: JobState, native: str = "", reason: str = "", log: str = "") -> JobReport:
    return JobReport(PILOT, state, BatchId("17"), native, reason, None, log)


@pytest.mark.parametrize("state", [PilotState.NEW, PilotState.PENDING])
def test_job_that_ended_before_its_agent_came_is_a_failure_with_its_output(state: PilotState) -> None:
    verdict = judge(state, report(JobState.FAILED, "FAILED", "NonZeroExitCode", "no python3"), kill=False, waited_s=OLD)
    assert verdict.end is not None
    assert verdict.end.state is PilotState.FAILED
    for word in ("FAILED", "NonZeroExitCode", "never reached the store", "no python3"):
        assert word in verdict.end.reason
    assert not verdict.watch


def test_pilot_whose_agent_does_not_come_says_what_keeps_it() -> None:
    assert why_waiting(report(JobState.RUNNING)).endswith("on its way")
    said = why_waiting(report(JobState.RUNNING, log="loaded\ncannot connect to login, port 22"))
    assert said.endswith("its output ends with: cannot connect to login, port 22")


def test_job_canceled_outside_is_no_failure() -> None:
    verdict = judge(PilotState.PENDING, report(JobState.CANCELED, "CANCELLED", "by 0"), kill=False, waited_s=OLD)
    assert verdict.end is not None
    assert (verdict.end.state, "CANCELLED: by 0" in verdict.end.reason) == (PilotState.CANCELED, True)


def test_refused_job_says_why() -> None:
    verdict = judge(PilotState.NEW, report(JobState.REJECTED, "REJECTED", "bad queue"), kill=False, waited_s=0)
    assert verdict.end == (PilotState.FAILED, "the scheduler refused it: bad queue", None)
    verdict = judge(PilotState.NEW, report(JobState.REJECTED, reason="there is none"), kill=False, waited_s=0)
    assert verdict.end == (PilotState.FAILED, "there is none", None)


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED, JobState.CANCELED, JobState.GONE])
def test_agent_that_lives_counts_more_than_a_scheduler_that_says_its_job_is_over(state: JobState) -> None:
    assert judge(PilotState.ACTIVE, report(state), kill=False, waited_s=OLD) == (None, True)


def test_job_that_a_scheduler_does_not_find_at_once_may_still_come() -> None:
    assert judge(PilotState.PENDING, report(JobState.GONE), kill=False, waited_s=1.0) == (None, True)
    late = judge(PilotState.PENDING, report(JobState.GONE), kill=False, waited_s=OLD)
    assert late.end is not None
    assert late.end.state is PilotState.FAILED


def test_canceled_pilot_whose_job_is_not_there_is_over_at_once() -> None:
    verdict = judge(PilotState.NEW, report(JobState.GONE), kill=True, waited_s=1.0)
    assert verdict.end is not None
    assert verdict.end.state is PilotState.CANCELED


@pytest.mark.parametrize("state", [PilotState.DONE, PilotState.FAILED, PilotState.CANCELED])
def test_pilot_that_is_over_is_watched_until_its_job_is(state: PilotState) -> None:
    assert judge(state, report(JobState.RUNNING), kill=False, waited_s=OLD) == (None, True)
    assert judge(state, report(JobState.DONE), kill=False, waited_s=OLD) == (None, False)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("TIMEOUT", Cause.WALLTIME),
        ("DEADLINE", Cause.WALLTIME),
        ("job killed: walltime 61 exceeded limit 60", Cause.WALLTIME),
        ("PREEMPTED", Cause.PREEMPTED),
        ("NODE_FAIL", Cause.PILOT_LOST),
        ("COMPLETED", Cause.PILOT_LOST),
        ("", Cause.PILOT_LOST),
    ],
)
def test_native_words_have_causes(words: str, cause: Cause) -> None:
    assert cause_of(words) is cause


def test_silent_agent_of_a_job_over_its_walltime_is_done_and_any_other_has_failed() -> None:
    assert end_of_silent(JobState.FAILED, "TIMEOUT", "", kill=False).state is PilotState.DONE
    over = end_of_silent(JobState.FAILED, "C", "killed: it reached its walltime (-11)", kill=False)
    assert (over.state, over.cause) == (PilotState.DONE, Cause.WALLTIME)
    assert "(-11)" in over.reason
    lost = end_of_silent(JobState.FAILED, "NODE_FAIL", "", kill=False)
    assert (lost.state, lost.cause) == (PilotState.FAILED, Cause.PILOT_LOST)
    assert "NODE_FAIL" in lost.reason
    assert end_of_silent(JobState.RUNNING, "RUNNING", "", kill=True).state is PilotState.CANCELED


def test_silent_agent_whose_job_somebody_deleted_is_canceled_and_its_tasks_are_not() -> None:
    gone = end_of_silent(JobState.CANCELED, "C", "deleted", kill=False)
    assert (gone.state, gone.cause) == (PilotState.CANCELED, Cause.PILOT_LOST)
    assert gone.reason == "its job was canceled by somebody else (C: deleted)"


@pytest.mark.parametrize("job", [None, JobState.RUNNING, JobState.PENDING])
def test_silent_agent_whose_job_may_still_run_may_come_back(job: JobState | None) -> None:
    assert end_of_silent(job, "", "", kill=False) == (PilotState.FAILED, NOT_HEARD, None)
