"""Pilots' keys and what guards them: revoked, pinned, and nowhere to be read by others. Real sshd, real SLURM."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.site import Site, needs_slurm, site, site_sshd, slurm
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd, make_key
from tests.support import command_lines, wait_until

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture
def lab(site: Site) -> Site:
    site.add("lab", "--no-check", "--walltime", "5m")
    return site


def submit(lab: Site, *words: str) -> str:
    return lab.ok("pilot", "submit", "--site", "lab", *words).strip()


def directory_of(lab: Site, pilot: str) -> Path:
    return Path(lab.pilot(pilot)["directory"])


def release(lab: Site, pilot: str) -> None:
    """Let a job that waits in a closed partition run."""
    lab.slurm.admin("scontrol", "update", f"JobId={lab.pilot(pilot)['batch_id']}", "Partition=debug")


def test_key_of_a_pilot_is_shown_and_revoked_when_it_is_over(lab: Site) -> None:
    pilot = submit(lab, "--queue", "closed")
    key = f"pilot-{directory_of(lab, pilot).name}"
    (found,) = map(json.loads, lab.ok("site", "keys", "lab", "--json").splitlines())
    assert (found["name"], found["authorized"]) == (key, True)
    assert key in lab.ok("site", "keys", "lab")
    lab.ok("--site", "lab", "pilot", "cancel", pilot)
    lab.wait_for(pilot, "CANCELED")
    wait_until(lambda: lab.ok("site", "keys", "lab", "--json") == "", 30.0)


def test_key_goes_with_a_run_that_is_ended_when_its_job_has_just_begun(lab: Site) -> None:
    """Its server leaves a moment after it, and SLURM says COMPLETING for longer."""
    doing = lab.popen("run", "--site", "lab", "--walltime", "5m", "--cwd", "/", "sleep 60; : {}", ":::", "1")
    wait_until(lambda: '"batch_id":"' in lab.ok("--site", "lab", "pilot", "list", "--json"), 60, lab.logs)
    doing.send_signal(signal.SIGTERM)
    doing.communicate(timeout=60)
    keys = lab.directory / "store.db.d" / "keys"
    wait_until(lambda: not any(keys.glob("pilot-*")), 40.0, lab.logs)  # nobody looks meanwhile


def test_key_that_was_left_is_taken_away_by_the_next_server(lab: Site) -> None:
    pilot = submit(lab, "--queue", "closed")
    (private,) = (lab.directory / "store.db.d" / "keys").glob("pilot-*.pub")
    kept = private.read_bytes()
    lab.ok("--site", "lab", "pilot", "cancel", pilot)
    lab.wait_for(pilot, "CANCELED")
    wait_until(lambda: lab.ok("site", "keys", "lab", "--json") == "", 30.0)
    lock = Path(f"{lab.store}.lock")  # which the server takes away when it ends
    wait_until(lambda: not lock.exists(), 30.0)
    private.with_suffix("").write_bytes(kept)
    wait_until(lambda: lab.ok("--site", "lab", "status") and not private.with_suffix("").exists(), 30.0, lab.logs)


def test_agent_with_a_revoked_key_is_not_let_in(lab: Site) -> None:
    pilot = submit(lab, "--queue", "closed")
    (found,) = map(json.loads, lab.ok("site", "keys", "lab", "--json").splitlines())
    assert lab.ok("site", "keys", "lab", "--revoke", found["name"], "--json") == ""
    release(lab, pilot)
    assert lab.wait_for(pilot, "FAILED")["started_at"] is None


def test_unknown_key_and_site_are_refused(lab: Site) -> None:
    done = lab.run("site", "keys", "lab", "--revoke", "none-such")
    assert (done.returncode, "none-such" in done.stderr) == (2, True)
    assert lab.run("site", "keys", "mars").returncode == 2


@pytest.fixture
def own_sshd(lab: Site, slurm: Slurm) -> Iterator[Sshd]:
    """A way in whose host key may be changed."""
    with Sshd(environment={"SLURM_CONF": str(slurm.conf)}) as sshd:
        sshd.authorize(lab.client.key.with_suffix(".pub"))
        lab.client.known_hosts.write_text(sshd.known_hosts_line)
        lab.sshd = sshd
        lab.add("lab", "--no-check", "--walltime", "5m", "--replace")
        yield sshd


def test_agent_refuses_a_login_host_whose_key_has_changed(lab: Site, own_sshd: Sshd, tmp_path: Path) -> None:
    pilot = submit(lab, "--queue", "closed")
    directory = directory_of(lab, pilot)
    pinned = (directory / "known_hosts").read_text()
    assert own_sshd.known_hosts_line.split()[2] in pinned
    own_sshd.stop()
    other = make_key(tmp_path / "other")
    shutil.copyfile(other, own_sshd.host_key)
    shutil.copyfile(other.with_suffix(".pub"), own_sshd.host_key.with_suffix(".pub"))
    own_sshd.restart()
    lab.client.known_hosts.write_text(own_sshd.known_hosts_line)  # the user has been told; the pilot has not
    release(lab, pilot)
    ended = lab.wait_for(pilot, "FAILED")
    assert ended["started_at"] is None
    log = (directory / "agent.log").read_text()
    assert "does not show the key it is known by" in log
    assert str(directory / "known_hosts") in log
    assert (directory / "known_hosts").read_text() == pinned


def test_no_secret_is_where_others_can_read_it(lab: Site) -> None:
    pilot = submit(lab, "--nodes", "2", "--idle", "1m")
    lab.wait_for(pilot, "ACTIVE")
    directory = directory_of(lab, pilot)
    contact = directory / "contact"
    wait_until(contact.exists, 30.0)
    private = (lab.directory / "store.db.d" / "keys" / f"pilot-{directory.name}").read_text()
    secrets = {line for line in private.splitlines() if len(line) > 20 and not line.startswith("-")}
    secrets.add(json.loads(contact.read_text())["secret_key"])  # of the line between agent and node workers
    assert len(secrets) >= 4
    batch = lab.pilot(pilot)["batch_id"]
    open_to_all = {
        "job script": (directory / "job.sh").read_text(),
        "what the scheduler shows": lab.slurm.admin("scontrol", "show", "job", batch),
        "what the scheduler keeps": lab.slurm.admin("scontrol", "write", "batch_script", batch, "-"),
        **{f"command line of {pid}": line for pid, line in command_lines().items()},
    }
    ours = [where for where, text in open_to_all.items() if str(directory) in text]
    assert len(ours) >= 4, ours  # the script, the scheduler, the agent, a node worker
    leaks = [where for where, text in open_to_all.items() for secret in secrets if secret in text]
    assert leaks == []
    kept = [contact, directory / "ssh_config", Path(f"{lab.store}.d/keys/pilot-{directory.name}"), directory]
    assert [path for path in kept if path.stat().st_mode & 0o077] == []
    lab.ok("--site", "lab", "pilot", "cancel", pilot)
    lab.wait_for(pilot, "CANCELED", "DONE")
