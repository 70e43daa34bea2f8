"""Things are killed. Nothing is lost, nothing is recorded twice, nothing is left over."""

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.states import PilotState, TaskState
from tests.integration.agent_support import Site, kill, running_site, shell, until
from tests.support import alive, nap, wait_until

NO_ORPHAN_S = 5.0


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def tree(seconds: str) -> str:
    """Return a shell line with children, a daemon in a session of its own and a stubborn one."""
    return f"setsid sleep {seconds} & (trap '' TERM; sleep {seconds}) & sleep {seconds}"


def test_killed_agent_leaves_no_orphan_and_its_tasks_go_back(site: Site) -> None:
    mark = nap()
    task = site.submit(shell(tree(mark)))[0]
    pilot = site.start()
    site.wait_running(task)
    wait_until(lambda: len(alive(f"sleep\0{mark}")) == 3)
    kill(site.agent(pilot.id))
    wait_until(lambda: not alive(mark), NO_ORPHAN_S)
    over = site.wait_over(pilot.id)
    assert over.state is PilotState.FAILED
    assert "killed by signal 9" in over.reason
    assert site.state(task) is TaskState.READY


def test_killed_guard_leaves_no_orphan_and_its_tasks_go_back(site: Site) -> None:
    mark = nap()
    task = site.submit(shell(tree(mark)))[0]
    pilot = site.start()
    site.wait_running(task)
    kill(site.guard(pilot.id))
    wait_until(lambda: not alive(mark), NO_ORPHAN_S)
    assert site.wait_over(pilot.id).state is PilotState.FAILED
    assert site.state(task) is TaskState.READY


def test_all_that_is_called_pilotmtc_may_be_killed_at_once(site: Site, tmp_path: Path) -> None:
    mark = nap()
    # The directory's name is in the command lines of this test's own processes only.
    task = site.submit(shell(tree(mark)))[0]
    pilot = site.start()
    site.wait_running(task)
    for pid in alive(str(tmp_path)):
        with contextlib.suppress(ProcessLookupError):  # the way to the store ends with the agent
            kill(pid)
    wait_until(lambda: not alive(mark), NO_ORPHAN_S)
    assert site.wait_over(pilot.id).state is PilotState.FAILED
    assert site.state(task) is TaskState.READY


def test_guard_does_not_name_the_program(site: Site) -> None:
    pilot = site.start()
    line = Path(f"/proc/{site.guard(pilot.id)}/cmdline").read_bytes()
    assert line.strip(b"\0") == b"mtc-guard"


def test_killed_task_tree_is_a_result_like_any_other(site: Site) -> None:
    mark = nap()
    task = site.submit(shell(f"sleep {mark} & sleep {mark}"))[0]
    site.start()
    site.wait_running(task)
    wait_until(lambda: len(alive(f"sleep\0{mark}")) == 2)
    for pid in alive(mark):
        with contextlib.suppress(ProcessLookupError):  # it ends with the shell, which was the first to be killed
            kill(pid)
    site.wait()
    assert site.last(task).signal == signal.SIGKILL
    wait_until(lambda: not alive(mark), NO_ORPHAN_S)


def test_killed_store_server_costs_nothing(site: Site) -> None:
    tasks = site.submit(shell("sleep 0.01; echo {task_id}"), copies=300)
    site.start()
    for done in (20, 100, 200):
        site.wait_done(done)
        kill(site.server())
    assert site.wait() == {TaskState.DONE: 300}
    for task in tasks:
        assert [attempt.attempt for attempt in site.attempts(task)] == [1]
        assert site.output(task).stdout == b"%d\n" % task
    assert site.client.call(CheckStore()).problems == ()


def test_agents_killed_again_and_again_lose_nothing(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = site.submit(shell(f"echo {{task_id}} >> {log}"), copies=600)
    for done in (100, 300):
        pilot = site.start()
        site.wait_done(done)
        kill(site.agent(pilot.id))
    site.start()
    assert site.wait() == {TaskState.DONE: 600}
    assert {int(word) for word in log.read_text().split()} == set(tasks)
    recorded = sqlite3.connect(site.url)
    (twice,) = recorded.execute(
        "SELECT count(*) FROM (SELECT task_id FROM attempts WHERE exit_code = 0 GROUP BY task_id HAVING count(*) > 1)"
    ).fetchone()
    recorded.close()
    assert twice == 0
    assert site.client.call(CheckStore()).problems == ()


def test_results_of_a_killed_agent_come_out_of_its_spool(site: Site, tmp_path: Path) -> None:
    server = site.server()
    pilot = site.start()
    agent = site.agent(pilot.id)
    task = site.submit(shell(f"{until(tmp_path / 'go')}; echo precious"))[0]
    site.wait_running(task)
    os.kill(server, signal.SIGSTOP)  # the link is there, but nothing is acknowledged
    try:
        (tmp_path / "go").touch()
        spool = Path(pilot.directory)
        wait_until(lambda: any(path.stat().st_size for path in spool.glob("spool.*")), 10.0)
        kill(agent)
        wait_until(lambda: set(alive("--post-mortem")) & set(alive(pilot.directory)))  # which is not heard, either
    finally:
        os.kill(server, signal.SIGCONT)
    site.wait_over(pilot.id)
    assert site.state(task) is TaskState.DONE
    assert site.output(task).stdout == b"precious\n"
    assert len(site.attempts(task)) == 1
