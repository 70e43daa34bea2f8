"""Retries with sense: after which ends, and with how much more memory and time."""

import shlex

from pilotmtc import Session
from tests.user import User

STOPS = "--retries", "2"


def attempts(user: User, task: int = 1) -> list[str]:
    """Return how the attempts of a task ended, the first one first."""
    return [one["cause"] for one in user.cli("task", str(task), "--json").record["attempts"]][::-1]


def test_only_causes_that_are_named_are_retried(user: User) -> None:
    user.cli(
        "run", "-q", *STOPS, "--retry-on", "exit:75,137 oom", "--", "sh", "-c", "exit {}", ":::", "75", "2", code=1
    )
    assert attempts(user, 1) == ["EXIT"] * 3
    assert attempts(user, 2) == ["EXIT"]
    assert "none after such an end; only after exit:75,137 oom" in user.cli("task", "2").out
    assert "it was not retried: that is done only after exit:75,137 oom" in user.cli("explain", "2").out
    assert "all 2 retries are used" in user.cli("explain", "1").out


def test_causes_that_are_excluded_are_not_retried(user: User) -> None:
    words = ["--no-retry-on", "exit:2", "--no-retry-on", "signal", "--"]
    user.cli("run", "-q", *STOPS, *words, "sh", "-c", "{}", ":::", "exit 2", "exit 3", "kill -9 $$", code=1)
    assert [len(attempts(user, task)) for task in (1, 2, 3)] == [1, 3, 1]
    record = user.cli("task", "1", "--json").record
    assert (record["retry_on"], record["no_retry_on"]) == ([], ["exit:2", "signal"])


def test_time_grows_after_a_timeout_alone(user: User) -> None:
    words = ["--time-limit", "1s", "--retry-time", "x1.5", "--grace", "0", "--"]
    user.cli("run", "-q", *STOPS, *words, "sh", "-c", "{}", ":::", "sleep 600", "exit 1", code=1)
    tasks = user.cli("tasks", "--json").records
    assert [task["time_limit_s"] for task in tasks] == [2.25, 1.0]
    assert attempts(user, 1) == ["TIMEOUT"] * 3
    assert "time limit x1.5 after timeout" in user.cli("task", "1").out


def test_memory_grows_after_an_oom_up_to_a_bound(user: User) -> None:
    hungry = "import time; held = bytearray(200 << 20); time.sleep(600)"
    words = ["--memory", "40M", "--retry-memory", "x2", "--max-memory", "100M", "--"]
    user.cli("run", "-q", *STOPS, *words, "python3", "-c", hungry, code=1)
    assert attempts(user) == ["OOM"] * 3
    assert user.cli("tasks", "--json").record["memory_bytes"] == 100 << 20
    assert "memory x2 after oom, up to 100M" in user.cli("task", "1").out


def test_campaign_file_and_python_say_the_same(user: User) -> None:
    user.file("scan.toml", """
[[task]]
command = "true"
retries = 3
retry_on = ["exit:75", "oom timeout"]
no_retry_on = "exit:2"
memory = "4G"
retry_memory = "x2"
max_memory = "64G"
time_limit = 60
retry_time = 1.5
""")  # fmt: skip
    user.cli("submit", "scan.toml")
    file = user.cli("show", "1", "--as", "toml").out
    line = user.cli("show", "1", "--as", "command").out
    assert "--retry-on exit:75 --retry-on oom --retry-on timeout --no-retry-on exit:2 --retry-memory x2" in line
    with Session(user.store) as session:
        session.submit(
            "true", retries=3, retry_on="exit:75 oom timeout", no_retry_on=["exit:2"], memory="4G", retry_memory=2,
            max_memory="64G", time_limit=60, retry_time="x1.5", cwd=user.here,
        )  # fmt: skip
        assert session.show(2).rstrip() == file.rstrip().removeprefix('name = "scan"\n\n')


def test_what_makes_no_sense_is_an_error(user: User) -> None:
    for words, said in (
        ("--retries 1 --retry-on oomph", "'oomph' is not a cause: write exit, signal, timeout, oom, launch-error"),
        ("--retries 1 --retry-on node-lost", "'node-lost' is not the task's fault, so it always runs again"),
        ("--retries 1 --retry-on exit:0", "'0' in 'exit:0' is not an exit code of a failure"),
        ("--retries 1 --retry-on oom:3", "only exit can have numbers behind it"),
        ("--retry-on oom", "retries after oom: but there are no retries, so say how many"),
        ("--no-retry-on exit:2", "no retry after exit:2: but there are no retries"),
        ("--retries 1 --retry-on 'exit:2 oom' --no-retry-on oom", "a retry after oom is both asked for and ruled out"),
        ("--retries 1 --retry-memory x2", "memory cannot grow x2: say how much the first attempt has"),
        ("--retries 1 --retry-time x2", "the time limit cannot grow x2: say what it is"),
        ("--retries 1 --memory 1G --retry-memory 0.5", "'0.5' is not a factor to grow by: write x2"),
        (
            "--retries 1 --memory 2G --retry-memory x2 --max-memory 1G",
            "of memory is less than the first attempt has (",
        ),
        ("--retries 1 --max-memory 1G", " of memory: but no memory grows, so say by which factor"),
    ):
        assert said in user.cli("submit", *shlex.split(words), "true", code=2).err, words
    user.file("wrong.toml", '[[task]]\ncommand = "true"\nretries = 1\nretry_on = "nix"\n')
    assert (
        "wrong.toml:4: [[task]] number 1: retry_on: 'nix' is not a cause"
        in user.cli("submit", "wrong.toml", code=2).err
    )
