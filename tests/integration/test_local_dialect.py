"""The dialect of this host, with real processes, each question from a process of its own."""

import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from pilotmtc.errors import JobUnknown, SubmitRejected, UsageError
from pilotmtc_adaptors import _driver
from pilotmtc_adaptors._dialect import FINAL, JobRecord, JobRequest, JobState
from pilotmtc_adaptors.local import dialect as local
from tests.support import wait_until


@pytest.fixture(autouse=True)
def jobs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def submit(*command: str, **fields: object) -> str:
    return _driver.submit(
        local, msgspec.convert({"executable": command[0], "arguments": command[1:], **fields}, JobRequest)
    )


def record(batch_id: str) -> JobRecord:
    found = _driver.status(local, [batch_id])[batch_id]
    assert isinstance(found, JobRecord), found
    return found


def ended(batch_id: str) -> JobRecord:
    found = wait_until(
        lambda: each if (each := record(batch_id)).state in FINAL else None, 30, lambda: record(batch_id)
    )
    assert found is not None
    return found


def appears(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), 30)
    return path.read_text().strip()


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_exit_code_and_output_are_kept(tmp_path: Path) -> None:
    batch_id = submit(
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
        name="three",
        working_directory=str(tmp_path),
        output="o",
        error="e",
    )
    found = ended(batch_id)
    assert (found.state, found.exit_code, found.signal, found.name) == (JobState.FAILED, 3, None, "three")
    assert found.nodes == (os.uname().nodename,)
    assert (tmp_path / "o").read_text() + (tmp_path / "e").read_text() == "out\nerr\n"


def test_arguments_variables_and_directory_arrive_as_they_are(tmp_path: Path) -> None:
    values = ['it\'s "quoted"', "$HOME `id`", "two\nlines\r\n", "back\\slash", "ü €", "\udcff", ""]
    directory = tmp_path / "a 'b' \"c\" $d"
    directory.mkdir()
    names = " ".join(f'"$V{number}"' for number in range(len(values)))
    batch_id = submit(
        "sh", "-c", f"printf '%s\\0' {names} \"$@\"; pwd >where", "x", *values,
        environment={f"V{number}": value for number, value in enumerate(values)},
        working_directory=str(directory), output="out",
    )  # fmt: skip
    assert ended(batch_id).state == JobState.DONE
    said = (directory / "out").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
    assert said == values + values
    assert (directory / "where").read_text() == f"{directory}\n"


def test_signal_that_ended_it_is_kept() -> None:
    found = ended(submit("sh", "-c", "kill -9 $$"))
    assert (found.state, found.exit_code, found.signal) == (JobState.FAILED, None, 9)


def test_cancel_ends_the_whole_group_and_can_be_repeated(tmp_path: Path) -> None:
    batch_id = submit(
        "sh", "-c", "trap '' TERM; sleep 600 & echo $! >child; wait; sleep 600", working_directory=str(tmp_path)
    )
    child = int(appears(tmp_path / "child"))
    assert record(batch_id).state == JobState.RUNNING
    assert _driver.cancel(local, [batch_id]) == {}
    found = ended(batch_id)
    assert (found.state, found.native_state, found.signal) == (JobState.CANCELED, "canceled", 9)
    wait_until(lambda: is_over(child))
    assert _driver.cancel(local, [batch_id]) == {}
    assert record(batch_id).state == JobState.CANCELED


def test_warning_comes_before_the_walltime_and_its_end_is_no_cancel(tmp_path: Path) -> None:
    batch_id = submit(
        "sh", "-c", "trap 'echo warned >said' TERM; while :; do sleep 0.1; done",
        working_directory=str(tmp_path), walltime_s=3, signal_s=2,
    )  # fmt: skip
    assert appears(tmp_path / "said") == "warned"
    found = ended(batch_id)
    assert (found.state, found.native_state) == (JobState.FAILED, "timeout")
    assert "walltime" in found.reason


def test_what_a_job_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    batch_id = submit("sh", "-c", "sleep 600 & echo $! >child", working_directory=str(tmp_path))
    ended(batch_id)
    child = int(appears(tmp_path / "child"))
    wait_until(lambda: is_over(child))


def test_stopped_job_is_suspended() -> None:
    batch_id = submit("sleep", "600")
    pid = int(batch_id.partition("-")[0])
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: record(batch_id).state == JobState.SUSPENDED)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: record(batch_id).state == JobState.RUNNING)
    os.kill(pid, signal.SIGKILL)
    assert ended(batch_id).signal == 9


def keeper_of(batch_id: str, tmp_path: Path) -> int:
    job = tmp_path / f"pilotmtc-jobs-{os.getuid()}" / batch_id / "job"
    return int(msgspec.json.decode(job.read_bytes())["keeper"][0])


def test_job_outlives_its_keeper_and_can_still_be_ended(tmp_path: Path) -> None:
    batch_id = submit("sleep", "600")
    os.kill(keeper_of(batch_id, tmp_path), signal.SIGKILL)
    assert record(batch_id).state == JobState.RUNNING
    assert _driver.cancel(local, [batch_id]) == {}
    assert ended(batch_id).state == JobState.CANCELED
    wait_until(lambda: is_over(int(batch_id.partition("-")[0])))


def test_job_that_was_killed_with_its_keeper_is_failed_not_gone(tmp_path: Path) -> None:
    batch_id = submit("sleep", "600")
    os.kill(keeper_of(batch_id, tmp_path), signal.SIGKILL)
    os.kill(int(batch_id.partition("-")[0]), signal.SIGKILL)
    found = ended(batch_id)
    assert (found.state, found.native_state) == (JobState.FAILED, "lost")


def test_number_that_was_used_again_is_not_the_job(tmp_path: Path) -> None:
    batch_id = submit("true")
    ended(batch_id)
    jobs = tmp_path / f"pilotmtc-jobs-{os.getuid()}"
    other = f"{os.getpid()}-1"
    (jobs / batch_id).rename(jobs / other)
    (jobs / other / "ended").unlink()
    assert record(other).state == JobState.FAILED
    assert _driver.cancel(local, [other]) == {}  # and this process is still there


def test_jobs_are_found_by_name_and_told_from_those_that_are_over() -> None:
    over, on, other = submit("true", name="a"), submit("sleep", "600", name="a"), submit("true", name="b")
    ended(over)
    ended(other)
    assert _driver.find(local, "a") == (over, on)
    assert _driver.jobs(local) == (on,)
    _driver.cancel(local, [on])
    ended(on)
    assert _driver.jobs(local) == ()


@pytest.mark.parametrize("foreign", ["", "..", "1-2", "../../etc", "x\ny", "-h"])
def test_foreign_ids_are_unknown(foreign: str) -> None:
    assert isinstance(_driver.status(local, [foreign])[foreign], JobUnknown)
    assert isinstance(_driver.cancel(local, [foreign])[foreign], JobUnknown)


def test_what_the_host_has_not_got_is_refused_by_name(tmp_path: Path) -> None:
    for fields in ({"cores_per_node": 100_000}, {"memory_per_node_bytes": 1 << 60}, {"output": "no/such/out"}):
        with pytest.raises(SubmitRejected, match=f"({'|'.join(fields)}|no/such/out)"):
            submit("true", working_directory=str(tmp_path), **fields)
    for name in ("nodes", "gpus_per_node"):
        with pytest.raises(UsageError, match=f"local jobs cannot have {name}"):
            submit("true", **{name: 2})


def test_directory_of_others_is_refused(tmp_path: Path) -> None:
    jobs = tmp_path / f"pilotmtc-jobs-{os.getuid()}"
    jobs.mkdir()
    jobs.chmod(0o777)
    with pytest.raises(SubmitRejected, match="belongs to another user, or others may write to it"):
        submit("true")


def test_jobs_of_last_week_are_forgotten(tmp_path: Path) -> None:
    old = submit("true")
    ended(old)
    ending = tmp_path / f"pilotmtc-jobs-{os.getuid()}" / old / "ended"
    ending.write_text('{"status": 0, "why": "", "ended_at": 1}')
    young = submit("true")
    ended(young)
    assert isinstance(_driver.status(local, [old])[old], JobUnknown)


def test_dialect_runs_with_this_interpreter_and_no_packages(tmp_path: Path) -> None:
    call = next(local.jobs())
    assert call.argv[:3] == (sys.executable, "-I", "-S")
