"""``pilotmtc run`` as it is used: where values come from, what is shown, how it ends, and going on."""

import os
import shlex
import shutil
import signal
import subprocess
import venv
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.user import User


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (["echo {}", ":::", "1", "2", "3"], None, ["1", "2", "3"]),
        (["echo", ":::", "a b", "*"], None, ["*", "a b"]),
        (["echo", "{2}-{1}", ":::", "a", "b", ":::", "1", "2"], None, ["1-a", "1-b", "2-a", "2-b"]),
        (["echo {}"], b"x\n\ny y\r\nlast", ["last", "x", "y y"]),
        (["cat {}"], b"", []),
        (["echo one"], b"", ["one"]),
        (["--from", "-", "echo <{1}>"], b"1\n2\n", ["<1>", "<2>"]),
        (["--from", "-", "--format", "jsonl", "echo {a}"], b'{"a": 1.50}\n{"a": "x y"}\n', ["1.50", "x y"]),
        (["--from", "p.csv", "echo {mass}/{seed}"], None, ["1.5/3", "2/4"]),
        (["--from", "p.csv", "--grid", "k=0..1", "--", "echo", "{mass}:{k}"], None, ["1.5:0", "1.5:1", "2:0", "2:1"]),
        (["--grid", "m=1:2:0.5", "--grid", "k=a,b", "echo {m}{k}"], None, ["1.5a", "1.5b", "1a", "1b", "2a", "2b"]),
        (["echo one"], None, ["one"]),
        (["--", "printf", "%s%s\\n", "{}", "--not-ours"], b"v\n", ["v--not-ours"]),
        (["-0", "echo {#:02d}:{.}"], b"x.y\0z w\0", ["01:x", "02:z w"]),
        (["--commands", "-"], b"echo {a} | cat\n\necho 'b  c'\n", ["b  c", "{a}"]),
    ],
)  # fmt: skip
def test_values_come_from_everywhere(user: User, words: list[str], stdin: bytes | None, expected: list[str]) -> None:
    user.file("p.csv", "mass,seed\n1.5,3\n2,4\n")
    if not expected:
        assert "there are no tasks" in user.cli("run", *words, stdin=stdin, code=2).err
        return
    words = [word.replace("<", "'<'").replace(">", "'>'") for word in words]
    done = user.cli("run", *words, stdin=stdin)
    assert lines(done.out) == expected
    assert f"campaign 1: {len(expected)} done in" in done.err


@pytest.mark.parametrize(
    ("words", "named"), [(["--cores", "2"], "--cores"), (["--cores=2"], "--cores=2"), (["-k"], "-k")]
)
@pytest.mark.parametrize("command", ["printf '<%s>\\n' {}", "printf <%s>\\n"])
def test_option_among_the_values_is_a_value_with_a_warning(
    user: User, command: str, words: list[str], named: str
) -> None:
    done = user.cli("run", *([command] if "'" in command else command.split()), ":::", "1", *words)
    assert lines(done.out) == lines("".join(f"<{value}>\n" for value in ["1", *words]))
    warning = (
        f"pilotmtc: warning: {named} behind ':::' is a value, like all that follows: options come before the command"
    )
    assert done.err.splitlines()[0] == warning
    assert done.err.count("warning") == 1


def test_what_is_no_option_of_ours_is_a_value_without_a_warning(user: User) -> None:
    done = user.cli("run", "printf '<%s>\\n' {}", ":::", "--mass", "-x", "--", "-", "--no-such=1")
    assert len(lines(done.out)) == 5
    assert "warning" not in done.err


def test_tricky_values_stay_values(user: User) -> None:
    tricky = ["it's", '"', "$HOME", "`id`", "$(id)", "a;b", "a\\b", "-n", "*", "{}", "{1}", "#x", "~", "a  b", "ü", "!"]
    for command in (
        ["printf '%s\\n' {}"],
        ["printf '%s\\n' \"{}\""],
        ["printf '%s\\n' '{}'"],
        ["--", "printf", "%s\\n", "{}"],
    ):
        assert lines(user.cli("run", "-q", *command, ":::", *tricky).out) == []
    found = [record["stdout"] for record in user.cli("store", "export").records]
    assert sorted(found) == sorted([f"{value}\n" for value in tricky] * 4)


def test_options_reach_the_task(user: User) -> None:
    user.file("in-7", "from a file\n")
    (user.here / "place").mkdir()
    done = user.cli(
        "run", "--cores", "2", "--pilot-cores", "2", "--env", "COLOUR=blue {n}", "--cwd", "place",
        "--stdin", "../in-{n}", "--name", "all", "--task-name", "t-{n}", "--tag", "x{n}", "--tag", "y",
        "--priority", "3", "--retries", "2", "--time-limit", "1m", "--grace", "1m", "--signal-first", "usr1",
        "--expected", "2s", "--memory", "64M", "--resource", "licence=1",
        "--pilot-resource",
        "licence=2", "--backoff", "1s", "--max-output", "1M", "--stderr", "../err-{n}", "--grid", "n=7",
        "pwd; cat; echo $COLOUR $PILOTMTC_CORES $PILOTMTC_TASK_NAME; echo oops >&2",
    )  # fmt: skip
    assert done.out == f"{user.here}/place\nfrom a file\nblue 7 2 t-7\n"
    assert (user.here / "err-7").read_text() == "oops\n"
    found = user.cli("task", "1", "--json").record
    expected = {
        "name": "t-7", "tags": ["x7", "y"], "priority": 3, "cores": 2, "memory_bytes": 64 << 20, "time_limit_s": 60.0,
        "grace_s": 60.0, "signal_first": "USR1", "expected_s": 2.0,
        "resources": {"licence": 1.0}, "max_retries": 2, "backoff_s": 1.0,
        "max_output_bytes": 1 << 20,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert user.cli("status", "--json").record["campaigns"][0]["name"] == "all"


def test_campaign_file_may_be_run_at_once(user: User) -> None:
    user.file("c.toml", '[[task]]\nname = "a"\ncommand = "echo first"\n[[task]]\ncommand = "echo then"\nafter = "a"\n')
    assert user.cli("run", "c.toml").out == "first\nthen\n"


def test_outputs_in_order(user: User) -> None:
    done = user.cli("run", "-j", "2", "--keep-order", "sleep 0.{}; echo {}", ":::", "3", "2", "1", "0")
    assert done.out == "3\n2\n1\n0\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_setup_activates_what_a_task_needs(user: User) -> None:
    venv.create(user.here / "venv", with_pip=False)
    user.file(
        "c.toml",
        """
        [defaults]
        setup = ["source venv/bin/activate", "module load gcc/{x}"]
        capture_env = true
        [[task]]
        command = ["python", "-c", "import os, sys; print(sys.prefix, os.environ['LOADED'], sys.argv[1:])", "{#}"]
        [[task]]
        command = "module list; echo $LOADED {1}"
        grid = { y = "5" }
        """,
    )
    user.env["BASH_FUNC_module%%"] = '() { [ "$1" = list ] || export LOADED="$2"; echo "module $*"; }'
    done = user.cli("run", "-k", "c.toml")
    loaded, where, again, listed, last = done.out.splitlines()
    assert (loaded, again, listed, last) == (*["module load gcc/{x}"] * 2, "module list", "gcc/{x} 5")
    assert where == f"{(user.here / 'venv').resolve()} gcc/{{x}} ['1']"
    failed = user.cli("run", "--setup", "source nowhere/bin/activate", "--", "echo", "no", code=1)
    assert (failed.out, "pilotmtc: setup failed with exit code 1: source nowhere" in failed.err) == ("", True)
    assert user.cli("task", "3", "--json").record["setup"] == ["source nowhere/bin/activate"]


def test_lines_are_labelled_and_shown_as_they_come(user: User) -> None:
    script = "echo begin; echo err >&2; while [ ! -e go ]; do sleep 0.1; done; printf 'end %s' {x}; exit {y}"
    words = ["run", "-j", "2", "--line-buffer", "--show-stderr", script, ":::", "1", "2", ":::", "0"]
    process = user.start(*words, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    first = sorted([process.stdout.readline(), process.stdout.readline()])
    assert first == [b"x=1 y=0\tbegin\n", b"x=2 y=0\tbegin\n"]
    user.file("go", "")
    out, err = process.communicate(timeout=60)
    assert sorted(out.splitlines()) == [b"x=1 y=0\tend 1", b"x=2 y=0\tend 2"]
    assert sorted(err.splitlines())[-2:] == [b"x=1 y=0\terr", b"x=2 y=0\terr"]
    assert "choose one" in user.cli("run", "--line-buffer", "-k", "true", code=2).err
    assert "does not go with --quiet" in user.cli("run", "--label", "-q", "true", code=2).err


def test_json_has_a_result_a_line(user: User) -> None:
    records = user.cli("run", "--json", "echo {}; echo e >&2; exit {}", ":::", "0", "4", code=1).records
    assert sorted((r["params"]["1"], r["state"], r["exit_code"], r["stdout"], r["stderr"]) for r in records) == [
        ("0", "DONE", 0, "0\n", "e\n"), ("4", "FAILED", 4, "4\n", "e\n"),
    ]  # fmt: skip


def test_json_has_all_of_a_large_output(user: User) -> None:
    line = "head -c 300000 /dev/zero | tr '\\0' o; head -c 200000 /dev/zero | tr '\\0' e >&2"
    record = user.cli("run", "--json", line).record
    assert (record["stdout"], record["stderr"]) == ("o" * 300_000, "e" * 200_000)


def test_failed_tasks_are_shown_with_their_last_words(user: User) -> None:
    line = "for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3"
    done = user.cli("run", line, code=1)
    assert "task 1 FAILED: exit 3" in done.err
    assert "line 2" not in done.err
    assert all(f"    line {n}\n" in done.err for n in (3, 4, 5, 6, 7))
    assert "    more: pilotmtc logs 1\n" in done.err
    assert "campaign 1: 0 done, 1 failed in" in done.err
    assert "to run 1 failed task again: pilotmtc run --resume 1 --retry-failed" in done.err


def test_failures_are_told_with_name_and_parameters_and_the_end_of_their_file(user: User) -> None:
    line = "for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3"
    done = user.cli("run", "--task-name", "fit", "--stderr", "err-{mass}", f"{line} {{mass}}", ":::", "1.5", code=1)
    assert "task 1 (fit: mass=1.5) FAILED: exit 3" in done.err
    assert "line 2" not in done.err
    assert all(f"    line {n}\n" in done.err for n in (3, 4, 5, 6, 7))
    user.cli("run", "-q", "--", "./no-such", "x", code=1)
    for words in (["logs", "2"], ["logs", "--follow", "2"]):
        told = user.cli(*words)
        assert (told.out, told.err) == (
            "",
            "task 2 wrote nothing: could not start: ./no-such: No such file or directory\n",
        )


def test_many_failures_are_not_all_shown(user: User) -> None:
    done = user.cli("run", "-q", "exit {}", ":::", *"123456789", code=1)
    assert done.err.count("FAILED: exit") == 5
    assert "to see them all: pilotmtc tasks --campaign 1 --state failed" in done.err


def test_each_end_has_its_words(user: User) -> None:
    done = user.cli("run", "--time-limit", "0.3s", "{}", ":::", "kill -9 $$", "exec sleep 60", code=1)
    # The values are quoted: neither is a command.
    assert done.err.count("exit 127") == 2
    user.file("c.toml", '[[task]]\ncommand = "kill -9 $$"\n[[task]]\ncommand = ["sleep", "60"]\ntime_limit = 0.3\n'
              '[[task]]\ncommand = ["./no-such"]\n[[task]]\ncommand = "true"\ncwd = "/no/such"\n')  # fmt: skip
    said = user.cli("run", "c.toml", code=1).err
    for words in ("killed by SIGKILL", "over its time limit", "./no-such", "cannot enter the directory /no/such"):
        assert words in said
    assert "choose another cwd" in said


def test_retries_are_tried(user: User) -> None:
    assert user.cli("run", "--retries", "2", "echo {attempt}; test {attempt} = 3").out == "3\n"
    assert len(user.cli("task", "1", "--json").record["attempts"]) == 3


def test_memory_limit_ends_a_task(user: User) -> None:
    done = user.cli(
        "run", "--memory", "100M", "--", "python3", "-c", "x = b'x' * (300 << 20)\nimport time; time.sleep(60)", code=1
    )
    assert "over its memory limit" in done.err


def test_tasks_after_a_task_of_the_store(user: User) -> None:
    user.cli("run", "-q", "exit {}", ":::", "0", "1", code=1)
    assert user.cli("run", "--after", "1", "echo ran").out == "ran\n"
    assert "skipped" in user.cli("run", "--after", "2", "echo ran", code=1).err
    assert user.cli("run", "--after-any", "1-2", "echo ran").out == "ran\n"


def test_plain_lines_in_a_pipe_and_nothing_when_quiet(user: User) -> None:
    done = user.cli("run", "echo {}", ":::", "1", "2")
    assert "\x1b" not in done.err
    assert "\r" not in done.err
    assert user.cli("run", "-q", "echo {}", ":::", "1", "2") == ("", "", 0)


def test_gone_reader_stops_the_run(user: User) -> None:
    argv = user.argv("run", "echo {}; sleep 0.05")
    numbers = b"".join(b"%d\n" % n for n in range(3000))
    # What a shell does for `seq 3000 | pilotmtc run ... | head -2`.
    with subprocess.Popen(
        argv, cwd=user.here, env=user.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdin is not None and run.stdout is not None and run.stderr is not None  # noqa: PT018 -- for mypy
        run.stdin.write(numbers)
        run.stdin.close()
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read().decode()
        assert run.wait(60) == 141, said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert "to go on: pilotmtc run --resume 1" in said


def test_run_that_is_complete_when_its_reader_goes_has_nothing_to_go_on_with(user: User) -> None:
    gate = user.here / "gate"
    line = f"test {{}} = 1 || until test -e {gate}; do sleep 0.05; done; echo {{}}"
    run = user.start("run", "-j", "2", line, ":::", "1", "2")
    assert run.stdout is not None and run.stderr is not None  # noqa: PT018 -- for mypy
    assert run.stdout.readline() == b"1\n"
    run.stdout.close()
    gate.touch()
    with run.stderr:
        said = run.stderr.read().decode()
    assert run.wait(60) == 141, said
    assert "campaign 1: 2 done in" in said
    assert "to go on" not in said


def test_values_are_taken_as_they_come(user: User) -> None:
    # The second value is written when the first one's task has ended: nothing may wait for the end of the list.
    run = user.start("run", "echo got {}", stdin=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None  # noqa: PT018 -- for mypy
    for word in (b"one", b"two", b"three"):
        run.stdin.write(word + b"\n")
        run.stdin.flush()
        assert run.stdout.readline() == b"got " + word + b"\n"
    assert user.cli("status", "--json").record["campaigns"][0]["sealed"] is False
    _, said = run.communicate(timeout=30)
    assert run.returncode == 0, said


def test_thousands_of_lines_stream_through(user: User) -> None:
    numbers = b"".join(b"%d\n" % n for n in range(4000))
    done = user.cli("run", "--", "true", "{}", stdin=numbers)
    assert "campaign 1: 4,000 done in" in done.err
    assert user.counts() == {"DONE": 4000}
    assert user.cli("store", "check", "--json").record == {"ok": True, "problems": []}


def test_interrupted_submission_goes_on_where_it_stopped(user: User) -> None:
    flag = user.here / "flag"
    source = user.file("values.txt", "".join(f"{n}\n" for n in range(600)))
    run = user.start(
        "run", "--from", str(source), f"until test {{}} -lt 300 -o -e {flag}; do sleep 0.05; done; echo {{}}"
    )
    wait_until(lambda: user.store.exists() and user.counts().get("DONE", 0) >= 300, 30.0)
    run.kill()
    run.communicate(timeout=30)
    flag.touch()
    done = user.cli("run", "--resume")
    assert user.counts() == {"DONE": 600}
    assert "campaign 1: 600 done in" in done.err
    found = [record["stdout"] for record in user.cli("results", "--json").records]
    assert sorted(found, key=int) == [str(n) for n in range(600)]


def test_values_of_a_pipe_may_come_again(user: User) -> None:
    run = user.start("run", "echo {}", stdin=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None  # noqa: PT018 -- for mypy
    run.stdin.write(b"1\n2\n3\n")
    run.stdin.flush()
    assert {run.stdout.readline() for _ in range(3)} == {b"1\n", b"2\n", b"3\n"}
    run.kill()
    run.communicate(timeout=30)
    assert "submission of campaign 1 has not finished" in user.cli("wait", "1", "--timeout", "0", code=124).err
    assert "runs another command: echo {}" in user.cli("run", "--resume", "1", "ls {}", stdin=b"1\n", code=2).err
    done = user.cli("run", "--resume", "1", "echo {}", stdin=b"1\n2\n3\n4\n5\n")
    assert lines(done.out) == ["4", "5"]
    assert user.cli("status", "--json").record["campaigns"][0]["tasks"] == 5
    assert (
        "campaign 1 is complete with 5 tasks" in user.cli("run", "--resume", "1", "echo {}", stdin=b"6\n", code=2).err
    )


def interrupted(user: User, *words: str) -> str:
    """Run a command with values of a pipe, of which a, b and c come, and interrupt it; return what it said."""
    run = user.start("run", *words, stdin=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None  # noqa: PT018 -- for mypy
    run.stdin.write(b"a\nb\nc\n")
    run.stdin.flush()
    assert {run.stdout.readline() for _ in range(3)} == {b"a\n", b"b\n", b"c\n"}
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert run.stderr is not None
    said = run.stderr.read().decode()
    for stream in (run.stdin, run.stdout, run.stderr):
        stream.close()
    return said


EDITED: list[tuple[list[str], str, str]] = [
    (["echo {}"], "NEW\na\nb\nc\nd\n", "task 1 of it has 'a', and here 'NEW'"),
    (["echo {}"], "a\nb\nd\nc\n", "task 3 of it has 'c', and here 'd'"),
    (["echo {}"], "a\nb\n", "it has 3 tasks, and these are 2"),
    (["ls {}"], "a\nb\nc\n", "runs another command: echo {}"),
    (["--env", "A=1", "echo {}"], "a\nb\nc\n", "the env of task 1 of it is {}, and here {'A': '1'}"),
    (["--cwd", "/", "echo {}"], "a\nb\nc\n", "the directory of task 1 of it is"),
    (["--tag", "t{}", "echo {}"], "a\nb\nc\n", "task 1 of it has the tags (), and here ('ta',)"),
    (["--task-name", "t{}", "echo {}"], "a\nb\nc\n", "task 1 of it is called None, and here 'ta'"),
]


def test_list_that_was_edited_is_refused_with_the_first_difference(user: User) -> None:
    interrupted(user, "echo {}")
    before = user.cli("tasks", "--json").out
    for words, stdin, answer in EDITED:
        err = user.cli("run", "--resume", "1", "--retry-failed", *words, stdin=stdin.encode(), code=2).err
        assert answer in err
    assert user.cli("tasks", "--json").out == before
    done = user.cli("run", "--resume", "1", "--cores", "1", "echo {}", stdin=b"a\nb\nc\nd\n")
    assert lines(done.out) == ["d"]


def test_refused_retry_changes_nothing(user: User) -> None:
    user.cli("run", "-q", "false {}", ":::", "a", "b", code=1)
    before = user.cli("tasks", "--json").out
    for words in (["true {}", ":::", "a", "b"], ["--nodes", "2"], ["--pilot-memory", "lots"]):
        user.cli("run", "--resume", "1", "--retry-failed", *words, code=2)
        assert user.cli("tasks", "--json").out == before


def test_hint_at_the_resume_works_as_typed(user: User) -> None:
    options = ["-j", "2", "--pilot-resource", "my licence=1", "--resource", "my licence=1", "--time-limit", "1h"]
    said = interrupted(user, *options, "--", "echo", "{}")
    (hint,) = [line.partition("standard input: ")[2] for line in said.splitlines() if line.startswith("to go on")]
    assert shlex.split(hint) == ["pilotmtc", "run", "--resume", "1", *ordered(options), "--", "echo", "{}"]
    done = user.cli(*shlex.split(hint)[1:], stdin=b"a\nb\nc\nd\n")
    assert lines(done.out) == ["d"]
    failed = user.cli("run", "-j", "2", "--pilot-resource", "x=1", "--resource", "x=1", "false", code=1).err
    assert "pilotmtc run --resume 2 --retry-failed --pilot-cores 2 --pilot-resource x=1\n" in failed


def ordered(options: list[str]) -> list[str]:
    """Return `options` as the command has them."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    names = {"--resource": "", "--time-limit": "", "-j": "--pilot-cores", "--pilot-resource": ""}
    return [word for name, full in names.items() for word in (full or name, given[name])]


def test_resume_of_what_is_over_runs_nothing(user: User) -> None:
    user.cli("run", "-q", "echo {}", ":::", "1", "2")
    done = user.cli("run", "--resume")
    assert done.out == ""
    assert "campaign 1: 2 done in" in done.err


def test_retry_failed_runs_what_failed_again(user: User) -> None:
    flag = user.here / "flag"
    user.cli("run", "-q", f"test {{}} = 1 || test -e {flag}", ":::", "1", "2", "3", code=1)
    flag.touch()
    done = user.cli("run", "--resume", "1", "--retry-failed")
    assert "campaign 1: 3 done in" in done.err
    assert [len(user.cli("task", str(n), "--json").record["attempts"]) for n in (1, 2, 3)] == [1, 2, 2]


def test_walltime_ends_a_run_that_can_be_resumed(user: User) -> None:
    go = user.here / "go"
    line = f"until test {{}} = 1 || test -e {go}; do sleep 0.05; done; echo {{}}"
    done = user.cli("run", "-j", "2", "--walltime", "5s", line, ":::", *"1234", code=1)
    assert "campaign 1: its walltime was over after" in done.err
    assert "to go on: pilotmtc run --resume 1" in done.err
    assert "no task ended" not in done.err
    assert set(user.counts()) <= {"DONE", "READY"}
    short = user.cli("run", "--resume", "1", "--walltime", "1s", code=1)
    assert "1 done, 3 to run\nno task ended in that time: if none can, ask for a longer --walltime\n" in short.err
    go.touch()
    again = user.cli("run", "--resume", "1")
    assert lines(done.out + again.out) == list("1234")


def test_tasks_are_kept_for_the_runs_own_pilots_unless_all_may_have_them(user: User) -> None:
    user.cli("pilot", "submit", "--cores", "2", "--idle", "60s")
    done = user.cli("run", "echo $PILOTMTC_PILOT_ID; exit 1", ":::", *"1234", code=1)
    assert "1" not in lines(done.out)
    assert "any pilot" not in done.err
    done = user.cli("run", "--any-pilot", "echo {}", ":::", *"1234")
    assert "any pilot of the store may run the tasks of campaign 2" in done.err
    user.cli("retry", "1")
    assert "kept for pilots of its own" in user.cli("explain", "1").out
    said = user.cli("status").err
    assert "campaign 1 is kept for pilots of its own, and none is active: pilotmtc run --resume 1, or" in said
    assert "campaign 1 is kept" in user.cli("wait", "1", "--timeout", "0.2s", code=124).err
    user.cli("pilot", "submit", "--campaign", "1", "--cores", "1", "--idle", "1s")
    user.cli("wait", "1", code=1)


def test_killed_pilot_is_replaced(user: User) -> None:
    gate = user.here / "gate"
    line = f"test {{}} -lt 2 || until test -e {gate}; do sleep 0.05; done; echo {{}}"
    run = user.start("run", line, ":::", *[str(n) for n in range(20)])
    wait_until(lambda: user.store.exists() and user.counts().get("DONE", 0) == 2, 30.0)
    os.kill(user.cli("pilot", "list", "--json").record["pid"], 9)
    gate.touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert lines(out.decode()) == sorted(str(n) for n in range(20))
    assert b"pilot 1 was lost" in err
    assert user.counts() == {"DONE": 20}


def test_killed_server_is_not_noticed(user: User) -> None:
    gate = user.here / "gate"
    line = f"test {{}} -lt 2 || until test -e {gate}; do sleep 0.05; done; echo {{}}"
    run = user.start("run", line, ":::", *[str(n) for n in range(20)])
    wait_until(lambda: user.store.exists() and user.counts().get("DONE", 0) == 2, 30.0)
    os.kill(int(Path(f"{user.store}.lock").read_text().split()[0]), 9)
    gate.touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert lines(out.decode()) == sorted(str(n) for n in range(20))


def test_pipe_in_a_real_shell(user: User) -> None:
    pilotmtc = " ".join(user.argv())
    script = f"seq 5 | {pilotmtc} run 'echo $(({{}} * {{}}))' 2>err | sort -n; echo ${{PIPESTATUS[1]}}"
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script], cwd=user.here, env=user.env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "4", "9", "16", "25", "0"]
