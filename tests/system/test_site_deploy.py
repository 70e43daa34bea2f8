"""`site deploy`: to an account that has no pilotmtc and no internet, behind a real sshd, before a real SLURM."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import pilotmtc
from tests.lab.machine import ROOT
from tests.lab.site import Site, needs_slurm, site, site_sshd, slurm
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.support import wait_until

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not ROOT, reason="needs root: an account without pilotmtc"),
]

# Whoever tries to reach the internet there fails.
_NOWHERE = dict.fromkeys(("http_proxy", "https_proxy", "PIP_INDEX_URL"), "http://127.0.0.1:1/")
_DEPLOY_S = 300.0


@pytest.fixture(scope="module")
def bare_sshd(slurm: Slurm) -> Iterator[Sshd]:
    with Sshd(launcher=False, environment={"SLURM_CONF": str(slurm.conf), **_NOWHERE}) as server:
        yield server


@pytest.fixture
def bare(site: Site, bare_sshd: Sshd) -> Site:
    """A site where no pilotmtc is on the PATH."""
    bare_sshd.authorize(site.client.key.with_suffix(".pub"))
    site.client.known_hosts.write_text(bare_sshd.known_hosts_line)
    site.sshd = bare_sshd
    assert site.add().returncode == 0
    return site


def deploy(site: Site, *more: str) -> dict[str, Any]:
    words = ("site", "deploy", "lab", "--directory", str(site.directory / "pilot mtc"), "--json", *more)
    found: dict[str, Any] = json.loads(site.ok(*words, timeout_s=_DEPLOY_S))
    return found


def test_what_was_deployed_runs_tasks_of_the_site(bare: Site) -> None:
    first = deploy(bare)
    assert (first["fresh"], first["others"]) == (True, [])
    assert first["sent"] == first["files"]
    bare.ok("site", "check", "lab")
    words = ("run", "--site", "lab", "--nodes", "2", "--walltime", "5m", "--json", "--", "echo", "{}")
    results = [json.loads(line) for line in bare.ok(*words, ":::", "1", "2", "3").splitlines()]
    assert sorted(each["stdout"].strip() for each in results) == ["1", "2", "3"]
    assert str(bare.directory) in next(bare.directory.glob("store.db.d/pilots/*/job.sh")).read_text()

    again = deploy(bare)
    assert (again["sent"], again["fresh"]) == (0, False)
    assert again["command"] == first["command"]
    keep_server_and_tasks_through_a_newer_version(bare)


def keep_server_and_tasks_through_a_newer_version(site: Site) -> None:
    """Not a test of its own, for each first deployment takes half a minute."""
    campaign = json.loads(
        site.ok("--site", "lab", "submit", "--cwd", "/", "--json", "until [ -e {} ]; do sleep 0.1; done", ":::",
                str(site.directory / "go"))
    )["id"]  # fmt: skip
    pilot = site.ok("pilot", "submit", "--site", "lab", "--walltime", "5m", "--idle", "2s").strip()
    site.wait_for(pilot, "ACTIVE")
    wait_until(lambda: site.ok("--site", "lab", "tasks", "--state", "RUNNING", "--json") != "", 60.0)
    before = json.loads(site.ok("--site", "lab", "status", "--json"))["store"]["version"]
    newer = newer_version(site.client.home / "newer")
    site.environment["PYTHONPATH"] = str(newer)
    done = deploy(site)
    assert (done["version"], done["fresh"]) == ("99.0", True)
    assert len(done["others"]) == 1
    assert json.loads(site.ok("--site", "lab", "status", "--json"))["store"]["version"] == before
    (site.directory / "go").touch()
    site.ok("--site", "lab", "wait", str(campaign), "--timeout", "60s")
    site.wait_for(pilot, "DONE")
    wait_until(lambda: "version 99.0;" in site.run("site", "check", "lab").stdout, 60.0)


def newer_version(directory: Path) -> Path:
    """Make a copy of pilotmtc that is another version, installed as far as Python can tell."""
    source = Path(pilotmtc.__file__).parent
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, directory / "pilotmtc", ignore=hidden)
    for root in (source.parent, source.parent / "adaptors"):
        if (root / "pilotmtc_adaptors").is_dir():
            shutil.copytree(root / "pilotmtc_adaptors", directory / "pilotmtc_adaptors", ignore=hidden)
    version = directory / "pilotmtc" / "__init__.py"
    version.write_text(version.read_text().replace(f'"{pilotmtc.__version__}"', '"99.0"'))
    own = distribution("pilotmtc")
    info = directory / "pilotmtc-99.0.dist-info"
    info.mkdir()
    text = (own.read_text("METADATA") or "").replace(f"\nVersion: {pilotmtc.__version__}\n", "\nVersion: 99.0\n")
    (info / "METADATA").write_text(text)
    (info / "entry_points.txt").write_text(own.read_text("entry_points.txt") or "")
    return directory


def test_deployment_that_is_killed_harms_nothing_and_is_taken_up(bare: Site) -> None:
    base = bare.directory / "pilot mtc"
    child = bare.popen("site", "deploy", "lab", "--directory", str(base), "--json")
    try:
        wait_until(lambda: len([*(base / "wheels").glob("*.whl")]) >= 3, _DEPLOY_S)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate(timeout=30)
    assert not (base / "current").exists()
    shown = json.loads(bare.ok("site", "show", "lab", "--json"))
    assert shown["command"] == ""
    done = deploy(bare)
    assert done["fresh"] is True
    assert done["sent"] < done["files"]
    assert bare.run("site", "check", "lab").returncode == 0


def test_no_python_for_it_is_said(bare: Site) -> None:
    old = bare.directory / "old-python"
    bare.directory.mkdir(exist_ok=True)
    old.write_text('#!/bin/sh\nexec /usr/bin/python3 "$@" | sed \'s/"version": \\[3, [0-9]*/"version": [3, 6/\'\n')
    old.chmod(0o755)
    done = bare.run("site", "deploy", "lab", "--python", str(old))
    assert done.returncode == 2
    assert "3.11 or later: it is too old; name another with --python" in done.stderr
    done = bare.run("site", "deploy", "lab", "--python", "/nowhere/python3")
    assert done.returncode == 2
    assert "cannot be run there" in done.stderr
