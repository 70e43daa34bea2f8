"""A pilot in a real HTCondor pool: a cluster of jobs, of which the first is the agent and the others its nodes."""

import json
import pwd
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.condor import Pool, condor, condor_pool
from tests.support import processes_with, wait_until

__all__ = ["condor", "condor_pool"]  # fixtures


class User:
    """Who submits, on the pool's login host."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.store = pool.directory / "store.db"

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run pilotmtc."""
        pool, owner = self.pool, pwd.getpwnam(self.pool.account.name)
        environment = {
            "PATH": f"{pool.bin}:/usr/bin:/bin", "HOME": str(pool.account.home), "PILOTMTC_SERVER_LINGER_S": "0.3",
            "XDG_RUNTIME_DIR": str(pool.directory), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        return subprocess.run(
            [pool.python, "-P", "-m", "pilotmtc", "--store", self.store, *words],
            cwd=pool.directory, env=environment, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        """Run pilotmtc, which must not fail."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def submit_pilot(self, *more: str) -> str:
        """Submit a pilot; return its id."""
        return self.ok("pilot", "submit", "--scheduler", "condor", "--login", "-", "--walltime", "5m", *more).strip()

    def wait_nodes(self, pilot: str, count: int) -> None:
        """Wait until so many nodes are there."""
        wait_until(lambda: json.loads(self.ok("pilot", "show", pilot, "--json"))["nodes"] == count, 90, self.logs)

    def state(self, pilot: str) -> str:
        """Return a pilot's state."""
        return str(json.loads(self.ok("pilot", "show", pilot, "--json"))["state"])

    def logs(self) -> str:
        """Return what the pilots' jobs have written."""
        files = sorted(self.pool.directory.glob("store.db.d/pilots/*/*log*"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)


@pytest.fixture
def user(condor: Pool) -> Iterator[User]:
    yield User(condor)
    condor.remove_jobs()
    mark = f"XDG_RUNTIME_DIR={condor.directory}"
    wait_until(lambda: not processes_with(mark), 30, lambda: str(processes_with(mark)))


def test_pilot_of_four_nodes_runs_tasks_on_all_and_leaves_nothing(user: User) -> None:
    pilot = user.submit_pilot("--nodes", "4", "--cores", "12")
    user.wait_nodes(pilot, 4)
    user.ok("submit", "sleep 1; echo $_CONDOR_PROCNO {}", ":::", *map(str, range(96)))
    line = "echo $PILOTMTC_RANK of $PILOTMTC_RANKS; : {}"
    user.ok("submit", "--ranks", "24", "--ranks-per-node", "12", line, ":::", "1")
    user.ok("wait", "--timeout", "90s")
    results = [json.loads(line) for line in user.ok("results", "1", "--json").splitlines()]
    assert [each["state"] for each in results] == ["DONE"] * 96
    where = {(each["node"].rpartition("-")[2], each["stdout"].split()[0]) for each in results}
    assert where == {(number, number) for number in "0123"}
    assert sorted(user.ok("logs", "97").splitlines()) == sorted(f"{rank} of 24" for rank in range(24))
    user.ok("pilot", "drain", pilot)
    wait_until(lambda: user.state(pilot) == "DONE", 60, user.logs)
    wait_until(lambda: not user.pool.jobs(), 60, lambda: user.pool.run("condor_q", "-nobatch"))


def test_job_of_a_node_that_is_removed_costs_its_tasks_no_more_than_time(user: User) -> None:
    pilot = user.submit_pilot("--nodes", "3", "--cores", "12")
    user.wait_nodes(pilot, 3)
    gate = user.pool.directory / "gate"
    user.ok("submit", f"until [ -e {gate} ]; do sleep 0.1; done; : {{}}", ":::", *map(str, range(72)))
    wait_until(lambda: '"RUNNING"' in user.ok("tasks", "--json"), 60, user.logs)
    batch = json.loads(user.ok("pilot", "show", pilot, "--json"))["batch_id"]
    user.pool.run("condor_rm", f"{batch}.2")
    gate.touch()
    user.ok("wait", "--timeout", "90s")
    assert [json.loads(line)["state"] for line in user.ok("results", "--json").splitlines()] == ["DONE"] * 72
    user.ok("pilot", "cancel", pilot)
    wait_until(lambda: user.state(pilot) == "CANCELED", 60, user.logs)
    wait_until(lambda: not user.pool.jobs(), 60, lambda: user.pool.run("condor_q", "-nobatch"))


def test_number_of_cores_has_to_be_said(user: User) -> None:
    done = user.run("pilot", "submit", "--scheduler", "condor", "--login", "-", "--nodes", "2")
    assert done.returncode == 5
    assert "say how many cores a node has" in done.stderr
