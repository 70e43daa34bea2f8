"""Real launchers of node workers and of ranks outside SLURM: ssh, pbsdsh, and mpiexec of Open MPI and of MPICH."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.host_lists import expand
from pilotmtc.model import PilotDescription, Resources, TaskId
from pilotmtc.protocol.client.pilots import DrainPilot
from pilotmtc.states import Cause, PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell, until
from tests.integration.pool_support import PoolPilot, running_pool
from tests.lab.machine import ROOT, alone, install
from tests.lab.pbsdsh import write_pbsdsh
from tests.lab.sshd import Client, Sshd, client, sshd
from tests.support import alive, nap, wait_until

__all__ = ["client", "sshd"]  # fixtures

MPI = """\
import os
from mpi4py import MPI
world = MPI.COMM_WORLD
ranks = world.gather(int(os.environ["PILOTMTC_RANK"]))
total = world.allreduce(world.rank)
if world.rank == 0:
    print(world.size, total, sorted(ranks) == list(range(world.size)))
"""
ROOT_TOO = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# Several nodes on one host: Open MPI would take their ranks for neighbours that share memory.
OPEN_MPI = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


# Open MPI 5 tells nodes apart by their host names, and not by the names that mpiexec was given: on nodes of one name,
# wide tasks fail to start now and then ("num local peers"). MPICH's nodes must find each other by their host names.
SSH = """\
#!{python}
import os, shlex, sys
words = sys.argv[1:]
at = 0
while words[at].startswith("-"):
    at += 2 if words[at] == "-o" else 1
host, line = words[at], " ".join(words[at + 1:])
if "OWN_HOST_NAMES" in os.environ:
    line = "exec unshare --uts sh -c " + shlex.quote(f"hostname {{host}}; {{line}}")
os.execv("/usr/bin/ssh", ["ssh", "-F", "{config}", *words[:at], host, line])
"""


@pytest.fixture
def mpi(tmp_path: Path) -> str:
    """Return the command of a program with MPI."""
    python, library = "/usr/bin/python3", "/usr/lib/python3/dist-packages/mpi4py"
    if ROOT:
        with alone():
            install({"/usr/bin/mpiexec.openmpi": "openmpi-bin", library: "python3-mpi4py"})
    elif not Path(library).exists() or not Path("/usr/bin/mpiexec.openmpi").exists():
        pytest.skip("needs Open MPI and mpi4py (Debian: openmpi-bin, python3-mpi4py)")
    # The first start of Open MPI 5 after an installation is slow: its daemons of several nodes then miss each other.
    subprocess.run(["/usr/bin/mpiexec.openmpi", "-n", "1", "true"], env=os.environ | ROOT_TOO, check=True, timeout=120)
    program = tmp_path / "mpi.py"
    program.write_text(MPI)
    return f"exec {python} {program}"


@pytest.fixture
def hosts(tmp_path: Path, sshd: Sshd, client: Client) -> dict[str, str]:
    """Let this account in under the names of four nodes; return the variables of a job that finds them by ssh."""
    key = client.key.with_suffix(".pub").read_text()
    with (sshd.directory / f"keys-{pwd.getpwuid(os.geteuid()).pw_name}").open("a") as keys:
        keys.write(key)
    client.write_config(f"Host h?\n  HostName 127.0.0.1\n  Port {sshd.port}\n  HostKeyAlias [127.0.0.1]:{sshd.port}\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(SSH.format(python=sys.executable, config=client.config))
    ssh.chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "PILOTMTC_NETWORK": "127.0.0.1", **OPEN_MPI}


def run_on_all_slots(pool: PoolPilot, gate: Path) -> list[TaskId]:
    """Run twice as many tasks as there are slots, which are six, and all of them taken before the first one ends."""
    tasks = pool.site.submit(shell(f'{until(gate)}; echo "$MINE"'), copies=12)
    wait_until(lambda: pool.site.counts().get(TaskState.RUNNING) == 6, 60.0, on_timeout=pool.log)
    gate.touch()
    pool.wait_tasks({TaskState.DONE: 12})
    return tasks


def nodes_of(site: Site, tasks: list[TaskId]) -> set[str]:
    return {site.last(task).node for task in tasks}


def test_workers_of_ssh_run_tasks_with_the_jobs_variables_and_leave(
    site: Site, hosts: dict[str, str], tmp_path: Path
) -> None:
    with running_pool(site, 3, 2, env={**hosts, "MINE": "of the job"}, hosts="h[1-3]") as pool:
        pool.wait_nodes(3)
        tasks = run_on_all_slots(pool, tmp_path / "go")
        assert nodes_of(site, tasks) == {"h1", "h2", "h3"}
        assert {site.output(task).stdout for task in tasks} == {b"of the job\n"}
        site.client.call(DrainPilot(pool.pilot.id))
        assert site.wait_over(pool.pilot.id).state is PilotState.DONE
        assert pool.job.wait(10.0) == 0
        assert not alive(str(pool.directory / "contact"))


def test_tasks_outlive_the_connections_that_started_their_workers(
    site: Site, hosts: dict[str, str], sshd: Sshd, tmp_path: Path
) -> None:
    with running_pool(site, 2, 2, env=hosts, hosts="h1,h2") as pool:
        pool.wait_nodes(2)
        tasks = site.submit(shell(until(tmp_path / "go")), copies=4)
        for task in tasks:
            site.wait_running(task)
        sshd.cut()
        (tmp_path / "go").touch()
        later = site.submit(shell("true"), copies=4)
        pool.wait_tasks({TaskState.DONE: 8})
        assert {attempt.cause for task in tasks + later for attempt in site.attempts(task)} == {Cause.EXIT}


def test_killed_agent_leaves_no_task_on_a_node_that_ssh_reached(site: Site, hosts: dict[str, str]) -> None:
    mark = nap()
    with running_pool(site, 2, 1, env=hosts, hosts="h1,h2") as pool:
        pool.wait_nodes(2)
        for task in site.submit(shell(f"setsid sleep {mark} & exec sleep {mark}"), copies=2):
            site.wait_running(task)
        os.kill(pool.agent(), signal.SIGKILL)
        wait_until(lambda: not alive(f"sleep\0{mark}"), 20.0, on_timeout=pool.log)


def test_hosts_that_cannot_be_reached_end_the_pilot_with_what_ssh_said(site: Site, hosts: dict[str, str]) -> None:
    with running_pool(site, 2, 1, env=hosts, hosts="nowhere.invalid,elsewhere.invalid") as pool:
        pilot = site.wait_over(pool.pilot.id)
        assert pilot.state is PilotState.FAILED
        assert "ssh ended with exit code 255" in pool.log()
        assert "nowhere.invalid" in pool.log()


def test_ranks_with_mpi_find_each_other_in_a_pilot_of_this_machine(site: Site, mpi: str) -> None:
    site.start(PilotDescription(cores=4, pin=False))
    tasks = site.submit(shell(mpi, env=ROOT_TOO), resources=Resources(ranks=3), copies=2)
    assert site.wait() == {TaskState.DONE: 2}
    assert {site.output(task).stdout for task in tasks} == {b"3 3 True\n"}


def test_ranks_with_mpi_find_each_other_over_the_nodes_that_ssh_reaches(
    site: Site, hosts: dict[str, str], mpi: str
) -> None:
    own_names = {"OWN_HOST_NAMES": "1"} if ROOT else {}
    with running_pool(site, 3, 2, env=hosts | own_names, hosts="h[1-3]") as pool:
        pool.wait_nodes(3)
        small = site.submit(shell("sleep 0.2"), copies=20)
        wide = site.submit(shell(mpi), resources=Resources(ranks=5), copies=2)
        pool.wait_tasks({TaskState.DONE: 22})
        assert {site.output(task).stdout for task in wide} == {b"5 10 True\n"}
        assert {frozenset(expand(site.last(task).node)) for task in wide} == {frozenset({"h1", "h2", "h3"})}
        assert {site.last(task).cause for task in small} == {Cause.EXIT}


def test_ranks_with_mpi_find_each_other_where_all_nodes_are_this_machine(site: Site, mpi: str) -> None:
    with running_pool(site, 3, 2, env=OPEN_MPI) as pool:
        pool.wait_nodes(3)
        task = site.submit(shell(mpi), resources=Resources(ranks=5))[0]
        pool.wait_tasks({TaskState.DONE: 1})
        assert site.output(task).stdout == b"5 10 True\n"


def test_rank_that_fails_under_mpiexec_ends_the_others(site: Site, mpi: str) -> None:
    mark = nap()
    site.start(PilotDescription(cores=4, pin=False))
    line = f'test "$PILOTMTC_RANK" = 1 && exit 7; exec sleep {mark}'
    task = site.submit(shell(line, env={**ROOT_TOO, "PILOTMTC_LAUNCHER": "mpiexec"}), resources=Resources(ranks=3))[0]
    assert site.wait() == {TaskState.FAILED: 1}
    assert (site.last(task).cause, site.last(task).exit_code) == (Cause.EXIT, 7)
    wait_until(lambda: not alive(f"sleep\0{mark}"), 10.0)


def test_mpiexec_of_mpich_starts_each_rank_on_its_node(site: Site, hosts: dict[str, str], tmp_path: Path) -> None:
    if ROOT:
        with alone():
            install({"/usr/bin/mpiexec.hydra": "mpich"})
    elif not Path("/usr/bin/mpiexec.hydra").exists():
        pytest.skip("needs MPICH (Debian: mpich)")
    program = tmp_path / "bin" / "mpiexec"
    program.write_text('#!/bin/sh\nexec /usr/bin/mpiexec.hydra "$@"\n')  # it looks for its parts beside itself
    program.chmod(0o755)
    with running_pool(site, 3, 2, env=hosts, hosts="h[1-3]") as pool:
        pool.wait_nodes(3)
        line = 'echo "$PMI_RANK $PILOTMTC_RANK $PILOTMTC_CORE_LIST $PILOTMTC_TASK_ID"'
        task = site.submit(shell(line), resources=Resources(ranks=5))[0]
        site.wait()
        assert site.counts() == {TaskState.DONE: 1}, (site.output(task).stderr.decode(), pool.log())
        ranks = sorted(line.split() for line in site.output(task).stdout.decode().splitlines())
        assert ranks == [[str(rank), str(rank), str(rank % 2), str(task)] for rank in range(5)]


@pytest.mark.skipif(not ROOT, reason="needs root, to give each node a host name of its own")
@pytest.mark.parametrize("kind", ["openpbs", "torque"])
def test_workers_of_pbsdsh_run_in_bare_surroundings_and_leave(site: Site, tmp_path: Path, kind: str) -> None:
    env = write_pbsdsh(tmp_path / "pbs", kind, ("p1", "p1", "p2", "p2", "p3", "p3"))
    with running_pool(site, 3, 0, env={**env, "MINE": "of the job"}, hosts=None) as pool:
        pool.wait_nodes(3)
        assert site.pilot(pool.pilot.id).cores == 6
        tasks = run_on_all_slots(pool, tmp_path / "go")
        assert nodes_of(site, tasks) == {"p1", "p2", "p3"}
        assert {site.output(task).stdout for task in tasks} == {b"of the job\n"}
        site.client.call(DrainPilot(pool.pilot.id))
        assert site.wait_over(pool.pilot.id).state is PilotState.DONE
        assert pool.job.wait(10.0) == 0
        assert not alive(str(pool.directory / "contact"))
        assert len((tmp_path / "pbs" / "calls").read_text().splitlines()) == (3 if kind == "openpbs" else 1)


@pytest.mark.skipif(not ROOT, reason="needs root, to give each node a host name of its own")
def test_killed_agent_leaves_no_task_on_a_node_of_pbsdsh(site: Site, tmp_path: Path) -> None:
    mark = nap()
    env = write_pbsdsh(tmp_path / "pbs", "torque", ("p1", "p2"))
    with running_pool(site, 2, 1, env=env, hosts=None) as pool:
        pool.wait_nodes(2)
        for task in site.submit(shell(f"setsid sleep {mark} & exec sleep {mark}"), copies=2):
            site.wait_running(task)
        os.kill(pool.agent(), signal.SIGKILL)
        wait_until(lambda: not alive(f"sleep\0{mark}"), 20.0, on_timeout=pool.log)
