"""Wrong input of every kind: one line that names the value and the remedy, exit code 2, nothing submitted."""

import subprocess

import pytest

from tests.user import User

# What is typed, and words of the answer.
WRONG: list[tuple[list[str], list[str]]] = [
    (["nonsense"], ["no command 'nonsense'", "pilotmtc --help"]),
    (["statsu"], ["'statsu'", "did you mean 'status'"]),
    (["--no-such"], ["--no-such"]),
    (["tui"], ["needs a terminal", "pilotmtc top"]),
    (["run"], ["there is no command to run", "pilotmtc run --help"]),
    (["run", ":::", "1"], ["no command before the first ':::'"]),
    (["run", "--cores", "0", "true"], ["--cores", "0"]),
    (["run", "--cores", "two", "true"], ["--cores", "two"]),
    (["run", "--cores", "100000", "true"], ["needs 100000 cores", "--cores"]),
    (["run", "--gpus", "1.5", "true"], ["1.5 GPUs", "0.25"]),
    (["run", "--gpus", "1", "true"], ["needs 1 GPU, and the pilot has 0: give it --pilot-gpus 1"]),
    (["run", "--ranks", "1000000", "--cores", "1", "true"], ["needs 1000000 ranks of 1 core, "]),
    (["run", "--nodes", "2", "true"], ["only pilots of a scheduler take nodes", "name a site"]),
    (["run", "--bogus", "true"], ["no such option '--bogus': see pilotmtc run --help"]),
    (
        ["run", "--retry-on", "exit:75,137", "oom", "true"],
        ["'oom' would be the command", "--retry-on 'exit:75,137 oom'"],
    ),
    (["run", "--no-retry-on", "oom", "timeout", "./x"], ["--no-retry-on 'oom timeout'"]),
    (["run", "--env", "1X=3", "true"], ["'1X' cannot name a variable"]),
    (["run", "--nodse", "2", "true"], ["no such option", ": did you mean", "'--nodes'", "?\n"]),
    (["run", "echo {} {y}", ":::", "1"], ["there is only {1}", "write {1} for its value"]),
    (["run", 'echo "$HOME/{x}"', ":::", "1"], ["write {1} for its value", "for the literal text {x}"]),
    (["run", "echo {x} {z} {1}", ":::", "1", ":::", "2"], ["there are 2: 1, 2", "write {1} to {2} for their values"]),
    (["run", "echo {x}", "--grid", "x=1..3"], ["--grid behind the command", "options come before the command"]),
    (["run", "./sim", "{x}", "--grid=x=1..3"], ["{x}", "--grid=x=1..3 behind the command", "options come before"]),
    (["run", "echo hi", "--cores", "2"], ["--cores behind the command", "options come before the command"]),
    (["submit", "echo {}", "--retries", "1", ":::", "1"], ["--retries behind the command"]),
    (["cancel", "--pilot", "99"], ["no pilot 99"]),
    (["retry", "--pilot", "99"], ["no pilot 99"]),
    (["edit", "--pilot", "99", "--priority", "1"], ["no pilot 99"]),
    (["tasks", "--pilot", "99"], ["no pilot 99"]),
    (["completion"], ["missing argument SHELL: bash, zsh, fish: see"]),
    (["tasks", "x-y"], ["invalid value for ID: 'x-y'"]),
    (["run", "--gpus", "-1", "true"], ["-1"]),
    (["run", "--gpus", "nan", "true"], ["nan"]),
    (["run", "--memory", "lots", "true"], ["'lots'", "2G"]),
    (["run", "--memory", "900T", "true"], ["needs 900T of memory", "this machine has", "reduce --memory"]),
    (["run", "--pilot-memory", "1.5G", "--memory", "2G", "true"], ["needs 2G of memory, and the pilot has 1.5G"]),
    (["run", "--resource", "licence", "true"], ["'licence'", "NAME=NUMBER"]),
    (["run", "--resource", "licence=x", "true"], ["'x'", "NAME=NUMBER"]),
    (
        ["run", "--resource", "licence=1", "true"],
        ["needs 1 of licence", "the pilot has 0: give it --pilot-resource licence=1"],
    ),
    (["run", "--resource", "licence=nan", "true"], ["nan"]),
    (["run", "--time-limit", "soon", "true"], ["'soon'", "5m"]),
    (["run", "--time-limit", "-5", "true"], ["'-5'"]),
    (["run", "--expected", "2h", "--walltime", "1h", "true"], ["longer than the pilot's walltime"]),
    (["run", "--retries", "-1", "true"], ["--retries"]),
    (["run", "--priority", "high", "true"], ["'high'"]),
    (["run", "--priority", "99999999999999999999", "true"], ["99999999999999999999"]),
    (["run", "--env", "A", "true"], ["'A'", "NAME=VALUE"]),
    (["run", "--grid", "mass", "echo {mass}"], ["mass"]),
    (["run", "--grid", "mass=1:2:0", "echo {mass}"], ["1:2:0"]),
    (["run", "--grid", "mass=", "echo {mass}"], ["mass"]),
    (["run", "--grid", "a=1", "--grid", "a=2", "echo {a}"], ["a"]),
    (["run", "--grid", "seed=0..9", "echo {sede}"], ["{sede}", "did you mean {seed}"]),
    (["run", "echo {mass} {seed}", ":::", "1"], ["{mass}"]),
    (["run", "echo {3}", ":::", "1"], ["{3}"]),
    (["run", "echo `{}`", ":::", "1"], ["$("]),
    (["run", "--from", "missing.csv", "echo {a}"], ["missing.csv", "No such file"]),
    (["run", "--from", ".", "echo {a}"], ["."]),
    (["run", "--from", "data.xyz", "echo {a}"], ["data.xyz", "--format"]),
    (["run", "--from", "uneven.csv", "echo {a}"], ["uneven.csv", "3"]),
    (["run", "--from", "latin.csv", "echo {a}"], ["latin.csv", "UTF-8"]),
    (["run", "--from", "null.jsonl", "echo {a}"], ["null.jsonl", "null"]),
    (["run", "--from", "empty.csv", "echo {a}"], ["empty.csv"]),
    (["run", "--from", "header.csv", "echo {a}"], ["no tasks"]),
    (["run", "--from", "-", "--from", "-", "echo {1}"], ["twice"]),
    (["run", "--after", "99", "true"], ["99"]),
    (["run", "--after", "x", "true"], ["'x'"]),
    (["run", "--cwd", "/no/such/dir", "--retry-failed", "true"], ["--retry-failed goes with --resume"]),
    (["run", "--resume", "77"], ["no campaign 77"]),
    (["run", "--resume"], ["no campaign in"]),
    (["run", "missing.toml"], ["missing.toml", "No such file"]),
    (["run", "broken.toml"], ["broken.toml", "line 2"]),
    (["run", "--cores", "2", "fine.toml"], ["--cores cannot be given with a campaign file"]),
    (["run", "--pilot-cores", "0", "true"], ["--pilot-cores"]),
    (["run", "--walltime", "x", "true"], ["'x'"]),
    (["submit"], ["nothing to submit"]),
    (["submit", "typo.toml"], ["typo.toml", "cmmand", "command"]),
    (["submit", "circle.toml"], ["circle.toml", "a", "b"]),
    (["submit", "nobody.toml"], ["nobody.toml", "'ghost'"]),
    (["submit", "none.toml"], ["none.toml"]),
    (["submit", "binary.toml"], ["binary.toml"]),
    (["pilot"], ["pilot"]),
    (["pilot", "sumbit"], ["sumbit"]),
    (["pilot", "submit", "--site", "mars"], ["mars"]),
    (["pilot", "submit", "--campaign", "5"], ["no campaign 5"]),
    (["pilot", "submit", "--walltime", "never"], ["'never'"]),
    (["pilot", "show", "5"], ["no pilot 5"]),
    (["pilot", "drain"], ["which pilots?", "--all"]),
    (["pilot", "drain", "5"], ["no pilot 5"]),
    (["pilot", "cancel", "1", "--all"], ["which pilots?"]),
    (["status", "5"], ["no campaign 5"]),
    (["status", "x"], ["'x'"]),
    (["tasks", "--state", "runing"], ["runing"]),
    (["tasks", "--cause", "boredom"], ["boredom"]),
    (["tasks", "20-17"], ["'20-17'", "smaller"]),
    (["tasks", "x"], ["'x'", "17-20"]),
    (["tasks", "1-99999999999"], ["too many"]),
    (["tasks", "99999999999999999999"], ["99999999999999999999"]),
    (["tasks", "--campaign", "99999999999999999999"], ["99999999999999999999"]),
    (["task", "5"], ["no task 5"]),
    (["task", "99999999999999999999"], ["99999999999999999999"]),
    (["task"], ["ID"]),
    (["logs", "5"], ["no task 5"]),
    (["tasks", "--limit", "99999999999999999999"], ["99999999999999999999"]),
    (["tasks", "--exit", "99999999999999999999"], ["99999999999999999999"]),
    (["tasks", "--pilot", "9223372036854775808"], ["9223372036854775808"]),
    (["submit", "--cores", "18446744073709551615", "true"], ["18446744073709551615"]),
    (["submit", "--retries", "9223372036854775808", "true"], ["9223372036854775808"]),
    (["submit", "--memory", "10000000T", "true"], ["10000000T"]),
    (["submit", "--time-limit", "1e300", "true"], ["1e300"]),
    (["submit", "--resource", "licence=inf", "true"], ["inf"]),
    (["submit", "--gpus", "nan", "true"], ["nan"]),
    (["submit", "--after", "9223372036854775808", "true"], ["9223372036854775808"]),
    (["pilot", "submit", "--cores", "999999999"], ["999999999"]),
    (["pilot", "submit", "--resource", "licence=nan"], ["nan"]),
    (["edit", "--all", "--gpus", "inf"], ["inf"]),
    (["edit", "--all", "--resource", "licence=nan"], ["nan"]),
    (["edit", "1", "--priority", "9999999999"], ["9999999999"]),
    (["results", "5"], ["no campaign 5"]),
    (["results", "--csv", "--json"], ["exclude each other"]),
    (["wait", "5"], ["no campaign 5"]),
    (["wait"], ["no campaign in"]),
    (["wait", "--timeout", "long"], ["'long'"]),
    (["cancel"], ["which tasks?", "--all"]),
    (["cancel", "--all", "3"], ["--all"]),
    (["retry"], ["which tasks?"]),
    (["edit", "--all"], ["nothing to change"]),
    (["edit", "--priority", "3"], ["which tasks?"]),
    (["edit", "--all", "--gpus", "1.5"], ["1.5"]),
    (["cancel", "-f", ""], ["--filter is empty", "FILTER", "pilotmtc cancel --help"]),
    (["cancel", "-f", "  "], ["the filter '  ' is empty"]),
    (["cancel", "-f", '""'], ["the part of a name is empty"]),
    (["cancel", "--tag", ""], ["--tag is empty"]),
    (["cancel", "--tag", "a", "--tag", ""], ["--tag is empty"]),
    (["cancel", "--all", "--tag", "x"], ["--all goes without"]),
    (["cancel", ""], ["'' is not a task id"]),
    (["retry", "--name", ""], ["--name is empty"]),
    (["edit", "--priority", "3", "--filter="], ["--filter is empty"]),
    (["tasks", "-f", ""], ["--filter is empty"]),
    (["tasks", "--all", "1"], ["--all goes without"]),
    (["cancel", "--pilot", "1", "--pilot", "2"], ["--pilot is given twice: it takes one value"]),
    (["cancel", "-f", "tag:a", "-f", "tag:b", "--filter", "x"], ["--filter is given 3 times"]),
    (["store", "export", "-c", "1", "-c", "5", "-o", "x.csv"], ["no campaign 1"]),
    (["store", "export", "-o", "a", "--output", "b"], ["--output is given twice"]),
    (["submit", "--cores", "1", "--cores", "2", "true"], ["--cores is given twice"]),
    (["submit", "--env", "A=1", "--env", "B=2", "--env", "A=3", "true"], ["variable A is given twice"]),
    (["run", "--pilot-resource", "x=1", "--pilot-resource", "x=2", "true"], ["resource x is given twice"]),
    (["run", "--walltime", "", "true"], ["--walltime is empty: give it TIME"]),
    (["run", "--resume", "", "true"], ["--resume is empty"]),
    (["pilot", "submit", "--queue", "a", "--partition", "b"], ["--queue is given twice"]),
    (["pilot", "submit", "-c", "1", "-c", "2"], ["--campaign is given twice"]),
    (["logs", "--stdout", "--stderr", "1"], ["--stdout and --stderr exclude each other"]),
    (["--store", "a", "--store", "b", "status"], ["--store is given twice"]),
    (["site", "add", "x", "--login", ""], ["--login is empty"]),
    (["store"], ["store"]),
    (["store", "snapshot"], ["PATH"]),
    (["store", "snapshot", "/no/such/dir/x.db"], ["/no/such/dir/x.db"]),
    (["store", "export", "-o", "/no/such/dir/x.csv"], ["/no/such/dir/x.csv", "No such file"]),
    (["store", "export", "-c", "5"], ["no campaign 5"]),
    (["completion", "tcsh"], ["tcsh"]),
    (["--store", "", "status"], ["--store"]),
    (["--store", ".", "status"], ["."]),
    (["--store", "http://x/y", "status"], ["http://x/y"]),
    (["--store", "ssh://", "status"], ["ssh://"]),
]
FILES = {
    "data.xyz": b"a\n1\n",
    "uneven.csv": b"a,b\n1,2\n3\n",
    "latin.csv": b"a\n\xe9\n",
    "null.jsonl": b'{"a": null}\n',
    "empty.csv": b"",
    "header.csv": b"a\n",
    "broken.toml": b'name = "x"\n[[task]\n',
    "fine.toml": b'[[task]]\ncommand = "true"\n',
    "typo.toml": b'[[task]]\ncmmand = "true"\n',
    "circle.toml": b'[[task]]\nname = "a"\nafter = "b"\ncommand = "true"\n'
    b'[[task]]\nname = "b"\nafter = "a"\ncommand = "true"\n',
    "nobody.toml": b'[[task]]\nafter = "ghost"\ncommand = "true"\n',
    "none.toml": b'name = "empty"\n',
    "binary.toml": b"\xff\xfe\x00",
}


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[" ".join(words)[:60] for words, _ in WRONG])
def test_wrong_input_is_named(user: User, words: list[str], expected: list[str]) -> None:
    for name, data in FILES.items():
        (user.here / name).write_bytes(data)
    user.store.touch()
    done = user.cli(*words, code=2)
    assert done.out == ""
    assert [word for word in expected if word not in done.err] == [], done.err
    if words not in (["pilot"], ["store"]):  # which show their help
        assert done.err.startswith("pilotmtc: error: ")
        assert len(done.err.splitlines()) <= 3, done.err
    if user.store.stat().st_size:
        assert user.cli("tasks", "--state", "ready", "--state", "running", "--json").out == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is no database, but a text that is longer than the header of one" * 20, "not a pilotmtc store"),
        (b"SQLite format 3\0" + b"\0" * 2000, "store.db"),
        (b"", ""),
    ],
)
def test_file_that_is_no_store_is_left_alone(user: User, data: bytes, words: str) -> None:
    user.store.write_bytes(data)
    if not data:  # an empty file is a store that has not begun
        user.cli("status")
        return
    done = user.cli("status", code=3)
    assert words in done.err
    assert "store.db" in done.err
    assert user.store.read_bytes() == data


def test_store_below_a_file_cannot_be(user: User) -> None:
    user.file("file", "")
    done = user.cli("--store", "file/store.db", "status", code=2)
    assert "file" in done.err
    assert "--store or PILOTMTC_STORE" in done.err


def test_output_to_a_full_disk_is_an_error(user: User) -> None:
    user.cli("submit", "true")
    for words in (["status"], ["tasks", "--json"], ["store", "export"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                user.argv(*words), cwd=user.here, env=user.env, stdin=subprocess.DEVNULL, stdout=full,
                stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        if words[0] == "store":  # nothing is over, nothing is written
            assert done.returncode == 0
            continue
        assert (done.returncode, done.stderr) == (
            3,
            "pilotmtc: error: cannot write the output: No space left on device\n",
        )


LOOKS = [
    "status", "top --once", "tasks", "task 1", "results", "logs 1", "logs -f 1", "explain 1", "wait", "pilot list",
    "pilot show 1", "pilot drain 1", "pilot cancel --all", "cancel 1", "retry --all", "edit 1 --priority 2",
    "run --resume", "store check", "store where", "store compact", "store snapshot x.db", "store export",
    "store key list", "store key revoke x",
]  # fmt: skip


@pytest.mark.parametrize("words", LOOKS)
def test_misspelt_store_is_not_made(user: User, words: str) -> None:
    there = user.here / "no" / "such.db"
    user.env["PILOTMTC_STORE"] = str(there)
    for option in (["--store", "no/such.db"], []):
        done = user.cli(*option, *words.split(), code=2)
        assert done == ("", f"pilotmtc: error: there is no store at {there}: pilotmtc submit or run makes one\n", 2)
    assert not there.parent.exists()


def test_usual_store_that_is_not_there_is_an_empty_one(user: User) -> None:
    del user.env["PILOTMTC_STORE"]
    for words in (["status", "--json"], ["tasks"], ["top", "--once"], ["pilot", "list"]):
        user.cli(*words)


def test_ids_that_are_not_there_are_named_and_nothing_is_done(user: User) -> None:
    user.cli("submit", "true {}", ":::", "1", "2", "3")
    for words in (["tasks"], ["cancel"], ["retry"], ["edit", "--priority", "1"]):
        done = user.cli(*words, "2", "999", code=2)
        assert done.err.startswith(f"pilotmtc: error: there is no task 999 in {user.store}: see ")
        assert "no tasks 4, 7 in" in user.cli(*words, "1-4", "7", code=2).err
    assert {(task["state"], task["priority"]) for task in user.cli("tasks", "--json").records} == {("READY", 0)}
    assert user.cli("cancel", "1-2", "3", "--state", "failed").out == "0 tasks canceled\n"
