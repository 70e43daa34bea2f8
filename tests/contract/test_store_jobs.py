"""Pilots of schedulers, in the store."""

from uuid import uuid4

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import StateError, UsageError
from pilotmtc.model import BatchId, Pilot, PilotDescription, PilotId
from pilotmtc.protocol.agent import AttachPilot, EndPilot, Heartbeat
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, GetPilots
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.protocol.records import Job, JobReport
from pilotmtc.protocol.steward import BeginSubmit, GetJobs, ReportJobs
from pilotmtc.states import Cause, JobState, PilotState, TaskState
from pilotmtc.store.interface import Store
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row

URL = "none://localhost/"  # nobody asks it: what is said here is all that it says


def enter(store: Store, key: str = "") -> PilotId:
    return store.call(CreatePilot(key or uuid4().hex, PilotDescription(scheduler=URL, nodes=2))).pilots[0].id


def pilot(store: Store, id_: PilotId) -> Pilot:
    return store.call(GetPilots(id=id_)).pilots[0]


def jobs(store: Store) -> tuple[Job, ...]:
    return store.call(GetJobs(URL)).jobs


def say(store: Store, id_: PilotId, state: JobState, native: str = "", reason: str = "", **more: str) -> None:
    batch = BatchId(more.get("batch", "7"))
    store.call(ReportJobs(URL, (JobReport(id_, state, batch, native, reason, log=more.get("log", "")),)))


def submitted(store: Store) -> PilotId:
    id_ = enter(store)
    assert store.call(BeginSubmit(id_, 0)).changed == 1
    say(store, id_, JobState.PENDING, "PENDING", "Resources")
    return id_


def test_same_key_is_the_same_pilot_and_its_directory_lies_beside_the_store(local: SqliteStore) -> None:
    first = enter(local, "k-1")
    assert enter(local, "k-1") == first
    assert pilot(local, first).directory == f"{local.path}.d/pilots/k-1"
    assert [job.key for job in jobs(local)] == ["k-1"]


@pytest.mark.parametrize("key", ["../up", "a/b", "-x", "a b", "a\nb", ""])
def test_key_that_could_be_no_directory_is_refused(local: SqliteStore, key: str) -> None:
    with pytest.raises(UsageError):
        enter(local, key) if key else local.call(CreatePilot(key, PilotDescription(scheduler=URL)))


def test_submission_is_noted_before_it_is_made_and_once_only(local: SqliteStore) -> None:
    id_ = enter(local)
    assert local.call(BeginSubmit(id_, 0)).changed == 1
    assert local.call(BeginSubmit(id_, 0)).changed == 0
    assert jobs(local)[0].submits == 1


def test_pending_pilot_shows_why_it_waits(local: SqliteStore, clock: FakeClock) -> None:
    id_ = submitted(local)
    found = pilot(local, id_)
    assert (found.state, found.batch, found.native_state, found.reason) == (
        PilotState.PENDING, "7", "PENDING", "Resources",
    )  # fmt: skip
    assert found.asked_at == clock.now()


def test_what_could_not_be_asked_changes_nothing_but_is_shown(local: SqliteStore, clock: FakeClock) -> None:
    id_ = submitted(local)
    before = pilot(local, id_)
    clock.advance(40)
    local.call(ReportJobs(URL, trouble="slurmctld does not answer"))
    after = pilot(local, id_)
    assert after.trouble == "slurmctld does not answer"
    assert (after.state, after.asked_at, after.native_state) == (before.state, before.asked_at, before.native_state)
    say(local, id_, JobState.PENDING, "PENDING", "Resources")
    assert pilot(local, id_).trouble == ""


def test_canceled_before_the_scheduler_knew_it_is_over_at_once(local: SqliteStore) -> None:
    id_ = enter(local)
    local.call(CancelPilot(id_))
    assert pilot(local, id_).state is PilotState.CANCELED
    assert jobs(local) == ()
    assert local.call(BeginSubmit(id_, 0)).changed == 0


def test_canceled_in_the_queue_is_over_when_the_scheduler_says_so(local: SqliteStore) -> None:
    id_ = submitted(local)
    assert local.call(CancelPilot(id_)).changed == 1
    assert pilot(local, id_).state is PilotState.PENDING
    assert jobs(local)[0].cancel
    say(local, id_, JobState.CANCELED, "CANCELLED")
    assert pilot(local, id_).state is PilotState.CANCELED
    assert jobs(local) == ()


def test_agent_of_a_canceled_pilot_is_told_to_end(local: SqliteStore) -> None:
    id_ = submitted(local)
    local.call(CancelPilot(id_))
    assert local.call(AttachPilot(id_, "n1", 1, 2, 8)).kill


def test_agent_may_come_before_the_scheduler_has_said_anything(local: SqliteStore) -> None:
    id_ = enter(local)
    local.call(BeginSubmit(id_, 0))
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    say(local, id_, JobState.RUNNING, "RUNNING")
    found = pilot(local, id_)
    assert (found.state, found.batch) == (PilotState.ACTIVE, "7")


def test_living_agent_is_trusted_and_a_silent_one_ends_with_the_schedulers_word(
    local: SqliteStore, clock: FakeClock
) -> None:
    kit = Kit(local)
    kit.submit(row())
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    (task,) = kit.claim(id_)
    kit.start(id_, task)
    say(local, id_, JobState.FAILED, "TIMEOUT")
    clock.advance(50)
    local.call(Heartbeat(id_))
    local.due()
    assert pilot(local, id_).state is PilotState.ACTIVE
    clock.advance(61)
    local.due()
    found = pilot(local, id_)
    assert found.state is PilotState.DONE
    assert "TIMEOUT" in found.reason
    detail = local.call(GetTask(task.task))
    assert detail.task is not None
    assert (detail.task.state, detail.attempts[0].cause) == (TaskState.READY, Cause.WALLTIME)


@pytest.mark.parametrize(
    ("job", "reason", "state", "cause"),
    [
        (JobState.FAILED, "killed: it reached its walltime (-11)", PilotState.DONE, Cause.WALLTIME),
        (JobState.CANCELED, "deleted", PilotState.CANCELED, Cause.PILOT_LOST),
        (JobState.FAILED, "aborted as its execution host was restarted (-4)", PilotState.FAILED, Cause.PILOT_LOST),
    ],
)
def test_silent_agent_ends_for_the_reason_that_the_scheduler_gives(
    local: SqliteStore, clock: FakeClock, job: JobState, reason: str, state: PilotState, cause: Cause
) -> None:
    kit = Kit(local)
    kit.submit(row())
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    (task,) = kit.claim(id_)
    kit.start(id_, task)
    say(local, id_, job, "C", reason)
    assert pilot(local, id_).state is PilotState.ACTIVE
    clock.advance(61)
    local.due()
    found = pilot(local, id_)
    assert found.state is state
    assert reason in found.reason
    detail = local.call(GetTask(task.task))
    assert detail.task is not None
    assert (detail.task.state, detail.attempts[0].cause) == (TaskState.READY, cause)


def test_trouble_of_one_pilot_is_its_own(local: SqliteStore) -> None:
    first, second = submitted(local), submitted(local)
    local.call(ReportJobs(URL, (JobReport(first, JobState.RUNNING, BatchId("7")),), troubles={first: "not now"}))
    assert (pilot(local, first).trouble, pilot(local, second).trouble) == ("not now", "")
    say(local, first, JobState.RUNNING)
    assert pilot(local, first).trouble == ""


def test_job_that_outlives_its_agent_is_ended(local: SqliteStore, clock: FakeClock) -> None:
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    local.call(EndPilot(id_, PilotState.DONE, "drained"))
    say(local, id_, JobState.RUNNING, "RUNNING")
    assert [job.cancel for job in jobs(local)] == [False]
    clock.advance(21)
    assert [job.cancel for job in jobs(local)] == [True]
    say(local, id_, JobState.DONE, "COMPLETED")
    assert jobs(local) == ()
    assert pilot(local, id_).native_state == "COMPLETED"


def untold(store: SqliteStore) -> bool:
    return any(each.untold for each in store.open_jobs().values())


def test_pilot_that_is_over_has_lost_its_key_before_nobody_is_there_to_take_it(
    local: SqliteStore, clock: FakeClock
) -> None:
    """Its job takes longer to go: SLURM says COMPLETING, which is not over."""
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    clock.advance(1)
    assert [job.over for job in jobs(local)] == [False]
    assert not untold(local)
    local.call(EndPilot(id_, PilotState.CANCELED, "canceled"))
    assert [job.over for job in jobs(local)] == [True]
    assert untold(local)
    clock.advance(1)
    say(local, id_, JobState.RUNNING, "COMPLETING")
    assert [job.over for job in jobs(local)] == [True]
    assert not untold(local)


def test_pilot_that_may_come_back_keeps_its_key(local: SqliteStore, clock: FakeClock) -> None:
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    clock.advance(100)
    local.due()
    assert [job.over for job in jobs(local)] == [False]
    assert not untold(local)


def test_pilots_that_are_over_and_have_a_key_are_asked_about_again(local: SqliteStore) -> None:
    first, second = enter(local, "k-1"), enter(local, "k-2")
    local.call(BeginSubmit(first, 0))
    say(local, first, JobState.FAILED, "FAILED")
    local.watch_keys(["k-1", "k-2", "k-3"])
    assert [(job.pilot, job.over) for job in jobs(local)] == [(first, True), (second, False)]


def test_pilot_that_was_not_heard_of_keeps_its_job_until_somebody_cancels_it(
    local: SqliteStore, clock: FakeClock
) -> None:
    id_ = submitted(local)
    local.call(AttachPilot(id_, "n1", 1, 2, 8))
    say(local, id_, JobState.RUNNING, "RUNNING")
    clock.advance(100)
    local.due()
    assert pilot(local, id_).state is PilotState.FAILED
    clock.advance(100)
    assert [job.cancel for job in jobs(local)] == [False]
    assert local.call(CancelPilot(id_)).changed == 1
    assert [job.cancel for job in jobs(local)] == [True]


def test_end_of_a_job_without_an_agent_quotes_its_output(local: SqliteStore) -> None:
    id_ = submitted(local)
    say(local, id_, JobState.FAILED, "FAILED", log="python3: not found")
    found = pilot(local, id_)
    assert found.state is PilotState.FAILED
    assert "python3: not found" in found.reason
    with pytest.raises(StateError):
        local.call(AttachPilot(id_, "n1", 1, 2, 8))


def test_reports_may_come_twice_and_late(local: SqliteStore) -> None:
    id_ = submitted(local)
    for _ in range(2):
        say(local, id_, JobState.FAILED, "FAILED")
    say(local, id_, JobState.RUNNING, "RUNNING")
    assert pilot(local, id_).state is PilotState.FAILED


def test_pilots_of_other_schedulers_are_not_spoken_of(local: SqliteStore) -> None:
    enter(local)
    other = PilotDescription(scheduler="other://localhost/")
    id_ = local.call(CreatePilot(uuid4().hex, other)).pilots[0].id
    local.call(ReportJobs(URL, trouble="does not answer"))
    assert pilot(local, id_).trouble == ""
    assert set(local.open_jobs()) == {URL, "other://localhost/"}
