"""The Moab dialect through radical.saga, with fakes of its commands: no real one is to be had."""

from pathlib import Path

import pytest

from tests.lab.moab import CANCELED, CHECKJOB, NOTHING, REFUSED, SHOWQ, TAKEN, UNKNOWN, completed, over
from tests.lab.replay import make_fakes
from tests.lab.saga import run_saga


def test_job_is_submitted_looked_at_and_canceled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(tmp_path, monkeypatch, "msub", "showq", "checkjob", "canceljob")
    fakes.says("msub", TAKEN)
    fakes.says("showq", SHOWQ)
    fakes.says("showq", completed(over(4761849, "3")), when="-c")
    fakes.says("checkjob", CHECKJOB, UNKNOWN)
    fakes.says("canceljob", CANCELED)
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("moab://localhost/")
        job = service.create_job(describe("/bin/agent", "it's", name="pilotmtc-x", wall_time_limit=2,
                                          extras={"nodes": 2}))
        job.run()
        answer = [job.id, job.state, job.exit_code, service.list()[0]]
        old = service.get_job("90")
        answer += [old.state, old.execution_hosts, refusal(lambda: service.get_job("91"))[0]]
        running = service.get_job("101")
        running.cancel()
        answer += [running.state, service.bulk.find("agent")]
        """,
    )
    listed = "[moab://localhost/]-[101]"
    assert answer == [
        "[moab://localhost/]-[4761849]", "Failed", 3, listed, "Failed", ["n1", "n2"], "DoesNotExist", "Running",
        ["4761849", "101", "102"],
    ]  # fmt: skip
    (asked,) = fakes.asked("msub")
    assert asked.argv[-4:] == ("-l", "nodes=2", "-l", "walltime=00:02:00")
    assert asked.stdin.endswith("exec /bin/agent 'it'\"'\"'s'\n")
    assert [each.argv for each in fakes.asked("canceljob")] == [("canceljob", "101")]


def test_moab_that_is_down_for_a_moment_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(tmp_path, monkeypatch, "msub", "showq", "checkjob", "canceljob")
    fakes.says("showq", REFUSED, SHOWQ)
    fakes.says("showq", NOTHING, when="-c")
    program = "answer = saga.job.Service('moab://localhost/').get_job('101').state"
    assert run_saga(tmp_path, program) == "Running"
