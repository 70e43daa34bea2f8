"""``status``, ``tasks``, ``task``, ``logs`` and ``results``: what they print of a store with a past."""

import csv
import io
from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.model import Function, Template, Value
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.values import PutValue
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, call_row, digest_of, result, row
from tests.user import User


def ids(user: User, *words: str) -> list[int]:
    return [record["id"] for record in user.cli("tasks", *words, "--json").records]


def test_status_shows_campaigns_and_says_that_a_pilot_is_missing(past: User) -> None:
    done = past.cli("status")
    head, row = (line.split() for line in done.out.splitlines() if "CAMPAIGN" in line or line.endswith("mix"))
    assert head[:2] == ["CAMPAIGN", "CREATED"]
    assert row[-6:] == ["4", "4", "1", "0", "1", "mix"]
    assert done.err == "no pilot is active to run what is left: pilotmtc pilot submit\n"


def test_status_of_one_campaign_counts_states(past: User) -> None:
    lines = dict(line.split(maxsplit=1) for line in past.cli("status", "1").out.splitlines())
    assert lines["campaign"] == "1 (mix)"
    assert {state: lines[state] for state in ("done", "failed", "skipped", "ready")} == {
        "done": "4", "failed": "4", "skipped": "1", "ready": "1",
    }  # fmt: skip


def test_status_as_json_is_one_object(past: User) -> None:
    found = past.cli("status", "--json").record
    assert found["store"]["path"] == str(past.store)
    (campaign,) = found["campaigns"]
    assert (campaign["id"], campaign["name"], campaign["tasks"], campaign["sealed"]) == (1, "mix", 10, True)
    assert campaign["created_at"].endswith("Z")
    assert found["pilots"] == []


def test_store_may_be_named_before_and_behind_the_command(past: User) -> None:
    past.store.rename(past.here / "other.db")
    for words in (["--store", "other.db", "status", "--json"], ["status", "--json", "--store", "other.db"]):
        assert past.cli(*words).record["campaigns"][0]["tasks"] == 10
    # Hints name it, too: they are to be typed as they stand.
    assert "pilotmtc --store other.db pilot submit" in past.cli("--store", "other.db", "status").err
    assert not past.store.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (["2", "7-9"], [2, 7, 8, 9]),
        (["--newest", "--limit", "2"], [10, 9]),
        (["--campaign", "1", "--limit", "0", "--state", "failed"], [4, 6, 7, 8]),
        (["-s", "FAILED", "-s", "skipped"], [4, 5, 6, 7, 8]),
        (["--name", "good-*"], [1, 2, 3]),
        (["--name", "good-?", "--name", "slow"], [1, 2, 3, 6]),
        (["--tag", "night"], [1, 2, 3]),
        (["--tag", "night", "--tag", "n2"], [2]),
        (["--exit", "3"], [4]),
        (["--exit", "0", "--exit", "3", "--newest"], [9, 4, 3, 2, 1]),
        (["--cause", "timeout", "--cause", "launch-error"], [6, 7]),
        (["--pilot", "1", "--state", "done"], [1, 2, 3, 9]),
        (["1-5", "--state", "failed"], [4]),
    ],
)
def test_tasks_are_chosen_by_all_conditions(past: User, words: list[str], expected: list[int]) -> None:
    assert ids(past, *words) == expected


def test_tasks_as_a_table(past: User) -> None:
    done = past.cli("tasks", "--limit", "4")
    lines = done.out.splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:4] == ["1", "1", "DONE", "1"]
    assert lines[1].endswith("good-1  echo out 1; echo more; echo err 1 >&2")
    assert "exit 3" in lines[4]
    assert done.err == "there are more than 4: use --limit\n"
    assert past.cli("tasks", "--name", "nobody").err == "no such tasks\n"


def test_task_as_json_has_all_about_it(past: User) -> None:
    good = past.cli("tasks", "1", "--json").record
    assert good["command"] == "echo out {n}; echo more; echo err {n} >&2"
    assert (good["shell"], good["params"], good["tags"]) == (True, {"n": "1"}, ["night", "n1"])
    assert (good["last"]["cause"], good["last"]["exit_code"], good["last"]["stdout_bytes"]) == ("EXIT", 0, 11)
    bad = past.cli("task", "4", "--json").record
    assert [attempt["exit_code"] for attempt in bad["attempts"]] == [3, 3]
    assert bad["needed_by"] == [{"id": 5, "state": "SKIPPED", "well": True}]
    assert (bad["failures"], bad["max_retries"]) == (2, 1)
    skipped = past.cli("task", "5", "--json").record
    assert skipped["needs"] == [{"id": 4, "state": "FAILED", "well": True}]
    assert (skipped["attempts"], skipped["last"]) == ([], None)
    gone = past.cli("task", "7", "--json").record
    assert gone["command"] == ["no-such-program", "x y"]
    assert "no-such-program: no such program in PATH" in gone["last"]["message"]


def test_task_for_people(past: User) -> None:
    done = past.cli("task", "4")
    for words in ("4 (bad) of campaign 1", "FAILED (exit 3)", "1 of 1 used", "5 (SKIPPED)", "1 core"):
        assert words in done.out
    assert done.err == "what it wrote: pilotmtc logs 4\n"
    assert "no-such-program 'x y'" in past.cli("task", "7").out
    assert "killed by SIGSEGV" in past.cli("task", "8").out
    assert "at most 0s" not in past.cli("task", "6").out
    assert "COLOUR=blue" in past.cli("task", "1").out


def test_logs_keep_the_streams_apart(past: User) -> None:
    done = past.cli("logs", "1", "2")
    assert done.out == "out 1\nmore\nout 2\nmore\n"
    assert done.err == "err 1\nerr 2\n"
    assert past.cli("logs", "1", "--stdout") == ("out 1\nmore\n", "", 0)
    assert past.cli("logs", "1", "--stderr") == ("err 1\n", "", 0)


def test_logs_of_an_attempt(past: User) -> None:
    assert past.cli("logs", "4").out == "try 2\n"
    assert past.cli("logs", "4", "--attempt", "1").out == "try 1\n"
    assert "task 4 has no attempt 3" in past.cli("logs", "4", "-a", "3", code=2).err
    assert "task 5 has no attempt that has ended" in past.cli("logs", "5", code=2).err


def test_logs_as_json(past: User) -> None:
    found = past.cli("logs", "1", "4", "--json").records
    assert found[0] == {
        "id": 1, "attempt": 1, "stdout": "out 1\nmore\n", "stdout_bytes": 11, "stderr": "err 1\n", "stderr_bytes": 6,
    }  # fmt: skip
    assert found[1]["stderr"] == "oh\nbroken\n"
    assert "stderr" not in past.cli("logs", "1", "--json", "--stdout").record


def test_large_output_comes_out_of_its_file(past: User, history: Path) -> None:
    assert past.cli("logs", "9").out == "x" * 200000
    (file,) = history.with_name("store.db.d").glob("pilots/*/outputs/*")
    away = file.rename(file.with_suffix(".away"))
    try:
        gone = f"pilotmtc: warning: {file}, which holds the whole output, cannot be read: No such file or directory"
        for words in (["logs", "9"], ["logs", "9", "--json"], ["results", "--csv", "-s", "done", "--stdout", "whole"]):
            done = past.cli(*words)
            assert f"{gone}; the store has its head and tail\n" in done.err
            assert "xxx\n[pilotmtc: " in done.out.replace("\\n", "\n")
        assert len(past.cli("results", "--json", "--state", "done").records[3]["stdout"]) > 1000
    finally:
        away.rename(file)


def test_results_as_csv(past: User) -> None:
    rows = list(csv.DictReader(io.StringIO(past.cli("results", "1", "--csv").out)))
    assert [int(row["id"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [row["state"] for row in rows] == ["DONE"] * 3 + ["FAILED", "SKIPPED", "FAILED", "FAILED", "FAILED", "DONE"]
    assert [row["cause"] for row in rows[3:8]] == ["EXIT", "", "TIMEOUT", "LAUNCH_ERROR", "SIGNAL"]
    assert [row["n"] for row in rows] == ["1", "2", "3", "", "", "", "", "", ""]
    assert (rows[0]["stdout"], rows[3]["exit_code"], rows[7]["signal"]) == ("out 1", "3", "11")
    assert "stderr" not in rows[0]


def test_results_choose_states_and_parts(past: User) -> None:
    words = ["results", "--csv", "-s", "done", "--stdout", "whole", "--stderr", "whole", "--limit", "2"]
    rows = list(csv.DictReader(io.StringIO(past.cli(*words).out)))
    assert [(row["stdout"], row["stderr"]) for row in rows] == [
        ("out 1\nmore\n", "err 1\n"), ("out 2\nmore\n", "err 2\n"),
    ]  # fmt: skip
    (large,) = past.cli("results", "--json", "--stdout", "whole", "-s", "done").records[3:]
    assert len(large["stdout"]) == 200000
    assert "stdout" not in past.cli("results", "--json", "--stdout", "none", "-n", "1").record


def test_results_as_a_table(past: User) -> None:
    done = past.cli("results", "--limit", "3")
    assert done.out.splitlines()[0].split()[:5] == ["TASK", "NAME", "n", "STATE", "END"]
    assert done.err == "there are more than 3: use --limit, or pilotmtc results 1 --csv\n"


def test_objects_that_tasks_print_are_columns(user: User) -> None:
    script = """printf '{"loss": %s, "id": "x,y"}\\n%s' {a} {b}; echo err >&2"""
    user.cli("run", "-q", script, ":::", "1.50", ":::", "", '{"more": [1]}', "oops")
    words = ["--stdout", "json", "--stderr", "first"]
    rows = list(csv.DictReader(io.StringIO(user.cli("results", "--csv", *words).out)))
    assert [(r["loss"], r["stdout.id"], r["more"], r["stdout_error"], r["stderr"]) for r in rows] == [
        ("1.50", "x,y", "", "", "err"), ("1.50", "x,y", "[1]", "", "err"),
        ("1.50", "x,y", "", "line 2 is not JSON: 'oops'", "err"),
    ]  # fmt: skip
    records = user.cli("results", "--json", *words).records
    assert [(r["stdout"], r["stdout_error"]) for r in records] == [
        ({"loss": 1.5, "id": "x,y"}, None), ({"loss": 1.5, "id": "x,y", "more": [1]}, None),
        ({"loss": 1.5, "id": "x,y"}, "line 2 is not JSON: 'oops'"),
    ]  # fmt: skip
    head, *lines = user.cli("results", *words).out.splitlines()
    assert head.split()[-5:] == ["loss", "id", "more", "STDOUT", "STDERR"]
    assert lines[1].split()[-4:] == ["1.50", "x,y", "[1]", "err"]
    exported = user.cli("store", "export", "-f", "csv", "--stdout", "json", "--stderr", "first").out
    assert list(csv.DictReader(io.StringIO(exported))) == rows


def test_csv_is_read_back_whatever_tasks_print(user: User) -> None:
    text = ' 10%\r 50%\n"q",x\r\n\x0b\x0c\x1c é\n'
    large = text * 3000
    user.file("out", large)
    user.cli("run", "-q", "--grid", "n=a,b", "if [ {n} = a ]; then cat out; else head -c 45 out; fi; echo 'e\r' >&2")
    words = ("--stdout", "whole", "--stderr", "whole")
    for command in (["results", "--csv"], ["store", "export", "-f", "csv"]):
        rows = list(csv.DictReader(io.StringIO(user.cli(*command, *words).out, newline="")))
        assert [row["stdout"] for row in rows] == [large, large.encode()[:45].decode("utf-8", "replace")]
        assert [row["state"] for row in rows] == ["DONE", "DONE"]
    assert [one["stdout"] for one in user.cli("results", "--json", *words).records] == [row["stdout"] for row in rows]
    assert user.cli("run", "-q", "--json", "cat out").record["stdout"] == large


def test_results_of_nothing_yet(user: User) -> None:
    user.cli("submit", "true")
    assert user.cli("results").err == "no results yet: 1 task of campaign 1 has not finished\n"
    assert user.cli("results", "--json").out == ""


def test_parameter_named_like_a_column_is_told_apart(user: User) -> None:
    user.cli("run", "-q", "--grid", "state=a", "--grid", "id=7", "echo {state} {id}")
    (row,) = csv.DictReader(io.StringIO(user.cli("results", "--csv").out))
    assert (row["state"], row["params.state"], row["id"], row["params.id"]) == ("DONE", "a", "1", "7")


def test_parameter_with_blanks_is_filtered_by_in_quotation_marks(user: User) -> None:
    user.file("p.csv", "mass (GeV),v\n1,a\n10,b\n")
    user.cli("submit", "--from", "p.csv", "true {v}")
    assert [one["id"] for one in user.cli("tasks", "--json", "-f", '"mass (GeV)">1').records] == [2]
    assert "quotation marks, as in '\"mass (GeV)\">1'" in user.cli("tasks", "-f", "mass (GeV)>1", code=2).err


def test_empty_store_says_so(user: User) -> None:
    user.store.touch()
    assert "no campaigns yet" in user.cli("status").out
    assert user.cli("tasks", "--json").out == ""
    assert "there is no campaign in" in user.cli("results", code=2).err
    assert user.cli("pilot", "list").err == "no active pilots; to see those that have ended: --all\n"


def test_output_that_is_no_text_comes_out_as_it_went_in(user: User) -> None:
    done = user.cli("run", r"printf '\377\000\376\n'")
    assert done.out.encode("utf-8", "surrogateescape") == b"\xff\x00\xfe\n"
    assert user.cli("logs", "1").out.encode("utf-8", "surrogateescape") == b"\xff\x00\xfe\n"
    assert user.cli("results", "--json").record["stdout"] == "\ufffd\x00\ufffd"
    user.cli("results")
    user.cli("results", "--csv")


@pytest.mark.parametrize("words", [["results"], ["results", "--csv"], ["tasks"], ["status"], ["task", "1"]])
def test_names_of_any_language_survive_an_ascii_locale(user: User, words: list[str]) -> None:
    user.cli("submit", "--name", "größe", "--task-name", "naïve-{n}", "--grid", "n=ж", "echo {n}")
    user.cli(*words, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


def test_what_calls_returned_is_shown_as_text(user: User) -> None:
    store = SqliteStore(user.store)
    kit = Kit(store)
    code = b"a function"
    store.call(PutValue(digest_of(code), 0, len(code), code))
    template = Template(("work()",), function=Function("work", digest_of(code)))
    kit.submit(call_row(), call_row(), template=template)
    pilot = kit.pilot()
    fine, wrong = kit.claim(pilot)
    told = (
        replace(result(fine), value=Value(b"x"), value_text="array([1, 2])"),
        replace(result(wrong, code=1), value=Value(b"y"), value_text="ValueError: bad\nx"),
    )
    store.call(Finish(pilot, told))
    kit.submit(row(1), template=Template(("echo", "{value}"), fields=("value",)))
    kit.finish(pilot, *kit.claim(pilot))
    store.close()
    rows = list(csv.DictReader(io.StringIO(user.cli("results", "1", "--csv").out)))
    assert [row["value"] for row in rows] == ["array([1, 2])", "ValueError: bad\nx"]
    assert list(rows[0])[-3:] == ["known_from", "value", "stdout"]
    rows = list(csv.DictReader(io.StringIO(user.cli("store", "export", "--format", "csv").out)))
    assert [row["value"] for row in rows] == ["", "", "1"]  # a parameter's
    found = user.cli("results", "1", "--json").records + user.cli("results", "2", "--json").records
    assert [one["value_text"] for one in found] == ["array([1, 2])", "ValueError: bad\nx", None]
    assert user.cli("task", "1", "--json").record["attempts"][0]["value_text"] == "array([1, 2])"
    assert "array([1, 2])" in user.cli("task", "1").out
    assert "ValueError: bad" in user.cli("task", "2").out


def test_report_says_where_the_time_went(past: User) -> None:
    text = past.cli("report").out
    assert text.startswith("Report on campaign 1 (mix)\n")
    assert "Where the time of cores went" in text
    found = past.cli("report", "1", "--json").record
    assert found["tasks"] == {"READY": 1, "DONE": 4, "FAILED": 4, "SKIPPED": 1}
    assert (found["campaigns"], found["attempts"], found["created_at"][-1]) == ([1], 9, "Z")
    assert [pilot["id"] for pilot in found["pilots"]] == [1]


def test_attempts_as_csv(past: User) -> None:
    rows = list(csv.DictReader(io.StringIO(past.cli("report", "--csv").out)))
    assert [(row["task"], row["attempt"]) for row in rows][2:6] == [("3", "1"), ("4", "1"), ("4", "2"), ("6", "1")]
    assert {row["ended_at"][-1] for row in rows} == {"Z"}


def test_report_on_what_is_not_there(user: User, past: User) -> None:
    assert "there is no campaign 99" in past.cli("report", "99", code=2).err
    assert "exclude each other" in past.cli("report", "--csv", "--json", code=2).err


def test_report_is_written_to_files(past: User) -> None:
    files = {form: past.here / f"report.{form}" for form in ("html", "trace")}
    done = past.cli("report", *(word for form, file in files.items() for word in (f"--{form}", str(file))))
    assert (done.out, done.err) == ("", "")
    assert "<canvas" in files["html"].read_text()
    assert b"core 0" in files["trace"].read_bytes()
    assert "cannot be written" in past.cli("report", "--html", "/nowhere/report.html", code=2).err


def test_plan_says_what_no_shape_runs(past: User) -> None:
    found = past.cli("plan", "1", "--shape", "1x1x2", "--shape", "2x1x1", "--duration", "10s", "--json").record
    assert [row["shape"] for row in found["rows"]] == ["1x1x2", "2x1x1"]
    assert (found["tasks"], found["best"], found["rows"][0]["left"]) == (1, "", 1)  # it needs a licence
    assert "none of them runs all tasks" in past.cli("plan", "--shape", "1x1x2", "--duration", "10s").out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--shape", "many"), "--shape: 'many' is not a shape"), (("--memory", "x"), "--memory: "),
        (("--walltime", "x"), "--walltime: "), (("--wait", "x"), "--wait: "),
        (("--duration", "3s..2s"), "--duration: "),
    ],
)  # fmt: skip
def test_plan_says_first_what_is_wrong_with_its_options(user: User, words: tuple[str, str], fault: str) -> None:
    """Before it looks for a store, a campaign or a file."""
    done = user.cli("plan", "no-such-file.toml", *words, code=2)
    assert fault.replace(": ", "': ", 1) in done.err
    assert "see pilotmtc plan --help" in done.err
