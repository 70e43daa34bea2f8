"""Pilots through PBS as a user sees them, with fakes of its commands that say what real servers do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.replay import recorded
from tests.support import wait_until
from tests.user import User

_QUEUED = recorded("pbs-pilots")["qstat_deleted_while_it_waited"].stdout.replace('"F"', '"Q"')
_PROGRAMS = {
    "qsub": 'case "$1" in --version) echo "pbs_version = 23.06.06";; *) cat >/dev/null; echo 5020.head;; esac',
    "qstat": 'cat "$0.said"',
    "qdel": 'cp "${0%/*}/qstat.deleted" "${0%/*}/qstat.said"',
    "qselect": ":",
}


class Pbs:
    """A server's commands, in a directory that is on the user's PATH."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory
        directory.mkdir()
        self.install()
        (directory / "qstat.deleted").write_text(recorded("pbs-pilots")["qstat_deleted_while_it_waited"].stdout)
        self.says("Not Running: Queue not started.")

    def install(self) -> None:
        """Put the commands there."""
        for name, line in _PROGRAMS.items():
            new = self.bin / f".{name}"  # put in place whole: the one before may be running
            new.write_text(f"#!/bin/sh\n{line}\n")
            new.chmod(0o755)
            new.replace(self.bin / name)

    def says(self, comment: str) -> None:
        """Let the job wait with this comment."""
        (self.bin / "qstat.said").write_text(_QUEUED.replace("Not Running: Queue not started. and terminated", comment))


@pytest.fixture
def pbs(user: User, tmp_path: Path) -> Iterator[Pbs]:
    made = Pbs(tmp_path / "pbs")
    user.env["PATH"] = f"{made.bin}:{os.environ['PATH']}"
    yield made
    made.install()
    user.cli("pilot", "cancel", "--all")
    user.wait_alone()


def submit(user: User) -> str:
    return user.cli("pilot", "submit", "--scheduler", "pbs", "--login", "-", "--walltime", "5m").out.strip()


def test_run_stops_whose_pilot_can_never_start(user: User, pbs: Pbs) -> None:
    pbs.says("Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 48 T: 48)")
    done = user.cli("run", "--scheduler", "pbs", "--login", "-", "--walltime", "5m", "true", code=5)
    assert "can never start, and is canceled: Insufficient amount of resource: ncpus (R: 99 A: 48 T: 48)" in done.err
    assert [each["state"] for each in user.cli("tasks", "--json").records] == ["READY"]


def test_server_with_a_short_path_finds_the_submitters_commands(user: User, pbs: Pbs) -> None:
    pilot = submit(user)
    lock = Path(f"{user.store}.lock")  # which the server takes away when it ends
    wait_until(lambda: not lock.exists(), 30.0)
    user.env["PATH"] = "/usr/bin:/bin"  # as an agent's login may have it, which revives the server
    user.cli("pilot", "cancel", pilot)
    wait_until(lambda: user.cli("pilot", "show", pilot, "--json").record["state"] == "CANCELED", 60)


def test_trouble_says_what_is_wrong_and_refers_to_no_log(user: User, pbs: Pbs) -> None:
    pilot = submit(user)
    for name in ("qstat", "qsub"):
        (pbs.bin / name).unlink()
    user.cli("pilot", "cancel", pilot)
    wait_until(lambda: user.cli("pilot", "show", pilot, "--json").record["trouble"], 60)
    trouble = user.cli("pilot", "show", pilot, "--json").record["trouble"]
    assert "cannot run qsub" in trouble
    assert "log" not in trouble
