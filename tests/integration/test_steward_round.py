"""A round of questions to a scheduler, which is a made-up one here."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from pilotmtc.model import BatchId, PilotDescription, Resources, Result
from pilotmtc.pilots.scheduler import JobStatus, Scheduler
from pilotmtc.pilots.steward import Round
from pilotmtc.protocol.agent import AttachPilot
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.client.tasks import GetOutput, GetTask
from pilotmtc.protocol.records import JobReport
from pilotmtc.protocol.spool import pack
from pilotmtc.protocol.steward import BeginSubmit, ReportJobs
from pilotmtc.states import Cause, JobState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row

URL = "slurm://localhost/"
BATCH = BatchId("17")


class Gone:
    """A scheduler that says of every job that it has failed."""

    def status(self, batches: Sequence[BatchId]) -> dict[BatchId, JobStatus]:
        return dict.fromkeys(batches, JobStatus(JobState.FAILED, "NODE_FAIL"))


def test_results_that_a_dead_agent_has_left_are_sent_by_the_steward(tmp_path: Path, surroundings: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    kit = Kit(store)
    kit.submit(row(1))
    pilot = store.call(CreatePilot("p", PilotDescription(cores=1, scheduler=URL))).pilots[0]
    store.call(BeginSubmit(pilot.id, 0))
    store.call(ReportJobs(URL, (JobReport(pilot.id, JobState.PENDING, BATCH),)))
    store.call(AttachPilot(pilot.id, "host", 1, 1, 1, largest=Resources(cores=1)))
    (task,) = kit.claim(pilot.id)
    directory = Path(pilot.directory)
    directory.mkdir(parents=True)
    left = Result(task.task, task.attempt, Cause.EXIT, 0, stdout=b"done\n", stdout_bytes=5)
    (directory / "spool.1").write_bytes(pack(msgspec.msgpack.Encoder().encode([left])))

    Round(store, URL, cast("Scheduler", Gone())).run()

    detail = store.call(GetTask(task.task)).task
    assert detail is not None
    assert detail.state is TaskState.DONE
    assert store.call(GetOutput(task.task)).stdout == b"done\n"
    assert not (directory / "spool.1").exists()
    store.close()
