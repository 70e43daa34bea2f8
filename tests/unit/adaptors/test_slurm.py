"""The SLURM dialect, on what a real 22.05 answered."""

import string
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected, UsageError
from pilotmtc_adaptors._dialect import Call, CallResult, Conversation, JobRecord, JobRequest, JobState
from pilotmtc_adaptors._script import refuse_unmapped
from pilotmtc_adaptors.slurm import dialect as slurm
from pilotmtc_adaptors.slurm.records import _STATES, host_names, sacct_records, squeue_records
from tests.lab.replay import hold

T = TypeVar("T")

SQUEUE = """\
7|PENDING|0|1795652294|N/A|N/A||PartitionDown|closed|
4|CANCELLED|15|1795652290|1795652290|1795652293|n[1-2]|None|long|
3|COMPLETED|0|1795652290|1795652290|1795652290|n[1-4]|None|ok|
1|FAILED|768|1795652290|1795652290|1795652291|n1|NonZeroExitCode|ex3|
2|FAILED|9|1795652290|1795652290|1795652290|n1|JobLaunchFailure|sig9|
6|RUNNING|0|1795652290|1795652290|1795652890|n1|None|na|me x|
8|TIMEOUT|0|1795652290|1795652290|1795652350|n1|TimeLimit|wall|
"""
SACCT = """\
1|FAILED|3:0|1795652290|1795652290|1795652290|n1|ex3
4|CANCELLED by 1001|0:0|1795652290|1795652290|1795652293|n[1-2]|long
2|FAILED|0:9|1795652290|1795652290|1795652290|n1|sig9
5|PENDING|0:0|1795652290|Unknown|Unknown|None assigned|held
"""
INVALID = CallResult(1, "", "slurm_load_jobs error: Invalid job id specified\n")
NO_CONTROLLER = CallResult(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
NO_ACCOUNTING = CallResult(1, "Slurm accounting storage is disabled\n", "")
NO_DATABASE = CallResult(1, "", "sacct: error: Problem talking to the database: Connection refused\n")


def request(**fields: object) -> JobRequest:
    return msgspec.convert({"executable": "/bin/agent", **fields}, JobRequest)


def sbatch(asked: JobRequest) -> Call:
    taken, calls = hold(slurm.submit(asked), CallResult(0, "25\n"))
    assert taken == "25"
    return calls[0]


# -- what was recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "state", "native", "exit_code", "signal", "reason", "nodes", "name"),
    [
        ("7", "Pending", "PENDING", None, None, "PartitionDown", (), "closed"),
        ("4", "Canceled", "CANCELLED", None, 15, "", ("n1", "n2"), "long"),
        ("3", "Done", "COMPLETED", 0, None, "", ("n1", "n2", "n3", "n4"), "ok"),
        ("1", "Failed", "FAILED", 3, None, "NonZeroExitCode", ("n1",), "ex3"),
        ("2", "Failed", "FAILED", None, 9, "JobLaunchFailure", ("n1",), "sig9"),
        ("6", "Running", "RUNNING", None, None, "", ("n1",), "na|me x"),
        ("8", "Failed", "TIMEOUT", None, None, "TimeLimit", ("n1",), "wall"),
    ],
)
def test_squeue_tells_a_job(
    batch: str, state: str, native: str, exit_code: int | None, signal: int | None, reason: str,
    nodes: tuple[str, ...], name: str,
) -> None:  # fmt: skip
    record = squeue_records(SQUEUE)[batch]
    assert (record.state, record.native_state, record.exit_code, record.signal) == (state, native, exit_code, signal)
    assert (record.reason, record.nodes, record.name) == (reason, nodes, name)


def test_times_are_those_that_are_known() -> None:
    records = squeue_records(SQUEUE)
    times = [(each.created_at, each.started_at, each.ended_at) for each in (records["7"], records["6"], records["1"])]
    assert times == [
        (1795652294.0, None, None),
        (1795652290.0, 1795652290.0, None),  # when it would end is not when it did
        (1795652290.0, 1795652290.0, 1795652291.0),
    ]


def test_sacct_tells_the_same() -> None:
    records = sacct_records(SACCT)
    said = {batch: (each.state, each.exit_code, each.signal, each.reason) for batch, each in records.items()}
    assert said == {
        "1": (JobState.FAILED, 3, None, ""),
        "4": (JobState.CANCELED, None, None, "by 1001"),
        "2": (JobState.FAILED, None, 9, ""),
        "5": (JobState.PENDING, None, None, ""),
    }
    assert records["4"].nodes == ("n1", "n2")
    assert records["5"].nodes == ()


def test_newer_squeue_that_says_code_and_signal_is_understood() -> None:
    line = "1|FAILED|3:0|N/A|N/A|N/A|n1|NonZeroExitCode|x|"
    assert squeue_records(line)["1"].exit_code == 3
    assert squeue_records(line.replace("3:0", "0:9"))["1"].signal == 9


@pytest.mark.parametrize("native", sorted(_STATES))
def test_every_state_is_told_and_no_timeout_is_a_cancel(native: str) -> None:
    state = squeue_records(f"1|{native}|0|N/A|N/A|N/A||None|x|")["1"].state
    assert state != JobState.UNKNOWN
    assert (state == JobState.CANCELED) == (native in ("CANCELLED", "REVOKED"))
    assert (state == JobState.DONE) == (native == "COMPLETED")


def test_state_of_a_later_version_is_unknown_and_not_over() -> None:
    assert squeue_records("1|DREAMING|0|N/A|N/A|N/A||None|x|")["1"].state == JobState.UNKNOWN


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("login", ("login",)),
        ("n[1-3]", ("n1", "n2", "n3")),
        ("n[08-10,12],gpu7", ("n08", "n09", "n10", "n12", "gpu7")),
        ("rack1-n[1,3]-ib,rack2", ("rack1-n1-ib", "rack1-n3-ib", "rack2")),
        ("n[0-999999999]", ()),
        ("n[3-1]", ()),
    ],
)
def test_host_lists_are_written_out(text: str, names: tuple[str, ...]) -> None:
    assert host_names(text) == names


# -- status ----------------------------------------------------------------------------------------------------------


def test_many_jobs_are_asked_for_in_one_call() -> None:
    found, calls = hold(slurm.status(["4", "3", "1"]), CallResult(0, SQUEUE))
    assert [each.argv[0] for each in calls] == ["squeue"]
    assert "--jobs=4,3,1" in calls[0].argv
    assert set(found) == {"4", "3", "1"}


def test_what_the_controller_forgot_the_accounting_tells() -> None:
    found, calls = hold(slurm.status(["1", "2", "99"]), INVALID, CallResult(0, SACCT))
    assert [each.argv[0] for each in calls] == ["squeue", "sacct"]
    assert "--jobs=1,2,99" in calls[1].argv
    assert isinstance(found["1"], JobRecord)
    assert found["1"].exit_code == 3
    assert isinstance(found["99"], JobUnknown)


@pytest.mark.parametrize("said", [NO_ACCOUNTING, CallResult(127, "", "No such file or directory")])
def test_without_accounting_a_forgotten_job_is_unknown(said: CallResult) -> None:
    found, _ = hold(slurm.status(["1"]), INVALID, said)
    assert isinstance(found["1"], JobUnknown)


@pytest.mark.parametrize("said", [NO_DATABASE, CallResult(124, "", "no answer within 60 s")])
def test_accounting_that_cannot_be_asked_is_not_gone(said: CallResult) -> None:
    found, _ = hold(slurm.status(["1", "3"]), CallResult(0, SQUEUE.splitlines()[2]), said)
    assert isinstance(found["1"], StatusUnavailable)
    assert isinstance(found["3"], JobRecord)


def test_job_whose_end_the_accounting_has_not_heard_of_is_neither_running_nor_gone() -> None:
    found, _ = hold(slurm.status(["5"]), INVALID, CallResult(0, SACCT))
    assert isinstance(found["5"], StatusUnavailable)


def test_controller_that_cannot_be_asked_is_not_gone() -> None:
    for talk in (slurm.status(["1"]), slurm.find("x"), slurm.jobs()):
        with pytest.raises(StatusUnavailable, match="Unable to contact slurm controller"):
            hold(talk, NO_CONTROLLER)


@pytest.mark.parametrize("foreign", ["", "-h", "--all", "1,2", "1_2", "1 2", "x", "1\n", "٣", "1" * 30])
def test_foreign_ids_are_never_asked_for(foreign: str) -> None:
    for verb in (slurm.status, slurm.cancel):
        with pytest.raises(StopIteration) as end:
            next(verb([foreign]))
        assert isinstance(end.value.value[foreign], JobUnknown)


# -- cancel, find, jobs ----------------------------------------------------------------------------------------------


def test_cancel_is_one_call_for_many() -> None:
    assert hold(slurm.cancel(["1", "2"]), CallResult(0)) == ({}, [Call(("scancel", "1", "2"), keep=slurm._KEEP)])


def test_cancel_tells_apart_what_was_over_unknown_or_forbidden() -> None:
    over = "scancel: error: Kill job error on job id 1: Job/step already completing or completed\n"
    unknown = "scancel: error: Kill job error on job id 2: Invalid job id specified\n"
    denied = "scancel: error: Kill job error on job id 3: Access/permission denied\n"
    errors, _ = hold(
        slurm.cancel(["1", "2", "3"]),
        *(CallResult(1, "", stderr) for stderr in (over + unknown + denied, over, unknown, denied)),
    )  # fmt: skip
    assert sorted(errors) == ["2", "3"]
    assert isinstance(errors["2"], JobUnknown)
    assert "permission denied" in str(errors["3"])
    with pytest.raises(StatusUnavailable):
        hold(
            slurm.cancel(["1"]),
            CallResult(1, "", "scancel: error: Unable to contact slurm controller (connect failure)"),
        )


def test_found_are_those_of_exactly_that_name_in_the_order_of_their_numbers() -> None:
    lines = "10|PENDING|0|1|N/A|N/A||None|a|\n9|RUNNING|0|1|1|N/A|n1|None|a|\n8|RUNNING|0|1|1|N/A|n1|None|ab|\n"
    found, calls = hold(slurm.find("a"), CallResult(0, lines))
    assert found == ("9", "10")
    assert "--name=a" in calls[0].argv
    assert "--me" in calls[0].argv


def test_name_that_the_controller_forgot_is_looked_up_in_the_accounting() -> None:
    assert hold(slurm.find("ex3"), CallResult(0), CallResult(0, SACCT))[0] == ("1",)
    assert hold(slurm.find("ex3"), CallResult(0), NO_ACCOUNTING)[0] == ()
    with pytest.raises(StatusUnavailable):
        hold(slurm.find("ex3"), CallResult(0), NO_DATABASE)


def test_jobs_are_those_that_are_not_over() -> None:
    assert hold(slurm.jobs(), CallResult(0, SQUEUE))[0] == ("6", "7")


# -- submit ----------------------------------------------------------------------------------------------------------


def test_everything_asked_for_is_in_the_options() -> None:
    call = sbatch(
        request(
            name="pilotmtc-x", nodes=4, cores_per_node=12, gpus_per_node=2, memory_per_node_bytes=(1 << 30) + 1,
            walltime_s=3601, signal_s=60, queue="debug", account="acc", qos="high", constraint="a&b",
            reservation="r", exclusive=True, candidate_hosts=["n1", "n2", "n3", "n4"], output="/o %j", error="e",
            working_directory="/w/",
        )
    )  # fmt: skip
    assert call.argv == (
        "sbatch", "--parsable", "--nodes=4", "--ntasks-per-node=1", "--no-requeue", "--no-kill",
        "--partition=debug", "--qos=high",
        "--account=acc", "--reservation=r", "--constraint=a&b", "--job-name=pilotmtc-x", "--chdir=/w/",
        "--output=/o %%j", "--error=/w/e", "--cpus-per-task=12", "--gres=gpu:2", "--mem=1025M", "--time=60:01",
        "--signal=B:TERM@60", "--exclusive", "--nodelist=n1,n2,n3,n4",
    )  # fmt: skip
    assert call.stdin.startswith("#!/bin/sh\n")


def test_what_is_not_asked_for_is_the_schedulers_choice() -> None:
    options = ("--nodes=1", "--ntasks-per-node=1", "--no-requeue", "--output=/dev/null")
    assert sbatch(request()).argv == ("sbatch", "--parsable", *options)


def test_every_field_is_mapped_or_refused_by_name() -> None:
    fields = {each.name for each in msgspec.structs.fields(JobRequest)}
    assert fields - slurm.maps == {"file_transfer"}
    with pytest.raises(UsageError, match="file_transfer"):
        refuse_unmapped(request(file_transfer=["a > b"]), slurm.maps, "slurm")


@pytest.mark.parametrize("value", ["--foo", "-p", "a b", "a\nb", "a\tb", "\x1b[31m", "a\u2028b", "\0", "a\r"])
@pytest.mark.parametrize("field", ["name", "queue", "account", "qos", "constraint", "reservation"])
def test_options_and_control_characters_are_refused(field: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{'job name' if field == 'name' else field} "):
        next(slurm.submit(request(**{field: value})))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"candidate_hosts": ["--foo"]}, "candidate host '--foo'"),
        ({"candidate_hosts": ["n1", "n2"]}, "2 candidate hosts for 1 nodes"),
        ({"name": "a,b"}, "job name 'a,b'"),
        ({"output": "a\nb"}, "output"),
        ({"output": "a\\b"}, "output"),
        ({"error": "-x"}, "error '-x'"),
        ({"executable": "-x"}, "executable '-x'"),
        ({"executable": ""}, "executable ''"),
        ({"arguments": ["\0"]}, "NUL"),
        ({"environment": {"A B": "x"}}, "environment variable 'A B'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        next(slurm.submit(request(**fields)))


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (CallResult(1, "", "sbatch: error: invalid partition specified: nope\n"
              "sbatch: error: Batch job submission failed: Invalid partition name specified\n"),
         SubmitRejected, "Invalid partition name"),
        (CallResult(1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect"),
         StatusUnavailable, "cannot be reached"),
        (CallResult(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
         AnswerLost, "Socket timed out"),
        (CallResult(0, "", ""), AnswerLost, "did not say which job"),
        (CallResult(0, "Submitted batch job\n", ""), AnswerLost, "did not say which job"),
        (CallResult(-9, "", ""), AnswerLost, "exit code -9"),
    ],
)  # fmt: skip
def test_no_is_told_from_no_answer(said: CallResult, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        hold(slurm.submit(request()), said)
    assert type(raised.value) is error


def test_id_is_taken_from_a_cluster_of_several_and_after_what_plugins_say() -> None:
    assert hold(slurm.submit(request()), CallResult(0, "Welcome!\n17;lab\n"))[0] == "17"


def test_variables_that_change_answers_are_kept_away() -> None:
    for talk in (slurm.submit(request()), slurm.status(["1"]), slurm.cancel(["1"]), slurm.find("x"), slurm.jobs()):
        keep = next(talk).keep
        assert keep is not None
        assert not [
            each for each in keep if each.startswith(("SBATCH_", "SQUEUE_", "SACCT_", "SLURM_JOB", "SLURM_CPU"))
        ]


# -- answers that nobody has foreseen --------------------------------------------------------------------------------

LINES = (SQUEUE + SACCT).splitlines()
ODD = st.one_of(
    st.text(),
    st.text(alphabet=string.digits + "|[]-,:\n \\NAn"),
    st.lists(st.sampled_from(LINES)).map("\n".join),
    st.builds(
        lambda line, at, more: line[:at] + more + line[at:],
        st.sampled_from(LINES), st.integers(0, 40), st.text(alphabet=string.digits + "|[]-,:\n x", max_size=30),
    ),
)  # fmt: skip
ANSWERS = st.builds(CallResult, st.sampled_from([0, 1, 127, 124, -15]), ODD, st.one_of(st.just(""), ODD))


@given(st.lists(ANSWERS, min_size=8, max_size=8), st.lists(st.sampled_from(["1", "4", "5", "x"]), unique=True))
def test_odd_answers_give_a_record_or_an_error_of_ours(answers: list[CallResult], ids: list[str]) -> None:
    for talk in (slurm.status(ids), slurm.cancel(ids), slurm.find("ex3"), slurm.jobs(), slurm.submit(request())):
        outcome = converse(talk, answers)
        if isinstance(outcome, dict):
            assert set(outcome) <= set(ids)


def converse(talk: Conversation[T], answers: list[CallResult]) -> T | AdaptorError | None:
    try:
        next(talk)
        for each in answers:
            talk.send(each)
    except StopIteration as end:
        value: T = end.value
        return value
    except AdaptorError as error:
        return error
    return None
