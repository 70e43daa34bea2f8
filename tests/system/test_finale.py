"""Ten thousand tasks over four nodes of a real SLURM, reached over SSH, while a node, an agent and sshd die."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.lab.site import Site, login_of, needs_slurm, site, slurm
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.support import processes_with, wait_until

__all__ = ["needs_slurm", "site", "slurm"]  # fixtures

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(300)]

TASKS = 10_000


@pytest.fixture
def site_sshd(slurm: Slurm) -> Iterator[Sshd]:
    """A way in of its own, for it is restarted."""
    with login_of(slurm) as server:
        yield server


def test_ten_thousand_tasks_outlive_a_node_an_agent_and_sshd(site: Site) -> None:
    began = time.monotonic()

    def note(words: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {words}")

    def done() -> int:
        (campaign,) = json.loads(site.ok("--site", "lab", "status", "1", "--json"))["campaigns"]
        return int(campaign["counts"]["DONE"])

    def submit_pilot() -> str:
        pilot = site.ok("pilot", "submit", "--site", "lab", "--nodes", "2", "--walltime", "9m", "--idle", "2s").strip()
        note(f"pilot {pilot} of 2 nodes is submitted")
        return pilot

    assert site.add("lab", "--queue", "debug").returncode == 0
    site.ok("submit", "--site", "lab", "--cwd", "/", "sleep 0.2; echo {}", ":::", *map(str, range(TASKS)))
    note(f"{TASKS} tasks are submitted")
    first, second = submit_pilot(), submit_pilot()
    for pilot in (first, second):
        site.wait_for(pilot, "ACTIVE")
    wait_until(lambda: done() > 500, 60, site.logs)

    batch = site.pilot(first)["batch_id"]
    hosts = site.slurm.admin("squeue", "-h", "-j", str(batch), "-o", "%N").strip()
    node = site.slurm.admin("scontrol", "show", "hostnames", hosts).split()[-1]  # not that of the agent
    try:
        note(f"{done()} done; node {node} of pilot {first} fails")
        site.slurm.fail_node(node)
        before = done()
        wait_until(lambda: done() > before, 60, site.logs)

        note(f"{done()} done; sshd is restarted, with all connections cut")
        site.sshd.stop()
        site.sshd.restart()
        before = done()
        wait_until(lambda: done() > before, 60, site.logs)

        note(f"{done()} done; the agent of pilot {second} is killed")
        os.kill(site.pilot(second)["pid"], signal.SIGKILL)
        submit_pilot()
        site.ok("--site", "lab", "wait", "1", "--timeout", "170s", timeout_s=180)
    finally:
        site.slurm.repair_node(node)
    note("all are over")

    results = [json.loads(line) for line in site.ok("--site", "lab", "results", "1", "--json").splitlines()]
    assert [(each["state"], each["stdout"].strip()) for each in results] == [
        ("DONE", str(value)) for value in range(TASKS)
    ]
    again = sum(each["attempt"] > 1 for each in results)
    note(f"{len(results)} results, each once; {again} tasks needed more than one attempt")
    pilots = [json.loads(line) for line in site.ok("--site", "lab", "pilot", "list", "--all", "--json").splitlines()]
    for pilot in pilots:
        final = site.wait_for(pilot["id"], "DONE", "FAILED", "CANCELED")
        note(f"pilot {pilot['id']}: {final['state']} {final['reason']}")
    assert site.pilot(first)["state"] == "DONE"  # it has lost a node, and went on with the other
    assert "is sound" in site.ok("--site", "lab", "store", "check")
    wait_until(lambda: not site.slurm.admin("squeue", "-h").strip(), 60, site.logs)
    wait_until(lambda: not processes_with(f"PILOTMTC_STORE={site.store}"), 10)
