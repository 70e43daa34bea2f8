"""A disk that is full while tasks run: it is said, what runs can be ended all the same, and nothing is lost."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.support import alive, nap, small_disk, wait_until
from tests.user import User

LARGE = "head -c 30000 /dev/urandom | base64; : {}"
SIXTY = b"".join(b"%d\n" % n for n in range(60))


@pytest.fixture
def small(user: User, tmp_path: Path) -> Iterator[User]:
    """A user whose store is on a disk of 1 MB."""
    before = user.store
    with small_disk(tmp_path / "disk", "1m") as disk:
        user.store = disk / "store.db"
        user.env |= {"PILOTMTC_STORE": str(user.store), "PILOTMTC_SERVER_LEASE_S": "4"}
        try:
            yield user
            wait_until(lambda: not alive(str(user.store)), 10.0)
        finally:
            user.store = before


def fill(user: User) -> None:
    """Take what room there is left."""
    with open(user.store.parent / "filler", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def make_room(user: User) -> None:
    (user.store.parent / "filler").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=20m", str(user.store.parent)], check=True, timeout=10)


def log(user: User) -> str:
    return "".join(path.read_text() for path in Path(f"{user.store}.d").glob("pilots/*/agent.log"))


def says(stderr: IO[bytes], words: bytes) -> bool:
    """Return whether a line with these words comes; lines of progress, which come by the clock, may precede it."""
    return any(words in line for line in iter(stderr.readline, b""))


@pytest.mark.parametrize("full", [False, True])
def test_run_says_it_ends_its_pilot_and_can_be_resumed(small: User, full: bool) -> None:
    (small.here / "in").write_bytes(SIXTY)
    with open(small.here / "in", "rb") as stdin:
        run = small.start("run", "-j", "2", LARGE, stdin=stdin, stdout=subprocess.DEVNULL)
    assert run.stderr is not None
    assert says(run.stderr, b"the store takes no results")
    if full:
        fill(small)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    assert b"to run\nto go on: pilotmtc run --resume 1 --pilot-cores 2\n" in said
    wait_until(lambda: not alive(f"{small.store}.d"), 10.0, lambda: log(small))
    make_room(small)
    done = small.cli("run", "--resume", "-q")
    assert small.counts() == {"DONE": 60}, done.err


def test_run_kills_what_does_not_end(small: User) -> None:
    mark = nap()
    (small.here / "in").write_bytes(SIXTY)
    command = f"test {{}} != 3 || sleep {mark}; {LARGE}"
    with open(small.here / "in", "rb") as stdin:
        run = small.start("run", "-j", "2", command, stdin=stdin, stdout=subprocess.DEVNULL)
    assert run.stderr is not None
    assert says(run.stderr, b"the store takes no results")
    fill(small)
    run.send_signal(signal.SIGINT)
    assert says(run.stderr, b"stopping when the running tasks have finished")
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(6)
    assert alive(f"sleep\0{mark}")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    assert b"to go on: pilotmtc run --resume 1 --pilot-cores 2\n" in said
    wait_until(lambda: not alive(f"sleep\0{mark}") and not alive(f"{small.store}.d"), 10.0, lambda: log(small))
    make_room(small)
    assert small.cli("cancel", "4").out == "1 task canceled\n"
    small.cli("run", "--resume", "-q", code=1)
    assert small.counts() == {"DONE": 59, "CANCELED": 1}


def test_agent_that_is_terminated_leaves_though_nothing_can_be_written(small: User) -> None:
    small.cli("submit", LARGE, stdin=SIXTY)
    small.cli("pilot", "submit", "--cores", "2")
    wait_until(lambda: "no space left" in log(small), 20.0, lambda: log(small))
    agent = small.cli("pilot", "list", "--json").record["pid"]
    fill(small)
    os.kill(agent, signal.SIGTERM)
    wait_until(lambda: not alive(f"{small.store}.d"), 12.0, lambda: log(small))
    make_room(small)
    small.cli("run", "--resume", "-q")
    assert small.counts() == {"DONE": 60}
