"""Descriptors that whoever starts a pilot has open: they hinder nobody, and nobody keeps them."""

import contextlib
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pilotmtc.protocol.client.pilots import GetPilots
from tests.integration.agent_support import running_site, shell
from tests.integration.pool_support import running_pool

_START = """
import os, sys
from pilotmtc.model import PilotDescription
from pilotmtc.pilots import start_local
from pilotmtc.store.client.connect import connect_store

here = os.open("/dev/null", os.O_RDONLY)
for number in map(int, sys.argv[2].split()):
    os.dup2(here, number, inheritable=True)
for number in map(int, sys.argv[3].split()):
    os.close(number)
with connect_store(sys.argv[1]) as store:
    pilot = start_local(store, sys.argv[1], PilotDescription(cores=1, pin=False))
    assert pilot.state.name == "ACTIVE", pilot
"""


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("3", ""), ("3 5 7 9 11", ""), (" ".join(map(str, range(3, 60))), ""), ("", "0 1 2"),
        ("3 4 5 6 7 10 11 12", "0 2"),
    ],
)  # fmt: skip
def test_a_pilot_starts_whatever_descriptors_are_open(
    tmp_path: Path, surroundings: Path, opened: str, closed: str
) -> None:
    url = str(tmp_path / "store.db")
    done = subprocess.run(
        [sys.executable, "-c", _START, url, opened, closed],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60.0, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with running_site(tmp_path) as site:
        site.pilots = list(site.client.call(GetPilots()).pilots)
        task = site.submit(shell("ls /proc/self/fd"))[0]
        site.wait()
        assert site.output(task).stdout.split() == [b"0", b"1", b"2", b"3"]  # the last is that of ls itself


def test_a_lock_of_the_starting_shell_is_held_by_nobody_else(tmp_path: Path, surroundings: Path) -> None:
    lock, url = tmp_path / "lock", str(tmp_path / "store.db")
    line = f"exec 9> {lock}; flock 9; {sys.executable} -m pilotmtc pilot submit --cores 1 < /dev/null > /dev/null"
    subprocess.run(["/bin/sh", "-c", line], env=os.environ | {"PILOTMTC_STORE": url}, timeout=60.0, check=True)
    with running_site(tmp_path) as site, lock.open() as file:
        site.pilots = list(site.client.call(GetPilots()).pilots)
        task = site.submit(shell("sleep 600"))[0]
        site.wait_running(task)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("pool", [False, True])
def test_tasks_may_open_as_many_files_as_whoever_starts_the_pilot(
    tmp_path: Path, surroundings: Path, pool: bool
) -> None:
    """The agent and its workers may open all that the system allows."""
    few = ["/bin/sh", "-c", 'ulimit -Sn 600; exec "$@"', "sh"]
    with running_site(tmp_path) as site, contextlib.ExitStack() as stack:
        if pool:
            ours = [stack.enter_context(running_pool(site, 1, 2, before=few)).agent()]
        else:
            command = [sys.executable, "-m", "pilotmtc", "pilot", "submit", "--cores", "1"]
            environ = os.environ | {"PILOTMTC_STORE": site.url}
            subprocess.run([*few, *command], stdin=subprocess.DEVNULL, env=environ, timeout=60.0, check=True)
            site.pilots = list(site.client.call(GetPilots()).pilots)
            ours = [site.agent(site.pilots[0].id)]
        task = site.submit(shell("ulimit -Sn; echo $PPID"))[0]
        site.wait()
        limit, starter = site.output(task).stdout.split()
        assert limit == b"600"
        for pid in (*ours, int(starter)):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            assert soft == hard
