"""The whole road: a workstation, SSH, a login node with a store, real SLURM, agents that come back over SSH."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.site import Site, needs_slurm, site, site_sshd, slurm
from tests.support import patience_s, wait_until

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures

pytestmark = pytest.mark.xdist_group("slurm")

SHORT = ("--walltime", "5m", "--idle", "2s")


@pytest.fixture
def lab(site: Site) -> Site:
    """A site that is known."""
    done = site.add("lab", "--queue", "debug")
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def fake_command(lab: Site) -> Iterator[Path]:
    """The path of a command that login shells find before SLURM's own, with `REAL` for that one."""
    path = lab.sshd.bin / "sbatch"
    yield path
    path.unlink(missing_ok=True)


def write(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def submit(lab: Site, *words: str) -> str:
    return lab.ok("pilot", "submit", "--site", "lab", *words).strip()


def jobs(lab: Site) -> list[str]:
    """Return names of the jobs of this site's pilots that SLURM knows of, with those that are over."""
    ours = {f"pilotmtc-{path.name}" for path in lab.directory.glob("store.db.d/pilots/*")}
    names = lab.slurm.admin("squeue", "-h", "--states=all", f"--user={lab.slurm.account.name}", "-o", "%j").split()
    return [name for name in names if name in ours]


def server_of(lab: Site) -> int:
    """Return the process that serves the site's store."""
    return int(Path(f"{lab.store}.lock").read_text().split()[0])


def test_tasks_run_in_a_pilot_of_the_site(lab: Site) -> None:
    lab.ok("submit", "--site", "lab", "--cwd", "/", "echo {}", ":::", "1", "2", "3")
    pilot = submit(lab, "--nodes", "2", *SHORT)
    lab.ok("--site", "lab", "wait", "--timeout", "240s")
    results = [json.loads(line) for line in lab.ok("--site", "lab", "results", "--json").splitlines()]
    assert sorted(each["stdout"] for each in results) == ["1", "2", "3"]
    assert lab.wait_for(pilot, "DONE")["batch_id"]


def test_run_is_the_laptop_line_with_one_more_flag(lab: Site) -> None:
    done = lab.run("run", "--site", "lab", "--nodes", "4", "--walltime", "5m", "--cwd", "/", "echo {}", ":::", "a", "b")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["a", "b"]
    assert "with 0 nodes" not in done.stderr
    done = lab.run("run", "--site", "lab", "--walltime", "5m", "--cwd", "/", "exit {}", ":::", "0", "3")
    assert done.returncode == 1
    assert "(3) FAILED: exit 3" in done.stderr
    assert "cannot be asked" not in done.stderr


@pytest.mark.parametrize("need", [("--cores", "13"), ("--ranks", "30")])
def test_run_stops_when_its_first_pilot_shows_that_no_node_is_large_enough(lab: Site, need: tuple[str, str]) -> None:
    done = lab.run(
        "run", "--site", "lab", "--nodes", "2", "--walltime", "2m", "--cwd", "/", *need, "echo r {}", ":::", "1"
    )
    assert done.returncode == 2, done.stderr
    words = "pilot 1 has 12 cores a node, and the task needs 13"
    assert (words if "--cores" in need else "pilot 1 has room for 24 ranks on 2 nodes") in done.stderr
    assert '"state":"READY"' in lab.ok("--site", "lab", "tasks", "--json")
    wait_until(lambda: not json.loads("[" + lab.ok("--site", "lab", "pilot", "list", "--json") + "]"), 60, lab.logs)
    assert len(jobs(lab)) == 1


_UNFIT = """
import operator
from pilotmtc import PilotExecutor
with PilotExecutor(site="lab", walltime="5m", idle="5s") as pool:
    print(pool.submit(operator.add, 1, 1).result(120))
    try:
        pool.options(cores=500).submit(operator.add, 2, 2).result(120)
    except Exception as error:
        print(type(error).__name__, error)
    print(pool.submit(operator.add, 3, 3).result(120))
"""


def test_call_for_which_no_node_is_large_enough_fails_alone(lab: Site) -> None:
    environment = lab.environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    program = subprocess.run(
        [sys.executable, "-c", _UNFIT], env=environment, cwd="/", capture_output=True, text=True,
        timeout=patience_s(120.0), check=False,
    )  # fmt: skip
    assert program.returncode == 0, program.stderr
    assert program.stdout.splitlines() == [
        "2",
        "UsageError task 2 can never run here: pilot 1 has 12 cores a node, and the task needs 500; ask for less, or "
        "for other nodes",
        "6",
    ]
    assert '"state":"CANCELED"' in lab.ok("--site", "lab", "tasks", "--json")


def test_what_the_scheduler_refuses_is_said(lab: Site) -> None:
    done = lab.run("pilot", "submit", "--site", "lab", "--queue", "nosuch", "--walltime", "5m")
    assert done.returncode == 5
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    (pilot,) = [json.loads(line) for line in lab.ok("--site", "lab", "pilot", "list", "--all", "--json").splitlines()]
    assert pilot["state"] == "FAILED"
    assert jobs(lab) == []


def test_queued_pilot_says_why_it_waits_and_can_be_canceled(lab: Site) -> None:
    first = submit(lab, "--nodes", "4", "--exclusive", "--walltime", "5m")
    lab.wait_for(first, "ACTIVE")
    second = submit(lab, "--nodes", "4", "--exclusive", "--walltime", "5m")
    wait_until(lambda: lab.pilot(second)["reason"] in ("Resources", "Priority"), 60, lab.logs)
    assert lab.pilot(second)["native_state"] == "PENDING"
    lab.ok("--site", "lab", "pilot", "cancel", second)
    lab.wait_for(second, "CANCELED")
    lab.ok("--site", "lab", "pilot", "cancel", first)
    lab.wait_for(first, "CANCELED")
    wait_until(lab.slurm.is_idle, 60)


def test_job_that_others_cancel_gives_its_tasks_back(lab: Site) -> None:
    pilot = submit(lab, "--walltime", "5m")
    lab.wait_for(pilot, "ACTIVE")
    task = lab.ok("submit", "--site", "lab", "--cwd", "/", "sleep 600").strip()
    wait_until(lambda: "RUNNING" in lab.ok("--site", "lab", "tasks", "--json"), 60, lab.logs)
    lab.slurm.admin("scancel", str(lab.pilot(pilot)["batch_id"]))
    lab.wait_for(pilot, "DONE", "FAILED", "CANCELED")
    assert task
    wait_until(lambda: '"state":"READY"' in lab.ok("--site", "lab", "tasks", "--json"), 60, lab.logs)


def test_pilot_outlives_the_loss_of_a_node(lab: Site) -> None:
    pilot = submit(lab, "--nodes", "2", "--walltime", "5m")
    lab.wait_for(pilot, "ACTIVE")
    wait_until(lambda: lab.pilot(pilot)["nodes"] == 2, 60, lab.logs)
    batch = str(lab.pilot(pilot)["batch_id"])
    first, second = lab.slurm.admin("scontrol", "show", "hostnames", lab.slurm.admin(
        "squeue", "-h", f"--jobs={batch}", "-o", "%N"
    ).strip()).split()  # fmt: skip
    lab.ok("submit", "--site", "lab", "--cwd", "/", "sleep 1; : {}", ":::", *map(str, range(60)))
    try:
        lab.slurm.fail_node(second)
        lab.ok("--site", "lab", "wait", "--timeout", "240s")
    finally:
        lab.slurm.start_node(second)
    results = [json.loads(line) for line in lab.ok("--site", "lab", "results", "--json").splitlines()]
    assert [each["state"] for each in results] == ["DONE"] * 60
    assert {each["node"] for each in results} >= {first}
    lab.ok("--site", "lab", "pilot", "drain", pilot)
    lab.wait_for(pilot, "DONE")


def test_submission_that_dies_before_its_record_is_found_again(lab: Site, fake_command: Path) -> None:
    """Between sbatch's work and its answer the server and its child are killed: one job, not two."""
    went = lab.sshd.directory / "went"
    write(fake_command, f'/usr/bin/sbatch "$@" && touch {went} && exec sleep 600')
    lab.sshd.directory.chmod(0o777)
    client = lab.popen("pilot", "submit", "--site", "lab", *SHORT)
    wait_until(went.exists, 60, lab.logs)
    fake_command.unlink()
    os.kill(server_of(lab), signal.SIGKILL)
    _, said = client.communicate(timeout=90)
    assert client.returncode == 0, said
    (pilot,) = [json.loads(line) for line in lab.ok("--site", "lab", "pilot", "list", "--all", "--json").splitlines()]
    wait_until(lambda: lab.pilot(pilot["id"])["batch_id"], 60, lab.logs)
    lab.wait_for(pilot["id"], "DONE")
    assert len(jobs(lab)) == 1


def test_scheduler_that_hangs_does_not_hold_up_the_store(lab: Site, fake_command: Path) -> None:
    write(fake_command, "exec sleep 600")
    client = lab.popen("pilot", "submit", "--site", "lab", *SHORT)
    wait_until(lambda: '"state":"NEW"' in lab.ok("--site", "lab", "pilot", "list", "--json"), 60, lab.logs)
    lab.ok("--site", "lab", "status")
    assert lab.pilot(1)["state"] == "NEW"  # its submission hangs: nothing has waited for it
    fake_command.unlink()
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=60)
    lab.ok("--site", "lab", "pilot", "cancel", "--all")
    lab.wait_for(1, "CANCELED", timeout_s=90)


def test_controller_that_does_not_answer_changes_nothing_and_is_shown(lab: Site) -> None:
    pilot = submit(lab, "--walltime", "5m")
    lab.wait_for(pilot, "ACTIVE")
    lab.slurm.stop_controller()
    try:
        wait_until(lambda: lab.pilot(pilot)["trouble"], 90, lab.logs)
        assert lab.pilot(pilot)["state"] == "ACTIVE"
    finally:
        lab.slurm.start_controller()
    wait_until(lambda: not lab.pilot(pilot)["trouble"], 90, lab.logs)
    lab.ok("--site", "lab", "pilot", "cancel", pilot)
    lab.wait_for(pilot, "CANCELED")


def test_pilots_may_come_while_tasks_run(lab: Site) -> None:
    lab.ok(
        "submit", "--site", "lab", "--cwd", "/",
        f"until [ -e {lab.directory}/go ]; do sleep 0.1; done; echo $PILOTMTC_PILOT_ID; : {{}}",
        ":::", *map(str, range(60)),
    )  # fmt: skip
    first = submit(lab, "--cores", "2", "--walltime", "5m", "--idle", "2s")
    lab.wait_for(first, "ACTIVE")
    second = submit(lab, "--cores", "12", "--walltime", "5m", "--idle", "2s")

    def running() -> int:
        (campaign,) = json.loads(lab.ok("--site", "lab", "status", "--json"))["campaigns"]
        return int(campaign["counts"]["RUNNING"])

    wait_until(lambda: running() == 14, 90, lab.logs)
    (lab.directory / "go").touch()
    lab.ok("--site", "lab", "wait", "--timeout", "240s")
    results = [json.loads(line) for line in lab.ok("--site", "lab", "results", "--json").splitlines()]
    assert {each["stdout"] for each in results} == {first, second}
    assert len(results) == 60


def test_short_walltime_is_not_cut_by_the_early_warning(lab: Site) -> None:
    """SLURM's warning may come a minute before it was asked for, which here is at once."""
    pilot = submit(lab, "--walltime", "1m")
    lab.wait_for(pilot, "ACTIVE")
    began = time.monotonic()
    found = lab.wait_for(pilot, "DONE", "FAILED", "CANCELED", timeout_s=110)
    assert (found["state"], found["reason"]) == ("DONE", "walltime")
    assert time.monotonic() - began > 40


def test_end_of_the_walltime_gives_tasks_back_in_time(lab: Site) -> None:
    pilot = submit(lab, "--walltime", "1m")
    lab.ok("submit", "--site", "lab", "--cwd", "/", "sleep 600")
    found = lab.wait_for(pilot, "DONE", "FAILED", "CANCELED", timeout_s=110)
    assert (found["state"], found["reason"]) == ("DONE", "walltime")
    assert '"state":"READY"' in lab.ok("--site", "lab", "tasks", "--json")
    (attempt,) = json.loads(lab.ok("--site", "lab", "task", "1", "--json"))["attempts"]
    assert attempt["cause"] == "WALLTIME"
