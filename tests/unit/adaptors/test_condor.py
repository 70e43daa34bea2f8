"""The HTCondor dialect, on what a real pool answered."""

import contextlib
import re
import shlex
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected, UsageError
from pilotmtc_adaptors._dialect import Call, JobRecord, JobRequest, JobState
from pilotmtc_adaptors.condor import dialect as condor
from pilotmtc_adaptors.condor.records import by_cluster, cluster_record, parse_jobs
from pilotmtc_adaptors.condor.submit import submit_description
from tests.lab.replay import Answer, hold, recorded

CONDOR = recorded("condor")
NOTHING = Answer("")


def request(**fields: object) -> JobRequest:
    return msgspec.convert({"executable": "/bin/agent", **fields}, JobRequest)


def described(asked: JobRequest, *, parallel: bool = False) -> dict[str, str]:
    """Return the lines of a submit description."""
    lines = submit_description(asked, parallel=parallel).splitlines()
    *commands, queue = lines
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in commands)} | {
        "queue": queue.removeprefix("queue").strip()
    }


def only(text: str) -> JobRecord:
    ((batch_id, jobs),) = by_cluster(parse_jobs(text)).items()
    return cluster_record(batch_id, jobs)


def job(proc: int, **attributes: object) -> dict[str, object]:
    return {"ClusterId": 7, "ProcId": proc, "JobStatus": 1, "TotalSubmitProcs": 3, **attributes}


def written(*jobs: dict[str, object]) -> Answer:
    return Answer(msgspec.json.encode(list(jobs)).decode())


# -- what was recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "state", "exit_code", "signal", "reason"),
    [
        ("hist_ok0", JobState.DONE, 0, None, ""),
        ("hist_exit3", JobState.FAILED, 3, None, ""),
        ("hist_json_one", JobState.FAILED, 3, None, ""),
        ("hist_sig9", JobState.FAILED, None, 9, ""),
        ("hist_sig15", JobState.FAILED, None, 15, ""),
        ("hist_wall", JobState.FAILED, None, 15, "reached its walltime"),
        ("hist_rm_running", JobState.CANCELED, None, None, "condor_rm"),  # with ExitCode 143, which does not count
        ("hist_rm_pending", JobState.CANCELED, None, None, "condor_rm"),
        ("q_just_removed", JobState.CANCELED, None, None, "condor_rm"),
    ],
)
def test_job_is_what_was_recorded(
    case: str, state: JobState, exit_code: int | None, signal: int | None, reason: str
) -> None:
    record = only(CONDOR[case].stdout)
    assert (record.state, record.exit_code, record.signal) == (state, exit_code, signal)
    assert re.search(reason, record.reason) if reason else not record.reason


def test_queue_is_what_was_recorded() -> None:
    jobs = by_cluster(parse_jobs(CONDOR["q_json_attrs"].stdout))
    records = {number: cluster_record(number, procs) for number, procs in jobs.items()}
    assert records["56"].state is JobState.RUNNING
    assert records["57"].state is JobState.PENDING
    assert (records["59"].state, records["59"].native_state) == (JobState.PENDING, "Held")
    assert "allowed job duration" in records["59"].reason
    assert records["56"].nodes == ("n2@vm",)


# -- a cluster of several jobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "state", "native"),
    [
        ((1, 1, 1), JobState.PENDING, "Idle"),
        ((1, 2, 1), JobState.RUNNING, "2 Idle, 1 Running"),
        ((4, 2, 1), JobState.RUNNING, "1 Completed, 1 Running, 1 Idle"),
        ((5, 1, 1), JobState.PENDING, "1 Held, 2 Idle"),
        ((7, 1, 1), JobState.SUSPENDED, "1 Suspended, 2 Idle"),
        ((6, 4, 4), JobState.RUNNING, "1 Transferring Output, 2 Completed"),
        ((4, 4, 4), JobState.DONE, "Completed"),
        ((4, 4, 3), JobState.DONE, "2 Completed, 1 Removed"),
        ((3, 3, 3), JobState.CANCELED, "Removed"),
        ((9, 4, 4), JobState.UNKNOWN, "1 JobStatus 9, 2 Completed"),
    ],
)
def test_cluster_lives_while_a_job_does_and_ends_as_its_first(
    statuses: tuple[int, ...], state: JobState, native: str
) -> None:
    jobs = [job(number, JobStatus=status, ExitCode=0) for number, status in enumerate(statuses)]
    record = only(written(*jobs).stdout)
    assert (record.state, record.native_state) == (state, native)


def test_exit_code_is_the_first_jobs() -> None:
    jobs = [job(0, JobStatus=4, ExitCode=3), job(1, JobStatus=4, ExitCode=0), job(2, JobStatus=4, ExitCode=9)]
    record = only(written(*jobs).stdout)
    assert (record.state, record.exit_code) == (JobState.FAILED, 3)


def test_cluster_of_which_a_part_has_left_the_queue_is_put_together() -> None:
    queue = written(job(1, JobStatus=2), job(2, JobStatus=1))
    history = written(job(0, JobStatus=4, ExitCode=0))
    found, calls = hold(condor.vanilla.status(["7"]), queue, history)
    record = found["7"]
    assert isinstance(record, JobRecord)
    assert (record.state, record.native_state) == (JobState.RUNNING, "1 Completed, 1 Running, 1 Idle")
    assert [each.argv[0] for each in calls] == ["condor_q", "condor_history"]


def test_job_that_could_not_run_tells_why_it_was_held() -> None:
    reason = "The job attribute PeriodicRemove expression '(JobStatus == 5)' evaluated to TRUE"
    held = {"LastHoldReason": "Failed to execute '/none'", "LastHoldReasonCode": 6}
    record = only(written(job(0, JobStatus=3, RemoveReason=reason, **held)).stdout)
    assert (record.state, record.reason) == (JobState.FAILED, "Failed to execute '/none'")


# -- status ----------------------------------------------------------------------------------------------------------


def test_many_live_jobs_are_one_call() -> None:
    jobs = [job(0, ClusterId=number, TotalSubmitProcs=1, JobStatus=2) for number in (7, 8)]
    found, calls = hold(condor.vanilla.status(["7", "8"]), written(*jobs))
    assert [each.state for each in found.values() if isinstance(each, JobRecord)] == [JobState.RUNNING] * 2
    assert [(each.argv[0], each.argv[-2:]) for each in calls] == [("condor_q", ("7", "8"))]


def test_job_in_neither_queue_nor_history_is_unknown() -> None:
    found, _ = hold(condor.vanilla.status(["99999"]), CONDOR["q_unknown_json"], CONDOR["hist_unknown_json"])
    assert isinstance(found["99999"], JobUnknown)


def test_stopped_queue_is_not_a_job_that_is_gone() -> None:
    with pytest.raises(StatusUnavailable, match="cannot be asked"):
        hold(condor.vanilla.status(["7"]), CONDOR["down_q_json"])


def test_history_that_cannot_be_read_is_not_a_job_that_is_gone() -> None:
    found, _ = hold(condor.vanilla.status(["7"]), NOTHING, Answer("", "no", 1))
    assert isinstance(found["7"], StatusUnavailable)


@pytest.mark.parametrize("batch_id", ["-all", "ada", "7.0 8", "", "7.x", "1e3"])
def test_what_is_no_cluster_never_reaches_a_command_line(batch_id: str) -> None:
    with pytest.raises(StopIteration) as end:
        next(condor.vanilla.cancel([batch_id]))
    assert isinstance(end.value.value[batch_id], JobUnknown)
    with pytest.raises(StopIteration) as end:
        next(condor.vanilla.status([batch_id]))
    assert isinstance(end.value.value[batch_id], JobUnknown)


@given(st.text())
def test_noise_is_a_named_error_or_no_jobs(text: str) -> None:
    with contextlib.suppress(StatusUnavailable):
        assert parse_jobs(text) == []


@given(st.data())
def test_damaged_answers_are_records_or_named_errors(data: st.DataObject) -> None:
    text = CONDOR["q_json_attrs"].stdout
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 60)))
    damaged = text[:start] + data.draw(st.text(max_size=20)) + text[end:]
    with contextlib.suppress(StatusUnavailable):
        for batch_id, jobs in by_cluster(parse_jobs(damaged)).items():
            assert cluster_record(batch_id, jobs).state in JobState


# -- submit ----------------------------------------------------------------------------------------------------------


def test_cluster_has_as_many_jobs_as_there_are_nodes() -> None:
    found = described(
        request(
            name="pilotmtc-7f3a",
            nodes=4,
            cores_per_node=12,
            gpus_per_node=1,
            memory_per_node_bytes=3_000_000_000,
            walltime_s=3600,
            account="group_physics.ada",
            constraint='OpSysAndVer == "Debian12"',
            candidate_hosts=("n1", "n2"),
            working_directory="/home/ada/my run",
            output="out",
        )
    )
    assert {name: found[name] for name in found if name not in ("arguments", "periodic_remove")} == {
        "universe": "vanilla",
        "executable": "/bin/sh",
        "transfer_executable": "False",
        "notification": "Never",
        "initialdir": "/home/ada/my run",
        "output": "out.$(Process)",
        "should_transfer_files": "IF_NEEDED",
        "when_to_transfer_output": "ON_EXIT",
        "batch_name": "pilotmtc-7f3a",
        "accounting_group": "group_physics.ada",
        "request_cpus": "12",
        "request_gpus": "1",
        "request_memory": "2862",
        "requirements": '(OpSysAndVer == "Debian12") && (Machine == "n1" || Machine == "n2")',
        "environment": '"_CONDOR_PROCNO=$(Process) _CONDOR_NPROCS=4"',
        "queue": "4",
    }
    assert "time() - JobCurrentStartDate > 3600" in found["periodic_remove"]


def test_parallel_universe_is_one_job_on_all_nodes() -> None:
    found = described(request(nodes=3, output="out"), parallel=True)
    assert (found["universe"], found["machine_count"], found["queue"]) == ("parallel", "3", "")
    assert found["output"] == "out.$(Node)"


def test_files_are_sent_where_they_are_named() -> None:
    found = described(request(file_transfer=("/data/in.txt > in.txt", "back.txt < out.txt", "b < b")))
    assert found["should_transfer_files"] == "YES"
    assert (found["transfer_input_files"], found["transfer_output_files"]) == ("/data/in.txt", "out.txt,b")
    assert found["transfer_output_remaps"] == '"out.txt=back.txt"'


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "two words"}, "job name 'two words'"),
        ({"name": "x\nqueue 100"}, "job name"),
        ({"account": "a b"}, "account 'a b'"),
        ({"constraint": "true\nqueue 100"}, "constraint"),
        ({"working_directory": "/tmp/$(HOME)"}, "working directory"),
        ({"output": "a\nqueue"}, "output"),
        ({"error": "/tmp/x\\"}, "error"),
        ({"candidate_hosts": ('n1" || true || "',)}, "candidate host"),
        ({"file_transfer": ("a b",)}, "file transfer 'a b'"),
        ({"file_transfer": ("a > b",)}, "file transfer 'a > b'"),
        ({"file_transfer": ("a,b > a,b",)}, "file transfer"),
        ({"exclusive": True}, "say how many cores a node has"),
        ({"arguments": ("x" * 200_000,)}, "put them into a file"),
        ({"environment": {"a b": "c"}}, "environment variable 'a b'"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        described(request(**fields))


@pytest.mark.parametrize("field", ["qos", "queue", "reservation"])
def test_what_htcondor_has_not_is_not_mapped(field: str) -> None:
    assert field not in condor.vanilla.maps


def shell_words(arguments: str) -> list[str]:
    """Read arguments as HTCondor documents its newer quoting."""
    assert arguments[0] == arguments[-1] == '"'
    words = re.findall(r"'((?:[^']|'')*)'(?: |$)", arguments[1:-1].replace('""', '"'))
    return [each.replace("''", "'") for each in words]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_any_argument_and_variable_survives_all_quoting(values: list[str]) -> None:
    asked = JobRequest(
        executable="printf",
        arguments=("%s\\0", *values),
        environment={f"V{number}": value for number, value in enumerate(values)},
    )
    arguments = described(asked)["arguments"]
    assert "$" not in arguments
    assert arguments.isprintable()
    done = subprocess.run(["/bin/sh", *shell_words(arguments)], capture_output=True, timeout=20, check=True)
    assert done.stdout.split(b"\0")[: len(values)] == [each.encode() for each in values]


def test_script_ends_in_the_executable_itself() -> None:
    asked = request(executable="sh", arguments=("-c", 'echo "$$ $PPID"'))
    words = ["/bin/sh", *shell_words(described(asked)["arguments"])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=20)
    assert out.split()[0] == str(process.pid), shlex.join(words)


@pytest.mark.parametrize(("case", "number"), [("submit_terse", "13"), ("submit_many", "63")])
def test_number_of_the_cluster_is_read(case: str, number: str) -> None:
    taken, calls = hold(condor.vanilla.submit(request()), CONDOR[case])
    assert taken == number
    assert calls[0].argv == ("condor_submit", "-terse", "-")


@pytest.mark.parametrize(
    ("case", "words"),
    [("submit_bad", "Failed to parse"), ("submit_baduni", "universe"), ("submit_noexe2", "does not exist")],
)
def test_refusal_is_told_in_the_schedulers_words(case: str, words: str) -> None:
    with pytest.raises(SubmitRejected, match=words):
        hold(condor.vanilla.submit(request()), CONDOR[case])


def test_submission_to_a_stopped_queue_can_be_tried_again() -> None:
    with pytest.raises(StatusUnavailable) as caught:
        hold(condor.vanilla.submit(request()), CONDOR["down_submit"])
    assert not isinstance(caught.value, AnswerLost)


@pytest.mark.parametrize("said", [NOTHING, Answer("", "ERROR: Failed to commit job submission into the queue.", 1)])
def test_submission_without_a_number_may_have_been_taken(said: Answer) -> None:
    with pytest.raises(AnswerLost):
        hold(condor.vanilla.submit(request()), said)


# -- cancel, find ----------------------------------------------------------------------------------------------------


def test_removed_job_is_no_error() -> None:
    assert hold(condor.vanilla.cancel(["56"]), CONDOR["rm_running"])[0] == {}


def test_job_that_was_over_is_no_error_and_one_that_never_was_is() -> None:
    gone = CONDOR["rm_unknown_cluster"]
    assert hold(condor.vanilla.cancel(["52"]), gone, NOTHING, CONDOR["hist_exit3"])[0] == {}
    errors, _ = hold(condor.vanilla.cancel(["99999"]), gone, NOTHING, CONDOR["hist_unknown_json"])
    assert isinstance(errors["99999"], JobUnknown)
    empty = Answer("", "condor_rm:0:There are no jobs in the queue\n")  # and 0 for an exit code
    errors, _ = hold(condor.vanilla.cancel(["99999"]), empty, NOTHING, CONDOR["hist_unknown_json"])
    assert isinstance(errors["99999"], JobUnknown)


def test_job_of_somebody_else_is_told() -> None:
    live = written(job(0, TotalSubmitProcs=1, JobStatus=2))
    errors, _ = hold(condor.vanilla.cancel(["7"]), Answer("", "Permission denied to remove job 7.0", 1), live)
    assert type(errors["7"]) is AdaptorError


def test_cancel_at_a_stopped_queue_could_not_be_asked() -> None:
    with pytest.raises(StatusUnavailable):
        hold(condor.vanilla.cancel(["7"]), CONDOR["down_rm"], CONDOR["down_q_json"])


def test_jobs_of_a_name_are_those_in_the_queue_and_in_the_history() -> None:
    history = written(job(0, ClusterId=5), job(1, ClusterId=5), job(0, ClusterId=10))
    found, calls = hold(condor.vanilla.find("pilotmtc-1"), Answer("ada\n"), written(job(0)), history)
    assert found == ("5", "7", "10")
    assert all(each.argv[-1] == 'JobBatchName == "pilotmtc-1" && Owner == "ada"' for each in calls[1:])


@pytest.mark.parametrize("name", ['x" || true || "', "a\\", "a\nb"])
def test_name_that_no_job_can_have_is_not_asked_for(name: str) -> None:
    with pytest.raises(StopIteration) as end:
        next(condor.vanilla.find(name))
    assert end.value.value == ()


# -- what will never run ---------------------------------------------------------------------------------------------

SLOT, TOO_LARGE = Answer("slot1@n1\n"), {"LastRejMatchTime": 5, "RequestCpus": 99, "RequestMemory": 1024}


def asked_of(jobs: Answer, *answers: Answer) -> tuple[JobRecord, list[Call]]:
    found, calls = hold(condor.vanilla.status(["7"]), jobs, *answers)
    record = found["7"]
    assert isinstance(record, JobRecord)
    return record, calls[1:]


def waiting(**attributes: object) -> Answer:
    return written(*(job(proc, **attributes) for proc in range(3)))


def test_request_for_which_no_slot_is_large_enough_can_never_run() -> None:
    record, calls = asked_of(waiting(**TOO_LARGE), NOTHING, SLOT)
    assert record.reason == "Can Never Run: no machine of the pool has a slot with Cpus >= 99, Memory >= 1024"
    assert "TotalSlotCpus >= 99 && TotalSlotMemory >= 1024" in calls[0].argv[-1]


@pytest.mark.parametrize("answers", [(SLOT,), (NOTHING, NOTHING), (Answer("", "no collector", 1),)])
def test_slot_that_is_busy_and_pool_that_is_empty_or_silent_are_worth_waiting_for(answers: tuple[Answer, ...]) -> None:
    assert asked_of(waiting(**TOO_LARGE), *answers)[0].reason == ""


@pytest.mark.parametrize(
    "attributes", [{**TOO_LARGE, "LastRejMatchTime": 0}, {**TOO_LARGE, "JobStatus": 5, "HoldReason": "by me"}]
)
def test_pool_is_not_asked_about_what_has_not_been_tried(attributes: dict[str, object]) -> None:
    record, calls = asked_of(waiting(**attributes))
    assert not calls
    assert "Never" not in record.reason
