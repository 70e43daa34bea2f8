"""The Moab dialect, on answers in the shapes that are documented."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected, UsageError
from pilotmtc_adaptors._dialect import JobRecord, JobRequest, JobState
from pilotmtc_adaptors.moab import dialect as moab
from tests.lab.moab import (
    CANCELED,
    CHECKJOB,
    NOTHING,
    REFUSED,
    SHOWQ,
    TAKEN,
    TIMED_OUT,
    UNKNOWN,
    USER,
    completed,
    over,
)
from tests.lab.replay import Answer, hold


def request(**fields: object) -> JobRequest:
    return msgspec.convert({"executable": "/bin/agent", **fields}, JobRequest)


def test_id_comes_after_an_empty_line() -> None:
    taken, (call,) = hold(moab.submit(request(name="pilotmtc-x")), TAKEN)
    assert taken == "4761849"
    assert call.argv == ("msub", "-S", "/bin/sh", "-r", "n", "-N", "pilotmtc-x", "-l", "nodes=1")
    assert hold(moab.submit(request()), Answer("\nMoab.17\n"))[0] == "Moab.17"


def test_everything_asked_for_is_in_the_options() -> None:
    _, (call,) = hold(
        moab.submit(
            request(
                name="x", nodes=4, cores_per_node=12, gpus_per_node=2, memory_per_node_bytes=1 << 20, walltime_s=3661,
                signal_s=60, queue="batch", account="acc", qos="high", constraint="fast", reservation="r.1",
                exclusive=True, output="o", error="/e", working_directory="/w",
            )
        ),
        TAKEN,
    )  # fmt: skip
    assert call.argv == (
        "msub", "-S", "/bin/sh", "-r", "n", "-N", "x", "-q", "batch", "-A", "acc", "-o", "/w/o", "-e", "/e",
        "-l", "nodes=4:ppn=12:gpus=2:fast", "-l", "mem=4096kb", "-l", "walltime=01:01:01",
        "-W", "x=qos:high;advres:r.1;naccesspolicy:singlejob",
    )  # fmt: skip
    assert "sleep 3601; kill -TERM" in call.stdin


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer("", "ERROR:    cannot submit job - invalid class\n", 1), SubmitRejected),
        (REFUSED, StatusUnavailable),
        (TIMED_OUT, AnswerLost),
        (Answer("\n"), AnswerLost),
        (Answer("", "", -9), AnswerLost),
    ],
)
def test_no_is_told_from_no_answer(answer: Answer, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        hold(moab.submit(request()), answer)
    assert type(raised.value) is error


def test_many_jobs_are_told_by_two_calls_whatever_id_they_are_known_by() -> None:
    ids = ["101", "101.server", "Moab.6", "102", "103", "200", "201"]
    answers = (USER, SHOWQ, completed(over(200, "0"), over(201, "CNCLD", "Removed")))
    found, calls = hold(moab.status(ids), *answers)
    assert [call.argv[:2] for call in calls] == [("id", "-un"), ("showq", "--xml"), ("showq", "-c")]
    states = {each: record.state for each, record in found.items() if isinstance(record, JobRecord)}
    assert states == {
        "101": JobState.RUNNING, "101.server": JobState.RUNNING, "Moab.6": JobState.SUSPENDED,
        "102": JobState.PENDING, "103": JobState.PENDING, "200": JobState.DONE, "201": JobState.CANCELED,
    }  # fmt: skip
    held = found["103"]
    assert isinstance(held, JobRecord)
    assert (held.native_state, held.reason) == ("BatchHold", "IdlePolicy: job 103 violates idle HARD MAXIPROC limit")
    running = found["101"]
    assert isinstance(running, JobRecord)
    assert (running.nodes, running.name, running.started_at) == (("n4545",), "agent", 1553362801.0)
    assert running.ended_at is None


@pytest.mark.parametrize(
    ("job", "state", "exit_code", "signal", "reason"),
    [
        (over(1, "0"), "Done", 0, None, ""),
        (over(1, "3"), "Failed", 3, None, ""),
        (over(1, "137"), "Failed", None, 9, ""),
        (over(1, "-11"), "Failed", None, None, "walltime"),
        (over(1, "CNCLD", "Removed"), "Canceled", None, None, "canceled"),
        (over(1, "271", "Removed"), "Canceled", None, 15, "deleted"),
        (over(1, "0", "Removed"), "Canceled", None, None, "canceled"),
        (over(1, "271", "Removed", used=3600, wanted=3600), "Failed", None, None, "walltime"),
        (over(1, "CNCLD", "Removed", used=3610, wanted=3600), "Failed", None, None, "walltime"),
        (over(1, "0", "Vacated"), "Failed", None, None, "vacated"),
        (over(1, ""), "Failed", None, None, "does not say"),
        (over(1, "0", "Dreaming"), "Unknown", None, None, ""),
    ],
)
def test_end_of_a_job_is_what_the_code_and_the_times_say(
    job: str, state: str, exit_code: int | None, signal: int | None, reason: str
) -> None:
    found, _ = hold(moab.status(["1"]), USER, NOTHING, completed(job))
    record = found["1"]
    assert isinstance(record, JobRecord)
    assert (record.state, record.exit_code, record.signal) == (state, exit_code, signal)
    assert reason in record.reason


def test_job_in_no_list_is_asked_for_by_itself() -> None:
    found, calls = hold(moab.status(["90"]), USER, SHOWQ, completed(), CHECKJOB)
    assert calls[-1].argv == ("checkjob", "--xml", "90")
    record = found["90"]
    assert isinstance(record, JobRecord)
    assert (record.state, record.exit_code, record.nodes) == (JobState.FAILED, 3, ("n1", "n2"))
    found, _ = hold(moab.status(["90"]), USER, SHOWQ, completed(), UNKNOWN)
    assert isinstance(found["90"], JobUnknown)
    for silent in (TIMED_OUT, NOTHING):
        found, _ = hold(moab.status(["90"]), USER, SHOWQ, completed(), silent)
        assert isinstance(found["90"], StatusUnavailable)


def test_moab_that_cannot_be_asked_is_not_gone() -> None:
    for talk in (moab.status(["1"]), moab.find("x"), moab.jobs()):
        with pytest.raises(StatusUnavailable):
            hold(talk, USER, REFUSED)


def test_cancel_tells_apart_what_was_over_unknown_or_forbidden() -> None:
    denied = Answer("", "ERROR:  not authorized to cancel job '3'\n", 1)
    gone = Answer("", "ERROR:  job has completed\n", 1)
    errors, calls = hold(moab.cancel(["101", "2", "3", "4"]), CANCELED, UNKNOWN, denied, gone)
    assert [call.argv for call in calls] == [("canceljob", each) for each in ("101", "2", "3", "4")]
    assert sorted(errors) == ["2", "3"]
    assert isinstance(errors["2"], JobUnknown)
    assert "not authorized" in str(errors["3"])
    with pytest.raises(StatusUnavailable):
        hold(moab.cancel(["1"]), REFUSED)


def test_found_and_listed_are_in_the_order_of_their_submission() -> None:
    assert hold(moab.find("agent"), USER, SHOWQ, completed(over(200, "0")))[0] == ("200", "101", "102")
    assert hold(moab.find("agen"), USER, SHOWQ, completed())[0] == ()
    assert hold(moab.jobs(), USER, SHOWQ)[0] == ("101", "106", "102", "103")


@pytest.mark.parametrize("field", ["name", "queue", "account", "qos", "constraint", "reservation", "output"])
@pytest.mark.parametrize("value", ["--foo", "a\nb", "\x1b[31m"])
def test_options_and_control_characters_are_refused(field: str, value: str) -> None:
    with pytest.raises(UsageError, match=field):
        next(moab.submit(request(**{field: value})))


def test_every_field_is_mapped_or_refused_by_name() -> None:
    assert {each.name for each in msgspec.structs.fields(JobRequest)} - moab.maps == {"file_transfer"}


@pytest.mark.parametrize("foreign", ["", "-h", "ALL", "1,2", "x\n", "1 2", "r:^"])
def test_foreign_ids_are_never_asked_for(foreign: str) -> None:
    for verb in (moab.status, moab.cancel):
        with pytest.raises(StopIteration) as end:
            next(verb([foreign]))
        assert isinstance(end.value.value[foreign], JobUnknown)


WHOLE = [each.stdout for each in (SHOWQ, NOTHING, CHECKJOB, completed(over(1, "0")), TAKEN, CANCELED)]
MUTATED = st.builds(
    lambda text, at, count, more: text[:at] + more + text[at + count :],
    st.sampled_from(WHOLE), st.integers(0, 900), st.integers(0, 90), st.text(max_size=9),
)  # fmt: skip
ANSWERS = st.builds(
    Answer, st.one_of(MUTATED, st.text(), st.sampled_from(WHOLE)), st.sampled_from(["", UNKNOWN.stderr, "x"]),
    st.sampled_from([0, 1, -9]),
)  # fmt: skip


@given(st.lists(ANSWERS, min_size=9, max_size=9))
def test_odd_answers_give_a_record_or_an_error_of_ours(answers: list[Answer]) -> None:
    for talk in (moab.status(["1", "101"]), moab.cancel(["1"]), moab.find("x"), moab.jobs(), moab.submit(request())):
        try:
            hold(talk, *answers)
        except AdaptorError:
            continue
