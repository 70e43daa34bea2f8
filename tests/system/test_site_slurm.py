"""The whole road: a workstation, SSH, a login node with a store, real SLURM, agents that come back over SSH."""

import json

from tests.lab.site import Site, needs_slurm, site, site_sshd, slurm

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures


def test_tasks_run_in_a_pilot_of_the_site(site: Site) -> None:
    site.add("lab", "--no-check")
    pilot = site.ok("pilot", "submit", "--site", "lab", "--nodes", "2", "--walltime", "5m", "--idle", "2s").strip()
    site.ok("submit", "--site", "lab", "--cwd", "/", "echo {}", ":::", "1", "2", "3")
    site.ok("--site", "lab", "wait", "--timeout", "60s")
    results = [json.loads(line) for line in site.ok("--site", "lab", "results", "--json").splitlines()]
    assert sorted(each["stdout"] for each in results) == ["1", "2", "3"]
    assert site.wait_for(pilot, "DONE")["batch_id"]
