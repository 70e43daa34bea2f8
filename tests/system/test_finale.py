"""Ten thousand tasks over four nodes of a real SLURM, reached over SSH, while a node, an agent and sshd die."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from tests.lab.site import Site, login_of, needs_slurm, site, slurm
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.support import processes_with, wait_until

__all__ = ["needs_slurm", "site", "slurm"]  # fixtures

# Limits for what hangs, not for how fast a busy machine has to be.
pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(900)]

TASKS = 10_000
QUARTER = TASKS // 4
SLOTS = 48
LIMIT_S = 300.0


@pytest.fixture
def site_sshd(slurm: Slurm) -> Iterator[Sshd]:
    """A way in of its own, for it is restarted."""
    with login_of(slurm) as server:
        yield server


@pytest.fixture
def gates(slurm: Slurm) -> Iterator[list[TextIO]]:
    """Four locked files, for the tasks of each quarter one: they wait for it, however fast or slow the machine is."""
    directory = slurm.directory / f"gates-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o755)
    files: list[TextIO] = [open(directory / str(number), "w", encoding="ascii") for number in range(4)]  # noqa: SIM115
    for file in files:
        os.chmod(file.name, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX)
    yield files
    for file in files:
        file.close()


def test_ten_thousand_tasks_outlive_a_node_an_agent_and_sshd(site: Site, gates: list[TextIO]) -> None:
    began = time.monotonic()

    def note(words: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {words}")

    def count(state: str) -> int:
        (campaign,) = json.loads(site.ok("--site", "lab", "status", "1", "--json"))["campaigns"]
        return int(campaign["counts"][state])

    def submit_pilot() -> str:
        pilot = site.ok("pilot", "submit", "--site", "lab", "--nodes", "2", "--walltime", "20m", "--idle", "2s").strip()
        note(f"pilot {pilot} of 2 nodes is submitted")
        return pilot

    assert site.add("lab", "--queue", "debug").returncode == 0
    files = os.path.dirname(gates[0].name)
    line = f"exec flock -s -F {files}/$(({{}} / {QUARTER})) echo {{}}"
    site.ok("submit", "--site", "lab", "--cwd", "/", line, ":::", *map(str, range(TASKS)))
    note(f"{TASKS} tasks are submitted")
    first, second = submit_pilot(), submit_pilot()
    for pilot in (first, second):
        site.wait_for(pilot, "ACTIVE", timeout_s=LIMIT_S)
    # Both have all that they can hold, and are in the middle of it for as long as the gates are shut.
    wait_until(lambda: count("RUNNING") == SLOTS, LIMIT_S, site.logs)

    batch = site.pilot(first)["batch_id"]
    hosts = site.slurm.admin("squeue", "-h", "-j", str(batch), "-o", "%N").strip()
    node = site.slurm.admin("scontrol", "show", "hostnames", hosts).split()[-1]  # not that of the agent
    try:
        gates[0].close()
        wait_until(lambda: count("DONE") > 0, LIMIT_S, site.logs)
        note(f"{count('DONE')} done; node {node} of pilot {first} fails")
        site.slurm.fail_node(node)
        gates[1].close()
        wait_until(lambda: count("DONE") > QUARTER, LIMIT_S, site.logs)

        note(f"{count('DONE')} done; sshd is restarted, with all connections cut")
        site.sshd.stop()
        gates[2].close()  # what ends now waits with its agent until there is a link again
        site.sshd.restart()
        wait_until(lambda: count("DONE") > 2 * QUARTER, LIMIT_S, site.logs)

        note(f"{count('DONE')} done; the agent of pilot {second} is killed")
        os.kill(site.pilot(second)["pid"], signal.SIGKILL)
        submit_pilot()
        gates[3].close()
        site.ok("--site", "lab", "wait", "1", "--timeout", f"{LIMIT_S}s", timeout_s=LIMIT_S + 30)
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
        final = site.wait_for(pilot["id"], "DONE", "FAILED", "CANCELED", timeout_s=LIMIT_S)
        note(f"pilot {pilot['id']}: {final['state']} {final['reason']}")
    assert site.pilot(first)["state"] == "DONE"  # it has lost a node, and went on with the other
    assert "is sound" in site.ok("--site", "lab", "store", "check")
    wait_until(lambda: not site.slurm.admin("squeue", "-h").strip(), 60, site.logs)
    wait_until(lambda: not processes_with(f"PILOTMTC_STORE={site.store}"), 10)
