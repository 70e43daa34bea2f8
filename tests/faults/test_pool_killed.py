"""Agents, node workers and their guards are killed: no process is left, nothing is lost, nothing is recorded twice."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilotmtc.states import PILOT_FINAL, TaskState
from tests.integration.agent_support import Site, running_site, shell
from tests.integration.pool_support import PoolPilot, running_pool
from tests.support import alive, nap, wait_until

ORPHANS_S = 5.0


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def run_sleepers(site: Site, pool: PoolPilot, mark: str, count: int) -> None:
    """Fill the pilot with tasks that would stay, each with a child that has left its session."""
    pool.wait_nodes(2)
    tasks = site.submit(shell(f"setsid sleep {mark} & exec sleep {mark}"), copies=count)
    for task in tasks:
        site.wait_running(task)
    wait_until(lambda: len(alive(f"sleep\0{mark}")) == 2 * count, 20.0, on_timeout=pool.log)


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def gone(mark: str) -> bool:
    """Whether no such task is left."""
    return not alive(f"sleep\0{mark}")


@pytest.mark.parametrize("victim", ["agent", "guard of the agent"])
def test_killed_agent_leaves_no_task_on_any_node(site: Site, victim: str) -> None:
    mark = nap()
    with running_pool(site, 2, 2) as pool:
        run_sleepers(site, pool, mark, 4)
        os.kill(pool.agent() if victim == "agent" else pool.job.pid, signal.SIGKILL)
        wait_until(lambda: gone(mark), ORPHANS_S, on_timeout=pool.log)
        wait_until(lambda: site.pilot(pool.pilot.id).state in PILOT_FINAL, 30.0, on_timeout=pool.log)
        wait_until(lambda: not pool.workers(), 10.0, on_timeout=pool.log)
        assert site.counts() == {TaskState.READY: 4}


@pytest.mark.parametrize("victim", ["worker", "guard of the worker"])
def test_killed_worker_leaves_no_task_on_its_node(site: Site, victim: str) -> None:
    mark = nap()
    with running_pool(site, 2, 2) as pool:
        pool.wait_nodes(2)
        tasks = site.submit(shell(f"test $PILOTMTC_ATTEMPT = 1 || exit 0; exec sleep {mark}"), copies=4)
        for task in tasks:
            site.wait_running(task)
        wait_until(lambda: len(alive(f"sleep\0{mark}")) == 4, 20.0)
        worker = pool.workers()["n1"]
        os.kill(worker if victim == "worker" else pool.guard_of(worker), signal.SIGKILL)
        wait_until(lambda: len(alive(f"sleep\0{mark}")) == 2, ORPHANS_S, on_timeout=pool.log)
        # A guard starts a killed worker anew; without a guard the node stays away.
        then = TaskState.DONE if victim == "worker" else TaskState.READY
        wait_until(lambda: site.counts() == {then: 2, TaskState.RUNNING: 2}, 20.0, on_timeout=pool.log)


def test_agent_that_dies_alone_does_not_leave_its_workers_waiting(site: Site) -> None:
    """Its guard dies in the same moment, so nobody ends the workers: they see that its port is closed."""
    mark = nap()
    with running_pool(site, 2, 2) as pool:
        run_sleepers(site, pool, mark, 4)
        agent = pool.agent()
        os.kill(pool.job.pid, signal.SIGSTOP)
        os.kill(agent, signal.SIGKILL)
        os.kill(pool.job.pid, signal.SIGKILL)
        wait_until(lambda: gone(mark), ORPHANS_S, on_timeout=pool.log)


def test_agent_whose_machine_says_nothing_is_given_up_by_its_workers(site: Site) -> None:
    """Nobody refuses a connection: its machine is off, or the network is."""
    mark = nap()
    with running_pool(site, 2, 2, env={"PILOTMTC_NODE_TIMEOUT_S": "2"}) as pool:
        run_sleepers(site, pool, mark, 4)
        workers = pool.workers().values()
        with stopped([pool.agent(), pool.job.pid]):
            wait_until(lambda: gone(mark), 2 + ORPHANS_S, on_timeout=pool.log)
            wait_until(lambda: not set(workers) & set(pool.workers().values()), on_timeout=pool.log)
        assert "no sign of life of the agent for 2 s" in pool.log()


def test_terminated_job_drains_and_a_second_signal_ends_it_at_once(site: Site) -> None:
    mark = nap()
    with running_pool(site, 2, 2) as pool:
        run_sleepers(site, pool, mark, 4)
        os.kill(pool.job.pid, signal.SIGTERM)
        wait_until(lambda: "drains: terminated" in pool.log(), on_timeout=pool.log)
        assert not gone(mark)
        os.kill(pool.job.pid, signal.SIGTERM)
        wait_until(lambda: gone(mark), ORPHANS_S, on_timeout=pool.log)
        assert pool.job.wait(20.0) == 0


def test_workers_are_killed_again_and_again_and_every_result_is_recorded_once(site: Site) -> None:
    with running_pool(site, 4, 3) as pool:
        pool.wait_nodes(4)
        tasks = site.submit(shell("echo $PILOTMTC_TASK_ID; sleep 0.05"), copies=600)
        for number, name in enumerate(("n1", "n2", "n1"), 1):
            site.wait_done(60 * number)
            wait_until(lambda name=name: name in pool.workers(), 20.0)  # type: ignore[misc]
            os.kill(pool.workers()[name], signal.SIGKILL)
        pool.wait_tasks({TaskState.DONE: 600})
        assert [site.output(task).stdout for task in tasks] == [f"{task}\n".encode() for task in tasks]
