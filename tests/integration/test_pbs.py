"""The PBS dialect through radical.saga, with fakes of its commands that say what real servers did."""

from pathlib import Path

import pytest

from tests.lab.replay import Answer, make_fakes, recorded
from tests.lab.saga import run_saga

REAL = recorded("pbs-pilots")


def test_job_that_a_server_without_history_forgets_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(tmp_path, monkeypatch, "qsub", "qstat", "qdel")
    fakes.says("qsub", Answer("4.head\n"))
    fakes.says("qsub", recorded("pbs")["version"], when="--version")
    exiting = Answer(REAL["qstat_exiting_json"].stdout)
    fakes.says(
        "qstat", exiting, Answer(exiting.stdout.replace('"4.head"', '"5.head"'), "qstat: Unknown Job Id 4.head", 153)
    )
    fakes.says("qstat", REAL["qstat_without_history"], when="-x")
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("pbs://localhost/")
        job = service.create_job(describe("/bin/true", output="/tmp/out"))
        job.run()
        answer = [job.state]
        job.wait()
        answer += [job.state, job.exit_code, refusal(lambda: service.get_job("4.head"))[0]]
        """,
    )
    assert answer == ["Running", "Unknown", None, "DoesNotExist"]
    assert all(each.argv[-2:] == ("json", "4.head") for each in fakes.asked("qstat"))
    (submitted,) = [each for each in fakes.asked("qsub") if "--version" not in each.argv]
    assert submitted.argv[submitted.argv.index("-j") :][:2] == ("-j", "oe")


def test_job_that_is_exiting_needs_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(tmp_path, monkeypatch, "qsub", "qstat", "qdel")
    fakes.says("qsub", recorded("pbs")["version"], when="--version")
    fakes.says("qstat", REAL["qstat_exiting_json"])
    fakes.says("qdel", REAL["qdel_exiting"])
    fakes.says("qdel", REAL["qdel_unknown"], when="77777")
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("pbs://localhost/")
        service.get_job("4.head").cancel()
        answer = {batch: type(error).__name__ for batch, error in
                  service.bulk.cancel(["4.head", "77777.head", "5.head"]).items()}
        """,
    )
    assert answer == {"77777.head": "JobUnknown"}
    assert [each.argv[1:] for each in fakes.asked("qdel")] == [("4.head",), ("4.head",), ("77777.head",), ("5.head",)]
