"""``top``, ``explain`` and ``--filter`` as a user meets them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wait_until


class Shell:
    """Runs pilotmtc with a store of its own."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def run(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "pilotmtc", "--store", str(self.store), *words]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done

    def top(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run("top", "--once", "--json").stdout)
        return found


@pytest.fixture
def shell(tmp_path: Path, surroundings: Path) -> Shell:
    return Shell(tmp_path / "store.db")


def test_a_task_that_nothing_runs_is_explained_and_the_command_given_helps(shell: Shell) -> None:
    shell.run("submit", "--grid", "x=1,2,3", "test {x} != 2")
    said = shell.run("explain", "1").stdout
    assert "no pilot is active" in said
    assert f"$ pilotmtc --store {shell.store} pilot submit" in said
    assert "3 tasks could run, and no pilot is active" in shell.run("top", "--once").stdout
    shell.run("pilot", "submit", "--cores", "2", "--idle", "2s")
    wait_until(lambda: shell.top()["tasks"] == {"DONE": 2, "FAILED": 1}, 30.0)
    why = json.loads(shell.run("explain", "2", "--json").stdout)
    assert (why["state"], why["why"]) == ("FAILED", "it exited with code 1")
    assert "pilotmtc retry 2" in why["commands"]
    top = shell.run("top", "--once").stdout
    assert "1 task of campaign 1 failed with exit code 1" in top
    assert "\x1b" not in top
    assert shell.run("tasks", "--filter", "x>=2 state:failed", "--json").stdout.count("\n") == 1
    assert json.loads(shell.run("retry", "-f", "exit:1 campaign:1", "--json").stdout) == {"changed": 1, "unfit": 0}


def test_filters_that_mean_nothing_are_pointed_at(shell: Shell) -> None:
    shell.store.touch()
    said = shell.run("tasks", "-f", "tag:x staet:failed", code=2).stderr
    assert "did you mean state?" in said
    assert said.splitlines()[-1] == "        ^^^^^^^^^^^^"
    assert "there is no task 7" in shell.run("explain", "7", code=2).stderr


def test_top_goes_on_when_something_changes_until_it_is_told_to_end(shell: Shell) -> None:
    shell.store.touch()
    argv = [sys.executable, "-m", "pilotmtc", "--store", str(shell.store), "top", "--json", "--interval", "0.2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["tasks"] == {}
        shell.run("submit", "true")
        assert json.loads(process.stdout.readline())["tasks"] == {"READY": 1}
        process.send_signal(2)
        assert process.wait(20) == 130
