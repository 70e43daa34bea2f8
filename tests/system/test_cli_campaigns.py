"""Campaigns by name on the command line: `status`, `wait`, `results`, conditions, `rename`."""

import sqlite3
from contextlib import closing

import pytest

from tests.user import User


@pytest.fixture
def named(user: User) -> User:
    """Campaigns 1 (scan), 2 (night-1), 3 (night-2) and 4, which has no name and only a command."""
    for words in (["--name", "scan"], ["--name", "night-1"], ["--name", "night-2"], []):
        user.cli("submit", *words, "--grid", "x=1..2", "echo {x}")
    return user


def test_campaigns_are_given_by_name(named: User) -> None:
    assert [one["id"] for one in named.cli("status", "night-*", "--json").record["campaigns"]] == [2, 3]
    assert "campaign  1 (scan)" in named.cli("status", "scan").out
    assert named.cli("status").out.splitlines()[-4].endswith("echo {x}")  # for want of a name
    assert [one["id"] for one in named.cli("tasks", "-c", "scan", "-c", "night-2", "--json").records] == [1, 2, 5, 6]
    assert [one["id"] for one in named.cli("tasks", "-f", "campaign:night-2,1 x=2", "--json").records] == [2, 6]
    assert named.cli("cancel", "-c", "night-?", "--json").record["changed"] == 4
    assert [one["id"] for one in named.cli("results", "scan", "night-1", "--json").records] == [3, 4]
    assert named.cli("wait", "night-*", "-q", code=1).err == ""


def test_names_that_are_wrong_or_several_are_errors(named: User) -> None:
    assert named.cli("rename", "night-1", "scan").out == "campaign 2 is called 'scan' now\n"
    several = "2 campaigns are called 'scan': give a number (2, 1), or rename some"
    for words in (["status", "scan"], ["wait", "scan"], ["results", "scan"], ["cancel", "-c", "scan"],
                  ["rename", "scan", "x"], ["pilot", "submit", "-c", "scan"], ["run", "--resume", "scan"]):  # fmt: skip
        assert several in named.cli(*words, code=2).err
    for words in (["status", "nix"], ["retry", "-c", "nix"], ["store", "export", "-c", "nix"]):
        assert "no campaign is called 'nix': there are night-2, scan" in named.cli(*words, code=2).err
    assert "'*' means 4 campaigns: choose one of 4 (), 3" in named.cli("rename", "*", "x", code=2).err
    for name in ("", " "):
        assert "is empty: give a campaign's number or name" in named.cli("status", name, code=2).err
    assert named.cli("cancel", "--all", "--json").record["changed"] == 8  # nothing was, until now


def test_run_is_resumed_by_name(user: User) -> None:
    user.cli("run", "-q", "--name", "scan", "test {x} = 1", ":::", "1", "2", code=1)
    done = user.cli("run", "-q", "--resume", "scan", "--retry-failed", "-j", "1", code=1)
    assert "campaign 1: 1 done, 1 failed" in done.err
    assert user.cli("rename", "scan", "", "--json").record["name"] == ""


def test_campaigns_are_deleted(user: User) -> None:
    user.cli("run", "-q", "--name", "night-1", "echo a; head -c 300000 /dev/zero")
    user.cli("run", "-q", "--name", "night-2", "echo b")
    user.cli("submit", "--name", "later", "echo c")
    user.wait_alone()
    assert "give --yes" in user.cli("delete", "night-1", code=2).err
    assert "1 task has not finished in campaign 3" in user.cli("delete", "later", "--yes", code=2).err
    user.cli("delete", code=2)
    (large,) = user.here.glob("store.db.d/pilots/*/outputs/*")
    assert user.cli("delete", "night-1", "--yes", "--keep-results").out == "campaign 1: the outputs of 1 task deleted\n"
    assert not large.exists()
    assert "the stdout of task 1, 293K, was deleted" in user.cli("logs", "1").err
    assert user.cli("results", "night-1", "--json").record["exit_code"] == 0
    assert user.cli("delete", "night-*", "--yes", "--json").records == [
        {"id": 1, "name": "night-1", "tasks": 1}, {"id": 2, "name": "night-2", "tasks": 1},
    ]  # fmt: skip
    assert [one["name"] for one in user.cli("status", "--json").record["campaigns"]] == ["later"]
    assert "there is no campaign 2" in user.cli("delete", "2", "-y", code=2).err
    assert "is sound" in user.cli("store", "check").out


def test_campaign_on_hold_says_so_and_runs_when_it_is_released(user: User) -> None:
    user.cli("submit", "--name", "scan", "echo a")
    assert user.cli("hold", "scan").out == "campaign 1 is on hold\n"
    assert user.cli("hold", "scan").out == "campaign 1 was on hold already\n"
    assert user.cli("status").out.rstrip().endswith("scan (on hold)")
    assert "no pilot" not in user.cli("status").err
    assert "its campaign 1 is on hold\n" in user.cli("explain", "1").out
    assert "campaign 1 is on hold: pilotmtc release 1" in user.cli("wait", "scan", "--timeout", "0", code=124).err
    assert "release it first, with pilotmtc release 1" in user.cli("run", "--resume", "scan", code=2).err
    user.wait_alone()
    with closing(sqlite3.connect(user.store)) as db:
        assert db.execute("SELECT on_hold FROM campaigns").fetchall() == [(1,)]
    user.cli("pilot", "submit", "--idle", "2s")
    assert user.cli("release", "scan", "--json").record["on_hold"] is False
    assert user.cli("wait", "scan", "-q").out == ""


def test_run_halts_after_failures_and_goes_on_when_it_is_released(user: User) -> None:
    words = ["run", "-q", "-j", "1", "--halt", "2", "test {} != x && test -e mended", ":::", *map(str, range(200))]
    done = user.cli(*words, code=1)
    assert "campaign 1: halted after" in done.err
    assert "to go on: pilotmtc release 1 && pilotmtc run --resume 1 --retry-failed --pilot-cores 1\n" in done.err
    counts = user.counts()
    assert counts["FAILED"] >= 2
    assert counts["READY"] > 100
    assert user.cli("status").out.rstrip().endswith("(halted)")
    assert "campaign 1 has halted: pilotmtc release 1 lets it go on" in user.cli("wait", "1", code=1).err
    (user.here / "mended").touch()
    user.cli("release", "1")
    user.cli("run", "-q", "--resume", "1", "--retry-failed")
    assert user.counts() == {"DONE": 200}
    again = "to run 1 failed task again: pilotmtc release 2 && pilotmtc run --resume 2 --retry-failed"
    assert again in user.cli("run", "-q", "--halt", "1", "false", code=1).err  # its last task was the one too many
    assert "on hold   until it is released, because of its failures\n" in user.cli("status", "2").out
    for wrong in ("0", "120%", "some", "-1"):
        assert "is neither a number of failures nor a part" in user.cli("run", "--halt", wrong, "true", code=2).err


def test_tasks_on_hold_are_counted_apart_and_miss_no_pilot(user: User) -> None:
    user.cli("submit", "--name", "scan", "true {}", ":::", "1", "2", "3")
    user.cli("hold", "--task", "1", "--task", "3")
    assert [one["id"] for one in user.cli("tasks", "--filter", "hold:yes", "--json").records] == [1, 3]
    assert user.cli("tasks", "--filter", "hold:yes").out.count("READY, on hold") == 2
    status = user.cli("status", "scan")
    assert "on hold   2 tasks\n" in status.out
    assert "no pilot is active" in status.err
    user.cli("hold", "--task", "2")
    assert "no pilot is active" not in user.cli("status", "scan").err
    assert user.cli("explain", "1").out.startswith("task 1 is READY: it is on hold")
