"""Pilots of many nodes in a real SLURM: four nodes of twelve slots, tasks of one rank, programs with MPI."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilotmtc.model import PilotDescription, Resources, TaskId
from pilotmtc.protocol.client.pilots import CreatePilot, DrainPilot
from pilotmtc.states import PILOT_FINAL, Cause, PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell, until
from tests.integration.pool_support import PoolPilot
from tests.lab.machine import alone, install
from tests.lab.slurm import Slurm, slurm
from tests.support import alive, nap, wait_until

__all__ = ["slurm"]  # a fixture

MPI = """\
import os
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
where = world.gather((os.environ["PILOTMTC_RANK"], os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"]))
if world.rank == 0:
    print(world.size, total, sorted(int(rank) for rank, _ in where) == list(range(world.size)))
    print(sorted({int(size) for _, size in where}))
"""


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


@contextmanager
def pilot_of(slurm: Slurm, site: Site, nodes: int = 4) -> Iterator[PoolPilot]:
    """Give a pilot that is a batch job, and end it."""
    directory = Path(site.url).parent / "pilots" / secrets.token_hex(4)
    directory.mkdir(parents=True)
    description = PilotDescription(nodes=nodes, walltime_s=540.0)
    pilot = site.client.call(CreatePilot(secrets.token_hex(4), description, str(directory))).pilots[0]
    site.pilots.append(pilot)
    script = directory / "job.sh"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} -m pilotmtc --store {site.url} agent "
        f"--pilot {pilot.id} --directory {directory} --allocation\n"
    )
    # The nodes are this machine: they share its names, and Open MPI would take their ranks for neighbours.
    environment = os.environ | {
        "SLURM_CONF": str(slurm.conf), "PILOTMTC_NETWORK": "127.0.0.1", "OMPI_MCA_btl": "self,tcp",
        "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo",
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }  # fmt: skip
    command = [
        "sbatch",
        "--parsable",
        "--exclusive",
        "--no-kill",  # the job outlives the loss of a node
        f"--nodes={nodes}",
        f"--output={directory}/agent.log",
        str(script),
    ]
    job = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    with subprocess.Popen(["true"]) as nothing:
        pool = PoolPilot(site, pilot, nothing)
    try:
        wait_until(lambda: site.pilot(pilot.id).nodes == nodes, 60.0, on_timeout=lambda: (pool.log(), slurm.logs()))
        pool.batch = job
        yield pool
    finally:
        slurm.admin("scancel", job)
        wait_until(slurm.is_idle, 60.0, on_timeout=lambda: slurm.admin("squeue"))


def nodes_of(site: Site, tasks: list[TaskId]) -> set[str]:
    return {site.last(task).node for task in tasks}


def test_all_slots_of_four_nodes_are_used_and_the_job_ends_well(slurm: Slurm, site: Site) -> None:
    with pilot_of(slurm, site) as pool:
        assert site.pilot(pool.pilot.id).cores == 48
        tasks = site.submit(shell("echo $SLURMD_NODENAME; sleep 1"), copies=96)
        pool.wait_tasks({TaskState.DONE: 96})
        assert nodes_of(site, tasks) == {"n1", "n2", "n3", "n4"}
        assert all(site.output(task).stdout.decode().strip() == site.last(task).node for task in tasks)
        site.client.call(DrainPilot(pool.pilot.id))
        assert site.wait_over(pool.pilot.id).state is PilotState.DONE
        state = f"scontrol show job {pool.batch}"
        wait_until(lambda: "JobState=COMPLETED" in slurm.admin(*state.split()), 30.0)


def test_a_node_that_goes_down_loses_its_tasks_and_nothing_else(slurm: Slurm, site: Site, tmp_path: Path) -> None:
    with pilot_of(slurm, site) as pool:
        tasks = site.submit(shell("echo $PILOTMTC_TASK_ID"), copies=60)
        tasks += site.submit(shell(f"{until(tmp_path / 'go')}; echo $PILOTMTC_TASK_ID"), copies=340)
        wait_until(lambda: site.counts().get(TaskState.RUNNING) == 48, 60.0, on_timeout=pool.log)
        try:
            slurm.fail_node("n3")
            (tmp_path / "go").touch()
            pool.wait_tasks({TaskState.DONE: 400}, 90.0)
        finally:
            slurm.start_node("n3")
        assert [site.output(task).stdout for task in tasks] == [f"{task}\n".encode() for task in tasks]
        causes = [attempt.cause for task in tasks for attempt in site.attempts(task)]
        assert causes.count(Cause.EXIT) == 400
        assert set(causes) == {Cause.EXIT, Cause.NODE_LOST}


def test_canceled_job_leaves_nothing(slurm: Slurm, site: Site) -> None:
    mark = nap()
    with pilot_of(slurm, site) as pool:
        tasks = site.submit(shell(f"setsid sleep {mark} & exec sleep {mark}"), copies=48)
        for task in tasks:
            site.wait_running(task)
        slurm.admin("scancel", pool.batch)
        wait_until(lambda: not alive(f"sleep\0{mark}"), 10.0, on_timeout=pool.log)
        wait_until(lambda: site.pilot(pool.pilot.id).state in PILOT_FINAL, 60.0, on_timeout=pool.log)
        assert site.counts() == {TaskState.READY: 48}


def test_program_with_mpi_runs_on_its_slots_of_several_nodes_beside_small_tasks(
    slurm: Slurm, site: Site, tmp_path: Path
) -> None:
    with alone():
        install({"/usr/bin/mpiexec": "openmpi-bin", "/usr/lib/python3/dist-packages/mpi4py": "python3-mpi4py"})
    program = tmp_path / "mpi.py"
    program.write_text(MPI)
    with pilot_of(slurm, site) as pool:
        small = site.submit(shell("sleep 0.3"), copies=100)
        wide = site.submit(shell(f"exec /usr/bin/python3 {program}"), resources=Resources(ranks=20), copies=2)
        even = site.submit(
            shell(f"exec /usr/bin/python3 {program}"), resources=Resources(ranks=9, ranks_per_node=3)
        )  # fmt: skip
        pool.wait_tasks({TaskState.DONE: 103}, 90.0)
        for task in wide:
            assert site.output(task).stdout.decode().splitlines()[0] == "20 190 True"
        assert site.output(even[0]).stdout.decode().splitlines() == ["9 36 True", "[3]"]
        assert site.last(even[0]).node.startswith("n[")
        assert {site.last(task).cause for task in small} == {Cause.EXIT}


def test_srun_starts_ranks_where_their_slots_are(slurm: Slurm, site: Site) -> None:
    with pilot_of(slurm, site) as pool:
        line = "echo $PILOTMTC_RANK $SLURMD_NODENAME $PILOTMTC_CORE_LIST"
        env = {"PILOTMTC_LAUNCHER": "srun", "SLURM_MPI_TYPE": "none"}
        task = site.submit(shell(line, env=env), resources=Resources(ranks=5, ranks_per_node=2))[0]
        pool.wait_tasks({TaskState.DONE: 1})
        ranks = sorted(line.split() for line in site.output(task).stdout.decode().splitlines())
        assert [(rank, cores) for rank, _, cores in ranks] == [
            ("0", "0"),
            ("1", "1"),
            ("2", "0"),
            ("3", "1"),
            ("4", "0"),
        ]
        nodes = [node for _, node, _ in ranks]
        assert nodes[0] == nodes[1] != nodes[2] == nodes[3] != nodes[4]
