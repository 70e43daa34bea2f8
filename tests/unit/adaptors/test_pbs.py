"""The PBS dialect, on what real servers answered."""

import contextlib
import re
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected, UsageError
from pilotmtc_adaptors._dialect import Call, JobRecord, JobRequest, JobState
from pilotmtc_adaptors.pbs import dialect as pbs
from pilotmtc_adaptors.pbs.records import pro_records, pro_records_of_lines, torque_records
from tests.lab.replay import Answer, hold, recorded

PBS = recorded("pbs") | {f"pilot_{name}": case for name, case in recorded("pbs-pilots").items()}
TORQUE = recorded("torque") | {f"pilot_{name}": case for name, case in recorded("torque-pilots").items()}
NO_SHOWQ = Answer("", "showq: no such program", 127)


def options(call: Call) -> dict[str, list[str]]:
    """Return the values of a command's options."""
    found: dict[str, list[str]] = {}
    pairs = [each for each in call.argv[1:] if each != "-n"]
    for option, value in zip(pairs[::2], pairs[1::2], strict=True):
        found.setdefault(option, []).append(value)
    return found


def qsub(request: JobRequest, version: Answer, *between: Answer) -> Call:
    taken, calls = hold(pbs.submit(request), version, *between, Answer("25.pbshost\n"))
    assert taken == "25.pbshost"
    return calls[-1]


def request(**fields: object) -> JobRequest:
    return msgspec.convert({"executable": "/bin/agent", **fields}, JobRequest)


# -- what was recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "state", "native", "exit_code", "signal", "reason"),
    [
        ("qstat_x_ok0", JobState.DONE, "F", 0, None, ""),
        ("qstat_x_exit3", JobState.FAILED, "F", 3, None, "failed"),
        ("qstat_x_sig9", JobState.FAILED, "F", None, 9, "failed"),
        ("qstat_x_sig15", JobState.FAILED, "F", None, 15, "failed"),
        ("qstat_x_wall", JobState.FAILED, "F", None, None, r"walltime.*\(-29\)"),
        ("qstat_x_exe_noent", JobState.FAILED, "F", 254, None, "could not be executed"),
        ("qstat_x_one_deleted", JobState.CANCELED, "F", None, None, "terminated"),
        ("qstat_x_long_deleted", JobState.CANCELED, "F", None, 10, "terminated by ada"),
        ("qstat_x_trap_deleted", JobState.RUNNING, "R", None, None, "terminated by ada"),
        ("qstat_x_workdirmissing", JobState.RUNNING, "E", None, None, "exiting"),
        ("qstat_x_nodes", JobState.DONE, "F", 0, None, ""),
        ("qstat_exiting", JobState.RUNNING, "E", None, None, "exiting"),
        ("qstat_held", JobState.RUNNING, "R", None, None, "held by ada"),
        ("qstat_long_running", JobState.RUNNING, "R", None, None, "Job run at"),
        ("pilot_qstat_exiting_json", JobState.RUNNING, "E", None, None, "exiting"),
        ("pilot_qstat_deleted_while_it_runs", JobState.RUNNING, "R", None, None, "terminated by pbsuser@head"),
        ("pilot_qstat_deleted_while_it_waited", JobState.CANCELED, "F", None, None, "terminated"),
        ("pilot_qstat_walltime", JobState.FAILED, "F", None, None, r"walltime.*\(-29\)"),
        ("pilot_qstat_host_crashed", JobState.FAILED, "F", None, None, r"was restarted \(-4\)"),
        ("pilot_qstat_suspended", JobState.SUSPENDED, "S", None, None, "Job run at"),
    ],
)
def test_openpbs_job_is_what_was_recorded(
    case: str, state: JobState, native: str, exit_code: int | None, signal: int | None, reason: str
) -> None:
    (record,) = pro_records(PBS[case].stdout).values()
    assert (record.state, record.native_state, record.exit_code, record.signal) == (state, native, exit_code, signal)
    assert re.search(reason, record.reason) if reason else not record.reason


@pytest.mark.parametrize(
    ("case", "state", "exit_code", "signal", "reason"),
    [
        ("qstat_fx_ok0", JobState.DONE, 0, None, ""),
        ("qstat_fx_exit3", JobState.FAILED, 3, None, "Job started"),
        ("qstat_fx_sig9", JobState.FAILED, None, 9, "Job started"),
        ("qstat_fx_wall", JobState.FAILED, None, None, r"walltime.*\(-11\)"),
        ("qstat_fx_pbsdsh", JobState.DONE, 0, None, ""),
        ("qstat_long_running_x", JobState.RUNNING, None, None, "Job started"),
        ("pilot_qstat_host_crashed", JobState.DONE, 0, None, ""),
        ("pilot_qstat_deleted_while_it_waited", JobState.CANCELED, None, None, "Queue not started"),
        ("pilot_qstat_deleted_while_it_ran", JobState.CANCELED, None, 15, "deleted"),
        ("pilot_qstat_pilot_after", JobState.DONE, 0, None, ""),
        ("pilot_qstat_walltime_of_queue", JobState.FAILED, None, None, r"walltime.*\(-11\)"),
    ],
)
def test_torque_job_is_what_was_recorded(
    case: str, state: JobState, exit_code: int | None, signal: int | None, reason: str
) -> None:
    (record,) = torque_records(TORQUE[case].stdout).values()
    assert (record.state, record.exit_code, record.signal) == (state, exit_code, signal)
    assert re.search(reason, record.reason) if reason else not record.reason


@pytest.mark.parametrize(
    ("case", "signal", "reason"), [("qstat_long_deleted", 15, "deleted"), ("qstat_one_deleted", None, "")]
)
def test_job_deleted_from_torque_is_canceled(case: str, signal: int | None, reason: str) -> None:
    # Recorded of `qstat -f`: the same attributes that `-x` writes as XML.
    pairs = re.findall(r"^    (\w+) = (.*)$", TORQUE[case].stdout, re.MULTILINE)
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in pairs)
    (record,) = torque_records(f"<Data><Job><Job_Id>20.pbshost</Job_Id>{inner}</Job></Data>").values()
    assert (record.state, record.signal, record.exit_code) == (JobState.CANCELED, signal, None)
    assert reason in record.reason


def test_times_nodes_and_name_are_read() -> None:
    (record,) = torque_records(TORQUE["qstat_fx_pbsdsh"].stdout).values()
    assert (record.created_at, record.started_at, record.ended_at) == (1795383571, 1795383571, 1795383572)
    assert (record.nodes, record.name) == (("n4", "n3", "n2", "n1"), "pbsdsh.sh")
    (record,) = pro_records(PBS["qstat_x_long_deleted"].stdout).values()
    assert record.ended_at == 1795382237
    assert record.started_at is not None
    assert record.created_at is not None
    assert record.ended_at - record.started_at == 5
    assert (record.nodes, record.name) == (("n1", "n2", "n3", "n4"), "pilot.0001")


def test_every_recorded_document_is_read() -> None:
    for case in [each for name, each in PBS.items() if "json" in each.command]:
        pro_records(case.stdout)
    for case in [each for each in TORQUE.values() if each.stdout.startswith("<?xml")]:
        assert all(record.state is not JobState.UNKNOWN for record in torque_records(case.stdout).values())


# -- status ----------------------------------------------------------------------------------------------------------


def test_jobs_that_openpbs_leaves_out_of_its_json_are_asked_for_as_lines() -> None:
    lines = Answer("Job Id: 26.pbshost|Job_Name=pilot.0002|job_state=Q|comment=odd \\| one|queue=workq\n")
    found, calls = hold(pbs.status(["25.pbshost", "26.pbshost"]), PBS["version"], PBS["qstat_two_json"], lines)
    running, waiting = found.values()
    assert isinstance(running, JobRecord)
    assert isinstance(waiting, JobRecord)
    assert (running.state, waiting.state) == (JobState.RUNNING, JobState.PENDING)
    assert [each.argv for each in calls] == [
        ("qsub", "--version"),
        ("qstat", "-x", "-f", "-F", "json", "25.pbshost", "26.pbshost"),
        ("qstat", "-x", "-f", "-F", "dsv", "26.pbshost"),
    ]


def test_lines_of_openpbs_say_what_its_json_does() -> None:
    found = pro_records_of_lines(PBS["qstat_f_dsv"].stdout)
    states = [each.state for each in found.values()]
    assert states == [JobState.RUNNING, JobState.PENDING, JobState.PENDING, JobState.RUNNING]
    assert found["5.pbshost"].name == "wall.sh"
    assert found["9.pbshost"] == pro_records(PBS["qstat_mixed_json"].stdout)["9.pbshost"]


def test_of_several_jobs_on_a_real_server_each_is_told() -> None:
    asked = ["5013.head", "77777.head", "1045.head", "5020.head"]
    answers = PBS["version"], PBS["pilot_qstat_several_json"], PBS["pilot_qstat_several_dsv"]
    found, _ = hold(pbs.status(asked), *answers)
    assert [each.state if isinstance(each, JobRecord) else type(each) for each in found.values()] == [
        JobState.FAILED, JobUnknown, JobUnknown, JobState.CANCELED,
    ]  # fmt: skip
    assert pro_records_of_lines(PBS["pilot_qstat_exiting_dsv"].stdout) == pro_records(
        PBS["pilot_qstat_exiting_json"].stdout
    )


def test_torque_is_asked_for_xml_and_shows_what_is_over() -> None:
    ids = ["0.pbshost", "1.pbshost"]
    found, calls = hold(pbs.status(ids), TORQUE["version"], TORQUE["qstat_fx"])
    assert [each.state for each in found.values() if isinstance(each, JobRecord)] == [JobState.DONE, JobState.FAILED]
    assert calls[1].argv == ("env", "-u", "PBS_QSTAT_NO_COMPLETE", "qstat", "-x", *ids)


def test_unknown_job_is_unknown_and_the_others_are_told() -> None:
    said = Answer(PBS["qstat_two_json"].stdout, "qstat: Unknown Job Id 99999.pbshost\n", 153)
    found, _ = hold(pbs.status(["25.pbshost", "99999"]), PBS["version"], said)
    assert isinstance(found["25.pbshost"], JobRecord)
    assert isinstance(found["99999"], JobUnknown)
    found, _ = hold(pbs.status(["99999.pbshost"]), TORQUE["version"], TORQUE["qstat_unknown_x"])
    assert isinstance(found["99999.pbshost"], JobUnknown)


def test_without_history_the_queue_alone_is_asked() -> None:
    none = Answer("", "qstat: PBS is not configured to maintain job history\n", 1)
    answers = (PBS["version"], none, PBS["qstat_mixed_json"])
    found, calls = hold(pbs.status(["9.pbshost"]), *answers)
    assert isinstance(found["9.pbshost"], JobRecord)
    assert calls[2].argv == ("qstat", "-f", "-F", "json", "9.pbshost")
    unknown = Answer(PBS["pilot_qstat_without_history"].stdout, "qstat: Unknown Job Id 0.head\n", 153)
    found, _ = hold(pbs.status(["0.head"]), PBS["version"], PBS["pilot_qstat_without_history"], unknown)
    assert isinstance(found["0.head"], JobUnknown)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (PBS["version"], PBS["down_qstat_json"]),
        (PBS["version"], PBS["badserver_qstat"]),
        (TORQUE["version"], TORQUE["down_qstat_f"]),
    ],
)
def test_stopped_server_is_not_a_job_that_is_gone(version: Answer, said: Answer) -> None:
    with pytest.raises(StatusUnavailable, match="cannot be reached"):
        hold(pbs.status(["9.pbshost"]), version, said)


def test_job_of_which_nothing_is_said_could_not_be_asked_for() -> None:
    found, _ = hold(pbs.status(["9.pbshost"]), PBS["version"], PBS["qstat_empty_json"])
    assert isinstance(found["9.pbshost"], StatusUnavailable)
    assert not isinstance(found["9.pbshost"], JobUnknown)


@pytest.mark.parametrize("batch_id", ["workq", "-Wforce", "", "1 2", "1.pbshost;x", "@server"])
def test_what_is_no_job_id_never_reaches_a_command_line(batch_id: str) -> None:
    found, _ = hold(pbs.status(["9.pbshost", batch_id]), PBS["version"], PBS["qstat_mixed_json"])
    assert isinstance(found[batch_id], JobUnknown)
    with pytest.raises(StopIteration) as end:
        next(pbs.cancel([batch_id]))
    assert isinstance(end.value.value[batch_id], JobUnknown)


def test_values_that_openpbs_writes_bare_or_unquoted_do_not_hide_the_job() -> None:
    text = PBS["qstat_long_running"].stdout
    for value in ("007", "0x1F", "nan", "-inf", "1e5", "+3", '"say "hi", or not"', '"back\\slash"'):
        (record,) = pro_records(text.replace('"A":	1', f'"A":	{value}')).values()
        assert record.state is JobState.RUNNING


@given(st.text())
def test_noise_is_a_named_error_or_no_jobs(text: str) -> None:
    for parse in (pro_records, torque_records):
        with contextlib.suppress(StatusUnavailable):
            parse(text)


@given(st.data())
def test_damaged_answers_are_records_or_named_errors(data: st.DataObject) -> None:
    for parse, text in (
        (pro_records, PBS["qstat_two_json"].stdout),
        (torque_records, TORQUE["qstat_fx_wall"].stdout),
    ):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 60)))
        damaged = text[:start] + data.draw(st.text(max_size=20)) + text[end:]
        try:
            found = parse(damaged)
        except StatusUnavailable:
            continue
        assert all(isinstance(each, JobRecord) for each in found.values())


# -- submit ----------------------------------------------------------------------------------------------------------


def test_openpbs_gets_select_and_place() -> None:
    call = qsub(
        request(
            name="pilotmtc-7f3a",
            nodes=4,
            cores_per_node=12,
            gpus_per_node=2,
            memory_per_node_bytes=3_000_000_000,
            walltime_s=100 * 3600 + 61,
            queue="workq",
            account="acc 1",
            constraint="cpu_type=rome:switch=r1",
            exclusive=True,
            output="/tmp/out",
        ),
        PBS["version"],
    )
    assert options(call) == {
        "-S": ["/bin/sh"],
        "-r": ["n"],
        "-N": ["pilotmtc-7f3a"],
        "-q": ["workq"],
        "-A": ["acc 1"],
        "-o": ["/tmp/out"],
        "-j": ["oe"],
        "-l": [
            "select=4:ncpus=12:ngpus=2:mem=2929688kb:cpu_type=rome:switch=r1",
            "place=scatter:exclhost",
            "walltime=100:01:01",
        ],
    }
    assert call.stdin.startswith("#!/bin/sh\n")
    assert call.stdin.endswith("exec /bin/agent\n")


def test_torque_gets_nodes_and_extensions() -> None:
    call = qsub(
        request(
            nodes=2,
            cores_per_node=8,
            gpus_per_node=1,
            memory_per_node_bytes=1 << 30,
            walltime_s=60,
            qos="high",
            reservation="meta.1",
            constraint="fast:ib",
            exclusive=True,
        ),
        TORQUE["version"],
        Answer("maui client version 3.3.1\n"),
        Answer("maui client version 3.3.1\n"),
    )
    assert options(call)["-l"] == ["nodes=2:ppn=8:gpus=1:fast:ib", "mem=2097152kb", "walltime=00:01:00"]
    assert options(call)["-W"] == ["x=qos:high;advres:meta.1;naccesspolicy:singlejob"]


@pytest.mark.parametrize("version", [PBS["version"], TORQUE["version"]])
@pytest.mark.parametrize(
    ("fields", "joined"),
    [
        ({"output": "/o"}, ["oe"]),
        ({"error": "/e"}, ["eo"]),
        ({"output": "/o", "error": "/e"}, None),
        ({}, None),  # both are the scheduler's choice
    ],
)
def test_no_output_is_left_without_a_place(version: Answer, fields: dict[str, str], joined: list[str] | None) -> None:
    assert options(qsub(request(**fields), version)).get("-j") == joined


def test_torque_by_itself_is_asked_for_whole_nodes() -> None:
    call = qsub(request(nodes=2, exclusive=True), TORQUE["version"])
    assert "-n" in call.argv
    assert "-n" not in qsub(request(nodes=2, exclusive=True), PBS["version"]).argv


@pytest.mark.parametrize("what", ["qos", "reservation"])
def test_torque_by_itself_refuses_what_only_moab_knows(what: str) -> None:
    with pytest.raises(UsageError, match=f"{what} 'high'.*Moab"):
        qsub(request(**{what: "high"}), TORQUE["version"], NO_SHOWQ)


@pytest.mark.parametrize(
    "fields", [{"output": "/w/a b/out"}, {"error": "e\tx"}, {"output": "o", "working_directory": "/w/a b"}]
)
def test_path_with_blanks_is_refused_where_torque_would_lose_it(fields: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="blanks"):
        qsub(request(**fields), TORQUE["version"])
    qsub(request(**{"output": "/w/out", "working_directory": "/w/a b"}), TORQUE["version"])


def test_named_hosts_are_asked_for_each() -> None:
    named = request(nodes=2, cores_per_node=4, candidate_hosts=("n1", "n2"))
    assert options(qsub(named, PBS["version"]))["-l"][0] == "select=1:ncpus=4:host=n1+1:ncpus=4:host=n2"
    assert options(qsub(named, TORQUE["version"]))["-l"][0] == "nodes=n1:ppn=4+n2:ppn=4"


def test_reservation_of_openpbs_is_its_queue() -> None:
    assert options(qsub(request(reservation="R12.pbshost"), PBS["version"]))["-q"] == ["R12"]


@pytest.mark.parametrize(
    ("fields", "version", "named"),
    [
        ({"qos": "high"}, PBS["version"], "qos 'high'"),
        ({"queue": "a", "reservation": "R1"}, PBS["version"], "reservation 'R1'"),
        ({"constraint": "a=b+1:ncpus=4"}, PBS["version"], "constraint"),
        ({"constraint": "a=b\n#PBS -q x"}, PBS["version"], "constraint"),
        ({"constraint": "n=1+2"}, TORQUE["version"], "constraint"),
        ({"qos": "a;b"}, TORQUE["version"], "qos 'a;b'"),
        ({"queue": "-q"}, PBS["version"], "queue '-q'"),
        ({"queue": "a b"}, PBS["version"], "queue 'a b'"),
        ({"account": "a\nb"}, PBS["version"], "account"),
        ({"name": "has space"}, PBS["version"], "job name 'has space'"),
        ({"name": "1st"}, PBS["version"], "job name '1st'"),
        ({"output": "host:/tmp/x"}, PBS["version"], "output"),
        ({"error": "/tmp/$PBS_JOBID"}, TORQUE["version"], "error"),
        ({"nodes": 3, "candidate_hosts": ("n1",)}, PBS["version"], "candidate hosts"),
        ({"candidate_hosts": ("n1+n2",)}, PBS["version"], "candidate host"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, object], version: Answer, named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        qsub(request(**fields), version)


@pytest.mark.parametrize(
    ("version", "case", "words"),
    [
        (PBS["version"], PBS["qsub_badqueue"], "Unknown queue"),
        (PBS["version"], PBS["qsub_closedqueue"], "Queue is not enabled"),
        (PBS["version"], PBS["qsub_toolong"], "resource limits"),
        (PBS["version"], PBS["qsub_badres"], "Unknown resource"),
        (PBS["version"], PBS["qsub_privqueue"], "Unauthorized"),
        (TORQUE["version"], TORQUE["qsub_badqueue"], "queue not found"),
        (TORQUE["version"], TORQUE["qsub_closedqueue"], "disabled"),
        (TORQUE["version"], TORQUE["qsub_toolong"], "walltime"),
        (TORQUE["version"], TORQUE["qsub_badwall"], "Illegal attribute"),
    ],
)
def test_refusal_is_told_in_the_schedulers_words(version: Answer, case: Answer, words: str) -> None:
    with pytest.raises(SubmitRejected, match=words):
        hold(pbs.submit(request()), version, case)


@pytest.mark.parametrize(
    ("version", "case"), [(PBS["version"], PBS["down_qsub"]), (TORQUE["version"], TORQUE["down_qsub"])]
)
def test_submission_to_a_stopped_server_can_be_tried_again(version: Answer, case: Answer) -> None:
    with pytest.raises(StatusUnavailable) as caught:
        hold(pbs.submit(request()), version, case)
    assert not isinstance(caught.value, AnswerLost)


@pytest.mark.parametrize("said", [Answer(""), Answer("welcome\n"), Answer("", "qsub: End of File", 1)])
def test_submission_without_an_id_may_have_been_taken(said: Answer) -> None:
    with pytest.raises(AnswerLost):
        hold(pbs.submit(request()), PBS["version"], said)


def test_server_with_short_names_gets_one_that_can_be_found() -> None:
    name = "pilotmtc-0123456789abcdef"
    taken, calls = hold(pbs.submit(request(name=name)), TORQUE["version"], PBS["qsub_badname"], Answer("1.h\n"))
    short = options(calls[2])["-N"][0]
    assert taken == "1.h"
    assert len(short) <= 15
    nothing, one = Answer(""), Answer("1.h\n")
    found, calls = hold(pbs.find(name), TORQUE["version"], Answer("ada\n"), nothing, one)
    assert found == ("1.h",)
    assert [each.argv for each in calls[2:]] == [
        ("qselect", "-u", "ada", "-N", name),
        ("qselect", "-u", "ada", "-N", short),
    ]


def test_another_program_of_that_name_is_no_pbs() -> None:
    with pytest.raises(StatusUnavailable, match="neither"):
        hold(pbs.submit(request()), Answer("qsub of Grid Engine 8\n"))


# -- cancel, find ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        PBS["qdel_running"],
        PBS["qdel_finished"],
        PBS["pilot_qdel_exiting"],
        TORQUE["qdel_running"],
        TORQUE["qdel_done"],
        TORQUE["qdel_again"],
    ],
)
def test_deleted_job_and_one_that_is_over_are_no_errors(case: Answer) -> None:
    assert hold(pbs.cancel(["1.pbshost"]), case)[0] == {}


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (PBS["qdel_unknown_full"], JobUnknown),
        (TORQUE["qdel_unknown"], JobUnknown),
        (PBS["qdel_foreign"], AdaptorError),
        (TORQUE["qdel_foreign"], AdaptorError),
    ],
)
def test_job_that_cannot_be_deleted_is_told(case: Answer, kind: type[AdaptorError]) -> None:
    errors, _ = hold(pbs.cancel(["99999.pbshost"]), case)
    assert type(errors["99999.pbshost"]) is kind


def test_each_job_is_deleted_by_itself() -> None:
    # OpenPBS's server crashed when it was asked to delete a job that it knows and one that it does not.
    running, unknown, foreign, gone = PBS["qdel_running"], PBS["pilot_qdel_unknown"], PBS["qdel_foreign"], Answer()
    asked = ["1000.head", "77777.head", "31.head", "1001.head"]
    errors, calls = hold(pbs.cancel(asked), running, unknown, foreign, gone)
    assert {each: type(error) for each, error in errors.items()} == {"77777.head": JobUnknown, "31.head": AdaptorError}
    assert [each.argv for each in calls] == [("qdel", each) for each in asked]


@pytest.mark.parametrize("case", [PBS["down_qdel"], TORQUE["down_qdel"]])
def test_cancel_at_a_stopped_server_could_not_be_asked(case: Answer) -> None:
    with pytest.raises(StatusUnavailable):
        hold(pbs.cancel(["9.pbshost"]), case)


def ids(found: Sequence[str]) -> Answer:
    return Answer("".join(f"{each}\n" for each in found))


def test_own_jobs_come_in_the_order_of_their_numbers() -> None:
    found, calls = hold(pbs.jobs(), PBS["version"], Answer("ada\n"), PBS["qselect"])
    assert found == ("7.pbshost", "18.pbshost", "19.pbshost", "20.pbshost", "21[].pbshost", "22.pbshost")
    assert calls[-1].argv == ("qselect", "-u", "ada")
    found, _ = hold(pbs.find("a"), PBS["version"], Answer("ada\n"), ids(["100.h", "9.h"]))
    assert found == ("9.h", "100.h")
