"""``--dry-run``: what would be made, and nothing is."""

import pytest

from tests.user import User


def test_tasks_are_shown_and_nothing_is_made(user: User) -> None:
    words = ["--dry-run", "--setup", "source x", "--tag", "t{x}", "./sim {x} > {#:03d}", ":::", *"12345678"]
    done = user.cli("run", "-j", "3", "--cores", "1", *words)
    assert done.out.splitlines() == [
        "8 tasks; nothing is stored",
        "  1 ./sim 1 > 001  (x=1 #=1, t1)",
        "  2 ./sim 2 > 002  (x=2 #=2, t2)",
        "  3 ./sim 3 > 003  (x=3 #=3, t3)",
        "... 2 more",
        "  6 ./sim 6 > 006  (x=6 #=6, t6)",
        "  7 ./sim 7 > 007  (x=7 #=7, t7)",
        "  8 ./sim 8 > 008  (x=8 #=8, t8)",
        "8 tasks of 1 core: 3 at a time, on 3 cores of this machine",
        "setup      source x",
    ]
    assert not user.store.exists()
    found = user.cli("submit", "--json", "--name", "n", *words[:1], "echo", ":::", "a").record
    assert (found["dry_run"], found["name"], found["tasks"], found["needs"][0]["pilots"]) == (True, "n", 1, [])
    assert "no pilot that is for all campaigns is active" in user.cli("submit", "--dry-run", "true").out
    assert "this machine has" in user.cli("run", "--dry-run", "--cores", "100000", "true", code=2).err
    assert "not the rest of a campaign" in user.cli("run", "--dry-run", "--resume", "1", code=2).err
    assert not user.store.exists()


def test_calls_are_shown_and_not_made(user: User) -> None:
    user.file("work.py", "def f(x, y=1): raise SystemExit\n")
    assert user.cli("map", "--dry-run", "--grid", "x=1:2:0.5", "work:f").out.splitlines()[:3] == [
        "3 tasks of a campaign called work:f; nothing is stored", "  1 f(x=1)  (x=1)", "  2 f(x=1.5)  (x=1.5)",
    ]  # fmt: skip
    found = user.cli("map", "--dry-run", "--json", "--cores", "1", "-j", "2", "work:f", ":::", "a", "1").record
    assert [one["params"] for one in found["first"]] == [{"1": "a"}, {"1": 1}]
    assert (found["first"][0]["command"], found["needs"][0]["at_once"]) == ("f('a')", 2)
    assert not user.store.exists()


@pytest.mark.parametrize("scheduler", ["slurm", "condor"])
def test_job_of_a_pilot_is_shown(user: User, scheduler: str) -> None:
    words = ["pilot", "submit", "--dry-run", "--scheduler", scheduler, "--cores", "4", "--walltime", "2h"]
    out = user.cli(*words).out
    assert f"a pilot on 1 node with 4 cores of {scheduler}; nothing is stored\nwalltime   2h00m\n" in out
    command = {"slurm": "$ sbatch --parsable --nodes=1", "condor": "$ condor_submit"}[scheduler]
    assert command in out
    assert "pilotmtc.agent --store STORE --pilot PILOT --directory /DIRECTORY --allocation" in out
    found = user.cli(*words, "--json").record
    assert (found["dry_run"], found["pilot"]["cores"]) == (True, 4)
    assert found["script"].startswith("#!/bin/sh\n")
    assert not user.store.exists()


def test_pilot_of_this_machine_has_no_job(user: User) -> None:
    assert user.cli("pilot", "submit", "--dry-run", "--cores", "2", "--idle", "5m").out.splitlines() == [
        "a pilot on 2 cores of this machine; nothing is stored", "idle       5m00s without a task",
    ]  # fmt: skip
    assert "there is no store" in user.cli("pilot", "submit", "--dry-run", "-c", "3", code=2).err
