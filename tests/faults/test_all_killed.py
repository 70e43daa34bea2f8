"""Agent, guard and sweeper are killed, alone, in pairs, and with all of their sessions: no process of a task is left.

The tasks cut their processes loose in every way that is known: descent alone tells whose they are.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.agent import guard
from pilotmtc.agent.crews.contact import Contact
from pilotmtc.model import Resources
from pilotmtc.states import PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell
from tests.integration.pool_support import running_pool
from tests.support import alive, kill_at_once, nap, wait_until

NO_ORPHAN_S = 5.0
ONE, OTHER = nap(), nap()  # how long tasks sleep, by which they are known


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def tree(mark: str) -> str:
    """Return a shell line with five processes ``sleep MARK``, four of which deny in some way whose they are."""
    return (
        f"(env -i setsid sleep {mark} >/dev/null 2>&1 </dev/null &)\n"
        f"env PILOTMTC_TASK_ID=4711 PILOTMTC_ATTEMPT=1 setsid sleep {mark} &\n"
        f"env PILOTMTC_STORE_SERVER=/x setsid sleep {mark} &\n"
        f"(trap '' TERM; sleep {mark}) &\n"
        f"sleep {mark}"
    )


def sleepers(mark: str) -> list[int]:
    return alive(f"sleep\0{mark}")


def sweepers_of(guard: int) -> list[int]:
    """Return the sweeper of a guard, if it has one."""
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    return [int(pid) for pid in children if int(pid) in alive("mtc-sweeper")]


def sessions_of(*pids: int) -> set[int]:
    """Return all processes of the sessions of `pids`: what a batch system kills of a job."""
    wanted = {os.getsid(pid) for pid in pids}
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) in wanted:
                    found.add(int(name))
            except ProcessLookupError:
                continue
    return found


@pytest.mark.parametrize("victims", ["guard", "agent", "guard agent", "guard sweeper", "agent sweeper"])
def test_no_process_of_a_task_is_left(site: Site, victims: str) -> None:
    site.submit(shell(tree(ONE)))
    pilot = site.start()
    wait_until(lambda: len(sleepers(ONE)) == 5)
    guard = site.guard(pilot.id)
    there = {"guard": guard, "agent": site.agent(pilot.id), "sweeper": sweepers_of(guard)[0]}
    kill_at_once([there[name] for name in victims.split()])
    wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S)
    if victims == "guard agent":  # nobody is left to tell the store
        wait_until(lambda: not Path(f"/proc/{there['sweeper']}").exists())
    else:
        assert site.wait_over(pilot.id).state is PilotState.FAILED


def test_next_pilot_ends_what_is_left_when_all_three_are_killed(site: Site) -> None:
    """Nobody who knows of the tasks is left; another pilot, which lives, keeps its own."""
    first = site.submit(shell(tree(ONE)), resources=Resources(cores=2))[0]
    lost = site.start()
    site.wait_running(first)
    site.submit(shell(f"exec sleep {OTHER}"), resources=Resources(cores=2))
    site.start()
    wait_until(lambda: len(sleepers(ONE)) == 5 and len(sleepers(OTHER)) == 1)
    guard_ = site.guard(lost.id)
    pipe = Path(guard.MEMORY, f"{guard._ALIVE}{guard.mark_of(guard_) >> guard.HALF:x}")
    assert pipe.exists()
    kill_at_once([guard_, site.agent(lost.id), *sweepers_of(guard_)])
    site.start()  # the pilot of another test may have come first, and done the same
    wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S)
    assert len(sleepers(OTHER)) == 1
    wait_until(lambda: not pipe.exists())


def test_killed_sweeper_is_replaced_and_tasks_go_on(site: Site) -> None:
    task = site.submit(shell(tree(ONE)))[0]
    pilot = site.start()
    wait_until(lambda: len(sleepers(ONE)) == 5)
    guard = site.guard(pilot.id)
    (first,) = sweepers_of(guard)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: sweepers_of(guard) not in ([], [first]))
    site.wait_running(task)
    assert len(sleepers(ONE)) == 5
    kill_at_once([guard, site.agent(pilot.id)])
    wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S)


def test_job_whose_sessions_are_killed_leaves_nothing_on_its_node(site: Site) -> None:
    """So do Torque and OpenPBS: within a millisecond, and tasks are in sessions of their own."""
    with running_pool(site, 1, 2, before=["setsid"]) as pool:
        pool.wait_nodes(1)
        site.submit(shell(tree(ONE)))
        wait_until(lambda: len(sleepers(ONE)) == 5, on_timeout=pool.log)
        (worker,) = pool.workers().values()
        guards = [pool.guard_of(worker), pool.guard_of(pool.agent())]
        kill_at_once(sessions_of(worker, pool.agent(), *guards))
        wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S, on_timeout=pool.log)


def test_workers_are_not_deceived_by_who_takes_the_dead_agents_port(site: Site) -> None:
    with running_pool(site, 1, 2) as pool, socket.socket() as stranger:
        pool.wait_nodes(1)
        site.submit(shell(tree(ONE)))
        wait_until(lambda: len(sleepers(ONE)) == 5, on_timeout=pool.log)
        host, _, port = Contact.read(pool.directory / "contact").address.removeprefix("tcp://").rpartition(":")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kill_at_once([pool.agent(), pool.job.pid])
        wait_until(lambda: bound(stranger, (host, int(port))))
        stranger.listen()  # and never says a word
        wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S, on_timeout=pool.log)
        assert "somebody else has its port" in pool.log()


def bound(stranger: socket.socket, address: tuple[str, int]) -> bool:
    """Bind a socket if that can be done now."""
    try:
        stranger.bind(address)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("victims", ["guard worker", "guard sweeper", "worker sweeper"])
def test_nothing_is_left_on_the_node_of_a_worker(site: Site, victims: str) -> None:
    with running_pool(site, 1, 2, {"PILOTMTC_NODE_TIMEOUT_S": "6"}) as pool:
        pool.wait_nodes(1)
        site.submit(shell(f"test $PILOTMTC_ATTEMPT = 1 || exit 0\n{tree(ONE)}"))
        wait_until(lambda: len(sleepers(ONE)) == 5, on_timeout=pool.log)
        (worker,) = pool.workers().values()
        guard = pool.guard_of(worker)
        there = {"guard": guard, "worker": worker, "sweeper": sweepers_of(guard)[0]}
        kill_at_once([there[name] for name in victims.split()])
        wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S, on_timeout=pool.log)


def test_what_a_task_has_cut_loose_ends_with_it(site: Site) -> None:
    """Another task that began before it still runs: that must not save it, or be harmed itself."""
    other = site.submit(shell(tree(ONE)))[0]
    site.start()
    wait_until(lambda: len(sleepers(ONE)) == 5)
    site.submit(
        shell(f"(env -i setsid sleep {OTHER} &)\nenv PILOTMTC_TASK_ID={other} setsid sleep {OTHER} & sleep 0.1")
    )
    site.wait_done(1)
    wait_until(lambda: not sleepers(OTHER), NO_ORPHAN_S)
    assert len(sleepers(ONE)) == 5
    assert site.state(other) is TaskState.RUNNING


def test_server_that_a_task_has_started_outlives_it(site: Site, tmp_path: Path) -> None:
    """It is nobody's: the next one who comes would have to start it again."""
    store = tmp_path / "another.db"
    begin = f"{sys.executable} -m pilotmtc --store {store} submit true >/dev/null && cut -d' ' -f1 {store}.lock"
    task = site.submit(shell(begin, env={"PILOTMTC_SERVER_LINGER_S": "60"}))[0]
    site.start()
    site.wait_done(1)
    server = int(site.output(task).stdout)
    site.submit(shell(f"(setsid sleep {ONE} &)"))
    site.wait_done(2)
    wait_until(lambda: not sleepers(ONE), NO_ORPHAN_S)  # a sweep has been
    os.kill(server, signal.SIGTERM)
