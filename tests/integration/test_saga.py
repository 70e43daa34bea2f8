"""The adaptors in radical.saga's engine, as ordinary SAGA programs use them, on jobs of this host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.saga import run_saga


@pytest.fixture(autouse=True)
def jobs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_stewards_load_it_in_silence(tmp_path: Path) -> None:
    program = """if True:
        import logging
        logging.basicConfig()
        from pilotmtc.pilots.scheduler import Scheduler
        Scheduler("local://localhost/")
    """
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_ours_are_in_the_place_of_its_own_and_the_others_stay(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        from radical.saga.engine.engine import Engine
        first = {scheme: len(found) for scheme, found in Engine().loaded_adaptors()["radical.saga.job.Job"].items()}
        pilotmtc_adaptors.register()
        def who(kind):
            registry = Engine().loaded_adaptors()[kind]
            return {scheme: [each["adaptor_name"] for each in found] for scheme, found in registry.items()}
        answer = {"first": first, "jobs": who("radical.saga.job.Job"), "services": who("radical.saga.job.Service"),
                  "files": sorted(who("radical.saga.filesystem.File"))}
        """,
    )
    assert answer["jobs"] == answer["services"]
    assert {scheme: len(found) for scheme, found in answer["jobs"].items()} == answer["first"]
    for scheme in ("slurm", "pbs", "pbspro", "torque", "condor", "local", "fork"):
        assert answer["jobs"][scheme] == ["pilotmtc.adaptors.job"]
    assert not [scheme for scheme in answer["jobs"] if scheme.startswith(("slurm+", "condor+", "torque+"))]
    assert answer["jobs"]["sge"] == ["radical.saga.adaptors.sgejob"]
    assert "file" in answer["files"]


def test_job_is_submitted_waited_for_and_known_afterwards(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("local://localhost/")
        job = service.create_job(describe("/bin/sh", "-c", "read x; exit 3", name="three", input=fifo))
        new = [job.state, job.id, job.exit_code]
        job.run()
        twice = refusal(job.run)
        running = [job.state, job.wait(0), service.list() == [job.id]]
        open(fifo, "w").write("go\\n")
        over = [job.wait(60), job.state, job.exit_code, job.name, job.execution_hosts, job.service_url == service.url]
        times = [job.created, job.started, job.finished]
        again = saga.job.Service("local://localhost/").get_job(job.id)
        answer = {
            "new": new, "twice": twice, "running": running, "over": over, "times": times, "list": service.list(),
            "again": [again.state, again.exit_code, again.name], "description": job.description.executable,
            "unknown": refusal(lambda: again.description),
        }
        service.close()
        """,
        fifo=_fifo(tmp_path),
    )
    assert answer["new"] == ["New", None, None]
    assert answer["twice"][0] == "IncorrectState"
    assert answer["running"] == ["Running", False, True]
    assert answer["over"] == [True, "Failed", 3, "three", [os.uname().nodename], True]
    assert answer["times"] == sorted(answer["times"])
    assert answer["list"] == []
    assert answer["again"] == ["Failed", 3, "three"]
    assert answer["description"] == "/bin/sh"
    assert answer["unknown"][0] == "IncorrectState"


def test_final_state_stays_when_the_scheduler_has_forgotten_the_job(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        import shutil
        service = saga.job.Service("local://localhost/")
        job, other = (service.create_job(describe("/bin/sh", "-c", "kill -9 $$")) for _ in range(2))
        for each in (job, other):
            each.run()
        job.wait(60)
        until(service.get_job(other.id), "Failed")
        shutil.rmtree(jobs)
        answer = {"seen": [job.state, job.exit_code], "unseen": refusal(lambda: other.state),
                  "new": refusal(lambda: service.get_job(job.id))}
        """,
        jobs=str(tmp_path / f"pilotmtc-jobs-{os.getuid()}"),
    )
    assert answer["seen"] == ["Failed", 128 + 9]
    assert answer["unseen"][0] == "DoesNotExist"
    assert answer["new"][0] == "DoesNotExist"


def test_cancel_ends_a_job_and_says_so(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("fork://localhost/")
        job = service.create_job(describe("/bin/sleep", "600"))
        early = refusal(job.cancel)
        job.run()
        job.cancel()
        job.wait(60)
        job.cancel()
        answer = [job.state, early[0], refusal(lambda: service.get_job("[fork://localhost/]-[1-1]"))]
        """,
    )
    assert answer[:2] == ["Canceled", "IncorrectState"]
    assert answer[2][0] == "DoesNotExist"


def test_many_jobs_are_asked_for_at_once(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("local://localhost/")
        jobs = [service.create_job(describe("/bin/sh", "-c", f"exit {n}", name="many")) for n in range(3)]
        for job in jobs:
            job.run()
            job.wait(60)
        direct = service.bulk
        batches = direct.find("many")
        records = direct.records(batches)
        answer = [[records[each].exit_code for each in batches], [direct.full_id(each) for each in batches],
                  [job.id for job in jobs]]
        """,
    )
    assert answer[0] == [0, 1, 2]
    assert answer[1] == answer[2]


def test_every_attribute_of_a_description_is_mapped_or_refused_by_name(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        from pilotmtc_adaptors._request import as_request
        service = saga.job.Service("local://localhost/")
        plain = as_request({"Executable": "/bin/true"})
        special = {"environment": {"A": "7"}, "system_architecture": {"qos": "7"}, "spmd_variation": "MPI"}
        lists = ("pre_exec", "post_exec", "arguments", "file_transfer", "candidate_hosts", "job_contact")
        answer = {}
        for name in saga.job.Description()._attributes_t_init()["attributes"]:
            if not name.startswith("_"):
                description = describe("/bin/true")
                setattr(description, name, special.get(name) or (["7"] if name in lists else "7"))
                said = refusal(lambda: service.create_job(description))
                dropped = said[0] == "no exception" and as_request(description.as_dict()) == plain
                answer[name] = [*said, dropped]
        """,
    )
    assert len(answer) >= 28
    refused = {name for name, (kind, _, _) in answer.items() if kind != "no exception"}
    assert refused == {
        "post_exec", "number_of_processes", "processes_per_host", "threads_per_process", "interactive", "cleanup",
        "job_start_time", "operating_system_type", "job_contact", "spmd_variation",
    }  # fmt: skip
    for name, (kind, text, dropped) in answer.items():
        assert not dropped, name
        if name in refused:
            assert (kind, text.partition(" ")[0]) == ("BadParameter", name)


def test_refusals_name_what_is_refused(tmp_path: Path) -> None:
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("local://localhost/")
        run = lambda **attributes: refusal(lambda: service.create_job(describe("/bin/true", **attributes)).run())
        answer = {
            "queue": run(queue="normal"),
            "nodes": run(extras={"nodes": 2}),
            "walltime": run(wall_time_limit=-1),
            "odd": run(extras={"nods": 2}),
            "host": refusal(lambda: saga.job.Service("slurm://elsewhere/")),
            "path": refusal(lambda: saga.job.Service("slurm://localhost/debug")),
            "user": refusal(lambda: saga.job.Service("slurm://me@localhost/")),
            "ssh": refusal(lambda: saga.job.Service("slurm+ssh://elsewhere/")),
            "scheme": refusal(lambda: service.get_job("[slurm://localhost/]-[1]")),
            "tools": refusal(lambda: saga.job.Service("slurm://localhost/").list()),
            "suspend": refusal(lambda: service.create_job(describe("/bin/true")).suspend()),
        }
        """,
        environment={"PATH": "/nowhere"},
    )
    for case, kind, text in (
        ("queue", "BadParameter", "local jobs cannot have queue ('normal')"),
        ("nodes", "BadParameter", "local jobs cannot have nodes (2)"),
        ("walltime", "BadParameter", "walltime_s -60"),
        ("odd", "BadParameter", "system_architecture has no nods"),
        ("host", "BadParameter", "slurm://localhost/"),
        ("path", "BadParameter", "slurm://localhost/"),
        ("user", "BadParameter", "slurm://localhost/"),
        ("ssh", "NotImplemented", "slurm+ssh"),
        ("scheme", "BadParameter", "is not a job of local://localhost/"),
        ("tools", "NotImplemented", "cannot run squeue"),
        ("suspend", "NotImplemented", "suspend"),
    ):
        assert answer[case][0] == kind, answer[case]
        assert text in answer[case][1], answer[case]


def _fifo(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path / "fifo")
