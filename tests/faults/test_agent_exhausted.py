"""Agents and guards have no room on the disk, no inodes or no descriptors. They bear it."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.states import PilotState, TaskState
from tests.integration.agent_support import Site, kill, running_site, shell
from tests.support import small_disk, wait_until


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_guard_on_a_full_disk_still_tells_the_store(tmp_path: Path, surroundings: Path) -> None:
    with small_disk(tmp_path / "store.db.d", "1m") as disk, running_site(tmp_path) as site:
        task = site.submit(shell("sleep 600"))[0]
        pilot = site.start()
        site.wait_running(task)
        log = Path(pilot.directory) / "agent.log"
        with log.open("ab") as file:  # its last block is full, too
            file.write(b"." * (-log.stat().st_size % 4096))
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        kill(site.agent(pilot.id))
        over = site.wait_over(pilot.id)
        assert over.state is PilotState.FAILED
        assert "killed by signal 9" in over.reason
        assert site.state(task) is TaskState.READY


def test_agent_without_descriptors_waits_for_some(site: Site) -> None:
    pilot = site.start()
    site.submit(shell("true"))
    site.wait()
    agent = site.agent(pilot.id)
    before = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{agent}/fd")) + 1, before[1]))
    site.submit(shell("echo {task_id}; head -c 70000 /dev/zero"), copies=20)
    log = Path(pilot.directory) / "agent.log"
    wait_until(lambda: "Too many open files" in log.read_text(), 30.0)
    resource.prlimit(agent, resource.RLIMIT_NOFILE, before)
    assert site.wait() == {TaskState.DONE: 21}
    assert site.agent(pilot.id) == agent
    assert site.pilot(pilot.id).state is PilotState.ACTIVE
