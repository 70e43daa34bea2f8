"""``pilotmtc add``: more points for a campaign, with its own command."""

import pytest

from tests.user import User


def params(user: User, campaign: str) -> list[list[str]]:
    return [list(task["params"].values()) for task in user.cli("tasks", "-c", campaign, "--json").records]


@pytest.fixture
def scan(user: User) -> User:
    """A campaign of four points, of which nothing has run."""
    words = ["--name", "scan", "--cores", "2", "--priority", "5", "--retries", "1"]
    user.cli("submit", *words, "--grid", "x=1..2", "--grid", "y=a,b", "echo {y}{x}")
    return user


def test_points_are_added_by_name_or_by_position(scan: User) -> None:
    assert scan.cli("add", "scan", "--grid", "y=c", "--grid", "x=1,2").out == "2 tasks added to campaign 1\n"
    assert scan.cli("add", "1", ":::", "9", ":::", "z", "--json").record["added"] == 1
    assert params(scan, "scan")[4:] == [["1", "c"], ["2", "c"], ["9", "z"]]
    first, *_, last = scan.cli("tasks", "-c", "scan", "--json").records
    same = ("command", "cores", "priority", "max_retries")
    assert [first[key] for key in same] == [last[key] for key in same]
    assert scan.cli("status", "scan", "--json").record["campaigns"][0]["sealed"]


def test_points_that_are_there_are_refused_passed_over_or_added_again(scan: User) -> None:
    words = ["add", "scan", "--grid", "x=2..3", "--grid", "y=a,b"]
    said = scan.cli(*words, code=2).err
    assert (
        "campaign 1 has 2 of these 4 points already: x=2 y=a; x=2 y=b: say whether they are to be passed over" in said
    )
    assert len(params(scan, "scan")) == 4
    assert scan.cli(*words, "--new-only").out == "2 tasks added to campaign 1; 2 points passed over\n"
    assert scan.cli(*words, "--new-only").out == "0 tasks added to campaign 1; 4 points passed over\n"
    assert scan.cli(*words, "--again", "--json").record["added"] == 4
    assert len(params(scan, "scan")) == 10
    assert "choose one" in scan.cli(*words, "--again", "--new-only", code=2).err


def test_what_cannot_be_added_is_refused_and_nothing_is_changed(scan: User) -> None:
    before = scan.cli("status", "scan", "--json").record["campaigns"][0]
    assert "have the parameters x, y, and these are x" in scan.cli("add", "scan", "--grid", "x=7", code=2).err
    assert "there are no values" in scan.cli("add", "scan", code=2).err
    assert "values come behind ':::'" in scan.cli("add", "scan", "7", code=2).err
    assert "no campaign is called 'nix'" in scan.cli("add", "nix", ":::", "7", code=2).err
    long = scan.here / "values.jsonl"
    long.write_text('{"x": 7, "y": "ok"}\n{"x": 8, "y": "' + "y" * 200_000 + '"}\n')
    assert "task 6" in scan.cli("add", "scan", "--from", str(long), code=2).err
    assert scan.cli("status", "scan", "--json").record["campaigns"][0] == before


def test_numbers_of_rows_go_on_and_a_run_is_resumed(user: User) -> None:
    user.cli("run", "-q", "--name", "scan", "echo {#}-{}", ":::", "a", "b")
    user.cli("add", "scan", ":::", "c")
    assert user.cli("run", "--resume", "scan").out == "3-c\n"
    assert user.counts() == {"DONE": 3}


def test_tasks_that_are_done_run_again_with_what_depends_on_them(user: User) -> None:
    (user.here / "version").write_text("1")
    (user.here / "study.toml").write_text(
        'name = "study"\n[[task]]\nname = "fit"\ncommand = "cat version"\n'
        '[[task]]\nname = "plot"\nafter = ["fit"]\ncommand = "echo plot $(cat version)"\n'
    )
    assert user.cli("run", "-q", "study.toml").code == 0
    (user.here / "version").write_text("2")
    assert user.cli("rerun", "-c", "study", "--name", "fit", "--with-dependents").out == "2 tasks will run again\n"
    user.cli("run", "-q", "--resume", "study")
    assert [one["stdout"] for one in user.cli("results", "study", "--json", "--stdout", "whole").records] == [
        "2", "plot 2\n",
    ]  # fmt: skip
    assert user.cli("logs", "1", "--attempt", "1").out == "1"
    assert "which tasks?" in user.cli("rerun", code=2).err
    assert "is sound" in user.cli("store", "check").out


def test_new_points_ask_for_what_the_campaign_does_and_not_for_what_a_retry_was_given(user: User) -> None:
    words = ["--memory", "20M", "--retries", "1", "--retry-memory", "x2", "--backoff", "0"]
    eat = "python3 -c 'import time; x = bytearray(60 << 20); time.sleep(20)'; : {}"
    user.cli("run", "-q", "--name", "scan", *words, eat, ":::", "1", code=1)
    assert user.cli("tasks", "--json").record["memory_bytes"] == 40 << 20
    user.cli("add", "scan", ":::", "2")
    assert [task["memory_bytes"] for task in user.cli("tasks", "--json").records] == [40 << 20, 20 << 20]
    assert 'memory = "20M"' in user.cli("show", "scan", "--as", "toml").out


def test_what_would_be_added_is_shown_and_nothing_is_stored(scan: User) -> None:
    words = ["add", "scan", "--grid", "x=2..7", "--grid", "y=a,b", "--new-only", "--dry-run"]
    said = scan.cli(*words).out
    assert said.startswith("10 tasks of a campaign called scan; nothing is stored\n")
    assert "5 echo a3" in said
    assert "14 echo b7" in said
    assert said.endswith("2 points passed over\n")
    found = scan.cli(*words, "--json").record
    assert (found["tasks"], found["passed_over"], found["first"][0]["params"]) == (10, 2, {"x": "3", "y": "a"})
    assert len(params(scan, "scan")) == 4
    assert scan.cli("add", "scan", "--grid", "x=1", "--grid", "y=a", "--new-only", "--dry-run").out.startswith(
        "0 tasks"
    )
    assert "already" in scan.cli("add", "scan", "--grid", "x=1", "--grid", "y=a", "--dry-run", code=2).err
