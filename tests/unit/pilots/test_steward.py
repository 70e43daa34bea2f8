"""A steward's round: what befalls one pilot is that pilot's trouble alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import AdaptorError, AnswerLost, ConfigError, StatusUnavailable
from pilotmtc.model import BatchId, Pilot, PilotDescription, PilotId
from pilotmtc.pilots.scheduler import JobStatus
from pilotmtc.pilots.steward import Round
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, GetPilots
from pilotmtc.protocol.records import JobReport
from pilotmtc.protocol.steward import BeginSubmit, ReportJobs
from pilotmtc.states import JobState, PilotState
from pilotmtc.store.sqlite import SqliteStore

URL = "none://localhost/"
RUNNING = JobStatus(JobState.RUNNING, "R")


class FakeScheduler:
    """Says what the test has put there."""

    def __init__(self) -> None:
        self.seen: dict[str, JobStatus | AdaptorError] = {}
        self.refused: dict[str, AdaptorError] = {}
        self.canceled: list[str] = []
        self.on_submit: Callable[[int], str] = lambda count: f"new-{count}"
        self.on_find: Callable[[str], list[BatchId]] = lambda name: []
        self.on_status: Callable[[], None] = lambda: None
        self.submitted = 0

    def status(self, batches: Sequence[BatchId]) -> dict[BatchId, JobStatus | AdaptorError]:
        self.on_status()
        return {batch: self.seen[batch] for batch in batches}

    def cancel(self, batches: Sequence[BatchId]) -> dict[BatchId, AdaptorError]:
        self.canceled += batches
        done = [batch for batch in batches if batch not in self.refused]
        self.seen |= dict.fromkeys(done, JobStatus(JobState.CANCELED, "F"))
        return {batch: self.refused[batch] for batch in batches if batch in self.refused}

    def find(self, name: str) -> list[BatchId]:
        return self.on_find(name)

    def submit(self, name: str, script: Path, directory: Path, pilot: PilotDescription) -> BatchId:
        self.submitted += 1
        return BatchId(self.on_submit(self.submitted))


class Lab:
    """A store, a scheduler, and rounds."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.scheduler = FakeScheduler()

    def enter(self) -> PilotId:
        description = PilotDescription(scheduler=URL, login="-")
        return self.store.call(CreatePilot(uuid4().hex, description)).pilots[0].id

    def running(self, batch: str) -> PilotId:
        pilot = self.enter()
        self.store.call(BeginSubmit(pilot, 0))
        self.store.call(ReportJobs(URL, (JobReport(pilot, JobState.RUNNING, BatchId(batch), "R"),)))
        self.scheduler.seen[batch] = RUNNING
        return pilot

    def round(self) -> None:
        Round(self.store, URL, self.scheduler).run()  # type: ignore[arg-type]

    def pilot(self, pilot: PilotId) -> Pilot:
        return self.store.call(GetPilots(id=pilot)).pilots[0]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock) -> Iterator[Lab]:
    store = SqliteStore(tmp_path / "store.db", clock)
    yield Lab(store)
    store.close()


def test_refusal_to_end_one_job_is_its_own_and_the_round_goes_on(lab: Lab) -> None:
    stuck, canceled, other = lab.running("1"), lab.running("2"), lab.running("3")
    new = lab.enter()
    for pilot in (stuck, canceled):
        lab.store.call(CancelPilot(pilot))
    lab.scheduler.refused["1"] = AdaptorError("PBS did not delete job 1: not now")
    lab.round()
    assert lab.pilot(stuck).trouble == "PBS did not delete job 1: not now"
    assert lab.pilot(canceled).state is PilotState.CANCELED
    assert (lab.pilot(other).trouble, lab.pilot(other).native_state) == ("", "R")
    assert lab.pilot(new).batch == "new-1"
    lab.scheduler.refused.clear()
    lab.scheduler.seen["new-1"] = RUNNING
    lab.round()
    assert lab.pilot(stuck).state is PilotState.CANCELED


def test_pilot_that_waits_for_its_agent_says_what_that_wrote_last(lab: Lab) -> None:
    pilot = lab.running("1")
    lab.round()
    assert lab.pilot(pilot).reason == "its job runs, its agent is on its way"
    directory = Path(lab.pilot(pilot).directory)
    directory.mkdir(parents=True)
    (directory / "agent.log").write_text("hello\ncannot connect to login, port 22\n")
    lab.round()
    assert lab.pilot(pilot).reason.endswith("its output ends with: cannot connect to login, port 22")


def test_job_of_which_nothing_is_known_is_the_trouble_of_its_pilot_alone(lab: Lab) -> None:
    dark, other = lab.running("1"), lab.running("2")
    lab.scheduler.seen["1"] = StatusUnavailable("PBS said nothing of job 1")
    lab.round()
    assert lab.pilot(dark).trouble == "PBS said nothing of job 1"
    assert lab.pilot(other).trouble == ""


def test_submission_without_an_answer_is_the_trouble_of_its_pilot_alone(lab: Lab) -> None:
    first, second = lab.enter(), lab.enter()

    def submit(count: int) -> str:
        if count == 1:
            raise AnswerLost("qsub did not say which job it made")
        return "8"

    lab.scheduler.on_submit = submit
    lab.round()
    assert "did not say" in lab.pilot(first).trouble
    assert lab.pilot(second).batch == "8"


def test_job_that_cannot_be_looked_for_leaves_the_others_alone(lab: Lab, clock: FakeClock) -> None:
    lost, other = lab.enter(), lab.running("2")
    lab.store.call(BeginSubmit(lost, 0))
    clock.advance(60)

    def find(name: str) -> list[BatchId]:
        raise StatusUnavailable("qselect's answer cannot be understood")

    lab.scheduler.on_find = find
    lab.store.call(CancelPilot(other))
    lab.round()
    assert "qselect" in lab.pilot(lost).trouble
    assert lab.pilot(other).state is PilotState.CANCELED


@pytest.mark.parametrize("error", [StatusUnavailable("the server is down"), ConfigError("cannot run qstat")])
def test_scheduler_that_cannot_be_asked_is_the_trouble_of_all(lab: Lab, error: Exception) -> None:
    first, second = lab.running("1"), lab.running("2")

    def refuse() -> None:
        raise error

    lab.scheduler.on_status = refuse
    lab.round()
    assert lab.pilot(first).trouble == lab.pilot(second).trouble == str(error)
