"""A real SLURM, through radical.saga, as ordinary SAGA programs use it."""

import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.saga import run_saga
from tests.lab.slurm import Slurm, needs_slurm, slurm, slurm_commands
from tests.support import wait_until

__all__ = ["slurm", "slurm_commands"]

# The unusual names that everything has to survive.
VALUES = ['it\'s "quoted"', "$HOME $(id) `id`", "two\nlines\r\n", "back\\slash \\n %s %j", "ü ñ €", "", "-x"]


@pytest.fixture
def directory(slurm: Slurm, slurm_commands: Mapping[str, str]) -> Iterator[Path]:
    """Return a directory of the account that submits."""
    yield from make_directory(slurm)


def make_directory(cluster: Slurm) -> Iterator[Path]:
    directory = cluster.account.home / f"a 'b' \"c\" %d $e {secrets.token_hex(4)}"
    directory.mkdir()
    shutil.chown(directory, cluster.account.name)
    yield directory
    cluster.cancel_all()
    shutil.rmtree(directory)


def ask(tmp_path: Path, program: str, **known: object) -> Any:
    return run_saga(tmp_path, "service = saga.job.Service('slurm://localhost/')\n" + program, None, **known)


def submit(tmp_path: Path, *command: str, **attributes: object) -> str:
    """Submit a job from a process of its own and return SAGA's id."""
    program = "job = service.create_job(describe(*command, **attributes))\njob.run()\nanswer = job.id"
    taken = ask(tmp_path, program, command=command, attributes=attributes)
    assert isinstance(taken, str)
    return taken


def batch(job_id: str) -> str:
    return job_id.rpartition("]-[")[2].rstrip("]")


def until(tmp_path: Path, job_id: str, *states: str) -> dict[str, Any]:
    """Reconnect to a job from a process of its own; return what is known once it is in one of these states."""
    program = """
job = until(service.get_job(job_id), *states)
record = service.bulk.records([job_id.rpartition("]-[")[2].rstrip("]")]).popitem()[1]
answer = {"state": job.state, "exit_code": job.exit_code, "native": record.native_state, "reason": record.reason,
          "nodes": job.execution_hosts, "signal": record.signal, "name": job.name}
"""
    found = ask(tmp_path, program, job_id=job_id, states=states)
    assert isinstance(found, dict)
    return found


def test_job_on_four_nodes_is_submitted_found_again_and_its_end_told(
    tmp_path: Path, slurm: Slurm, directory: Path
) -> None:
    name = f"pilotmtc-{secrets.token_hex(8)}"
    script = 'echo "$SLURM_NNODES $SLURM_CPUS_ON_NODE $(id -un)"; read line; echo "$line"; exit 3'
    (directory / "in").write_text("from a file\n")
    job_id = submit(
        tmp_path, "/bin/sh", "-c", script, name=name, working_directory=str(directory), input="in", output="out %j",
        total_cpu_count=48, wall_time_limit=5, queue="debug", system_architecture={"nodes": 4, "constraint": "lab"},
    )  # fmt: skip
    found = until(tmp_path, job_id, "Done", "Failed", "Canceled")
    assert found == {
        "state": "Failed", "exit_code": 3, "native": "FAILED", "reason": "NonZeroExitCode", "signal": None,
        "name": name, "nodes": ["n1", "n2", "n3", "n4"],
    }  # fmt: skip
    assert (directory / "out %j").read_text() == f"4 12 {slurm.account.name}\nfrom a file\n"
    program = "answer = [service.bulk.find(name), service.bulk.find(name + 'x'), service.list()]"
    by_name, by_other, listed = ask(tmp_path, program, name=name)
    assert by_name == [batch(job_id)]
    assert by_other == []
    assert job_id not in listed


def test_what_reaches_the_job_is_what_was_said(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SBATCH_PARTITION": "closed",
        "SECRET": "x",
        "SQUEUE_STATES": "CG",
        "SLURM_JOB_ID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    names = " ".join(f'"$V{number}"' for number in range(len(VALUES)))
    script = f'printf \'%s\\0\' {names} "$@" "$(pwd)" "$P" "${{SECRET-unset}}"'
    answer = ask(
        tmp_path,
        """
job = service.create_job(describe("/bin/sh", "-c", script, "x", *values, working_directory=directory, output="out",
                                  error="err", environment={f"V{n}": value for n, value in enumerate(values)},
                                  pre_exec=["export P='it''s set'", "cd ."]))
job.run()
job.wait(60)
answer = [job.state, service.list()]
""",
        script=script, values=VALUES, directory=str(directory),
    )  # fmt: skip
    assert answer == ["Done", []], (directory / "err").read_text()
    said = (directory / "out").read_bytes().decode().split("\0")[:-1]
    assert said == [*VALUES, *VALUES, str(directory), "its set", "unset"]


def test_directory_that_is_not_there_and_failing_preparation_fail_the_job(tmp_path: Path, directory: Path) -> None:
    (codes,) = ask(
        tmp_path,
        """
jobs = [service.create_job(describe("/usr/bin/touch", "ran", working_directory=directory + more, pre_exec=before))
        for more, before in (("/none", []), ("", ["false"]))]
for job in jobs:
    job.run()
answer = [[(job.wait(60), job.state, job.exit_code) for job in jobs]]
""",
        directory=str(directory),
    )
    assert codes == [[True, "Failed", 127], [True, "Failed", 1]]
    assert not (directory / "ran").exists()


def test_many_jobs_are_told_by_one_question(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask(
        tmp_path,
        """
import subprocess
def job(*command, **more):
    made = service.create_job(describe(*command, **more))
    made.run()
    return made
jobs = [job("/bin/true"), job("/bin/sh", "-c", "kill -9 $$"), job("/bin/sleep", "600"),
        job("/bin/true", queue="closed")]
batches = [each.id.rpartition("]-[")[2].rstrip("]") for each in jobs]
jobs[0].wait(60), jobs[1].wait(60), until(jobs[2], "Running")
from pilotmtc_adaptors import _driver
calls, run = [], _driver.run
_driver.run = lambda call: calls.append(call.argv[0]) or run(call)
records = service.bulk.records(batches)
answer = {"calls": list(calls), "states": [records[each].state for each in batches],
          "ends": [[records[each].exit_code, records[each].signal] for each in batches],
          "reason": records[batches[3]].reason, "listed": service.list() == [jobs[2].id, jobs[3].id]}
""",
    )
    assert answer["calls"] == ["squeue"]
    assert answer["states"] == ["Done", "Failed", "Running", "Pending"]
    assert answer["ends"] == [[0, None], [None, 9], [None, None], [None, None]]
    assert answer["reason"] == "PartitionDown"
    assert answer["listed"]


def test_end_of_the_walltime_warns_first_and_is_no_cancel(tmp_path: Path, slurm: Slurm, directory: Path) -> None:
    script = "trap 'echo warned >said' TERM; echo >here; while :; do sleep 0.1; done"
    job_id = submit(
        tmp_path, "/bin/sh", "-c", script, working_directory=str(directory), wall_time_limit=2,
        system_architecture={"signal_s": 60},
    )  # fmt: skip
    wait_until((directory / "here").exists, 60)
    # A minute is the shortest walltime: its end is brought near, once into the time of the warning, then to now.
    slurm.admin("sh", "-c", f"scontrol update jobid={batch(job_id)} EndTime=$(date -d '+40 sec' +%FT%T)")
    wait_until((directory / "said").exists, 60)
    slurm.admin("sh", "-c", f"scontrol update jobid={batch(job_id)} EndTime=$(date -d '+1 sec' +%FT%T)")
    found = until(tmp_path, job_id, "Done", "Failed", "Canceled")
    assert (found["state"], found["native"], found["reason"]) == ("Failed", "TIMEOUT", "TimeLimit")
    assert found["exit_code"] != 0


def test_cancel_from_outside_and_by_the_program(tmp_path: Path, slurm: Slurm, directory: Path) -> None:
    job_id, waiting = submit(tmp_path, "/bin/sleep", "600"), submit(tmp_path, "/bin/true", queue="closed")
    until(tmp_path, job_id, "Running")
    slurm.admin("scancel", batch(job_id))
    found = until(tmp_path, job_id, "Done", "Failed", "Canceled")
    assert (found["state"], found["native"]) == ("Canceled", "CANCELLED")
    answer = ask(
        tmp_path,
        "job = service.get_job(job_id)\njob.cancel()\njob.wait(60)\njob.cancel()\nanswer = [job.state, job.exit_code]",
        job_id=waiting,
    )
    assert answer == ["Canceled", None]


def test_refusals_are_bad_parameters_with_slurms_own_words(tmp_path: Path, directory: Path) -> None:
    answer = ask(
        tmp_path,
        """
def run(extras=None, **attributes):
    return refusal(service.create_job(describe("/bin/true", extras=extras, **attributes)).run)
answer = [run(queue="nope"), run(queue="--foo"), run(queue="a\\nb"), run({"constraint": "nope"}), run({"nodes": 0}),
          run({"gpus_per_node": 1}), run({"memory_per_node_bytes": 1 << 50}), run(candidate_hosts=["n77"]),
          run({"reservation": "nope"}), run(file_transfer=["a > b"]), refusal(lambda: service.get_job("99999999"))]
answer += [service.list()]
""",
    )
    words = [
        "Invalid partition name", "'--foo' begins with '-'", "control characters", "Invalid feature", "nodes 0: give 1",
        "Invalid generic resource", "Memory specification", "Invalid node name", "reservation is invalid",
        "slurm jobs cannot have file_transfer", "SLURM does not know job 99999999",
    ]  # fmt: skip
    assert answer.pop() == []
    for (kind, text), expected in zip(answer, words, strict=True):
        assert kind == ("DoesNotExist" if "99999999" in text else "BadParameter")
        assert expected in text


def test_stopped_controller_is_not_a_job_that_is_gone(tmp_path: Path, slurm: Slurm, directory: Path) -> None:
    job_id = submit(tmp_path, "/bin/sleep", "600", name=f"pilotmtc-{directory.name[-8:]}")
    until(tmp_path, job_id, "Running")
    slurm.stop_controller()
    try:
        program = """
import concurrent.futures
job = describe("/bin/true")
from pilotmtc_adaptors import _driver
_driver._PAUSES_S = ()
asked = [lambda: service.get_job(job_id), service.list, service.create_job(job).run,
         lambda: service.bulk.cancel(["1"])]
with concurrent.futures.ThreadPoolExecutor() as pool:
    answer = list(pool.map(refusal, asked))
"""
        answer = ask(tmp_path, program, job_id=job_id)
    finally:
        slurm.start_controller()
    for kind, text in answer:
        assert kind == "Timeout", text
        assert "nable to contact slurm controller" in text
    assert until(tmp_path, job_id, "Running")["nodes"]


def test_job_outlives_all_nodes_but_its_first(tmp_path: Path, slurm: Slurm, directory: Path) -> None:
    job_id = submit(tmp_path, "/bin/sleep", "600", system_architecture={"nodes": 2})
    first, second = until(tmp_path, job_id, "Running")["nodes"]
    failed = [second]
    slurm.fail_node(second)
    try:
        wait_until(lambda: slurm.admin("sinfo", "-h", "-N", "-n", second, "-o", "%T").startswith("down"), 30)
        assert until(tmp_path, job_id, "Running")["state"] == "Running"
        failed.append(first)
        slurm.fail_node(first)
        found = until(tmp_path, job_id, "Done", "Failed", "Canceled")
    finally:
        for name in failed:
            slurm.repair_node(name)
    # Which of the two is a matter of who is faster: the controller, or the end of the job on its first node.
    assert found["state"] == "Failed"
    assert found["native"] in ("NODE_FAIL", "FAILED")


@pytest.mark.parametrize("accounting", [False, True])
def test_job_that_the_controller_has_forgotten(
    accounting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_slurm()
    with Slurm(nodes=1, accounting=accounting, min_job_age_s=2) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        job_id = submit(tmp_path, "/bin/sh", "-c", "exit 5", name="pilotmtc-forgotten")
        wait_until(lambda: cluster.admin("squeue", "-h", "--states=all", "-o", "%i") == "", 100)
        program = """
job = None
def get():
    global job
    job = service.get_job(job_id)
    return [job.state, job.exit_code, job.name]
answer = [refusal(get)[0], job and get(), service.bulk.find("pilotmtc-forgotten")]
"""
        answer = ask(tmp_path, program, job_id=job_id)
        if accounting:
            assert answer == ["no exception", ["Failed", 5, "pilotmtc-forgotten"], [batch(job_id)]]
            cluster._end("slurmdbd")
            assert ask(tmp_path, "answer = refusal(lambda: service.get_job(job_id))", job_id=job_id)[0] == "Timeout"
        else:
            assert answer == ["DoesNotExist", None, []]
