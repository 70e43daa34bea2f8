"""What `site check` and `site add` say of a site: a real sshd, a real SLURM, accounts with and without pilotmtc."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.machine import ROOT
from tests.lab.site import Site, needs_slurm, site, site_sshd, slurm
from tests.lab.sshd import Sshd, make_key

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures

pytestmark = pytest.mark.xdist_group("slurm")


def checked(site: Site, *, code: int) -> dict[str, dict[str, Any]]:
    done = site.run("site", "check", "lab", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_all_is_well(site: Site) -> None:
    added = site.add()
    assert added.returncode == 0, added.stderr
    assert "ok     scheduler" in added.stderr
    found = checked(site, code=0)
    assert list(found) == ["ssh", "host key", "python", "pilotmtc", "store", "scheduler", "way back"]
    assert all(each["ok"] for each in found.values()), found
    assert str(site.store) in found["store"]["words"]
    assert "slurm://localhost/ answers" in found["scheduler"]["words"]
    assert not [*site.directory.glob("store.db.d/.check-*"), *site.directory.glob("store.db.d/keys/*")]


def test_job_tries_the_way_from_a_node(site: Site) -> None:
    site.add("lab", "--no-check", "--queue", "debug")
    done = site.run("site", "check", "lab", "--job", "--json")
    assert done.returncode == 0, done.stdout + done.stderr + site.logs()
    node = json.loads(done.stdout.splitlines()[-1])
    assert (node["name"], node["ok"]) == ("node", True)
    assert "has reached the store in job" in node["words"]
    site.wait_for(1, "CANCELED", "DONE")
    site.add("lab", "--no-check", "--replace", "--queue", "closed")
    done = site.run("site", "check", "lab", "--job", "--timeout", "1s", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["ok"] is None
    site.wait_for(2, "CANCELED")


def test_changed_host_key_is_wrong_and_nothing_else_is_tried(site: Site, tmp_path: Path) -> None:
    site.add("lab", "--no-check")
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()
    site.client.known_hosts.write_text(f"[127.0.0.1]:{site.sshd.port} {other[0]} {other[1]}\n")
    found = checked(site, code=4)
    assert found["host key"]["ok"] is False
    assert "ssh-keygen -R" in found["host key"]["words"]
    assert [found[name]["ok"] for name in ("python", "pilotmtc", "store", "scheduler", "way back")] == [None] * 5


def test_refused_login_is_wrong_and_the_site_not_added(site: Site) -> None:
    make_key(site.client.home / "id2")
    site.client.config.write_text(
        site.client.config.read_text().replace(f"{site.client.key}\n", f"{site.client.key}2\n")
    )
    added = site.add()
    assert added.returncode == 4
    assert "wrong  ssh" in added.stderr
    assert site.ok("site", "list", "--json") == ""


def test_wrong_scheduler_is_told_from_the_one_that_is_there(site: Site) -> None:
    site.add("lab", "--no-check", "--replace", "--scheduler", "pbs")
    found = checked(site, code=2)
    assert found["scheduler"]["ok"] is False
    assert "`--scheduler slurm`" in found["scheduler"]["words"]
    assert found["way back"]["ok"] is True


def test_login_that_no_node_could_use_is_wrong(site: Site) -> None:
    site.add("lab", "--no-check", "--login", "127.0.0.1:1")
    found = checked(site, code=2)
    assert found["way back"]["ok"] is False
    assert "--login" in found["way back"]["words"]


def test_host_without_an_ssh_server_is_told_of_at_once_with_the_cure(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PILOTMTC_STORE": str(tmp_path / "store.db")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pilotmtc", "site", "add", "here", "--scheduler", "local", "--login", "localhost:1"],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert time.monotonic() - began < 15
    assert "no SSH server listens on localhost, port 1: say how nodes reach" in done.stderr
    assert "`--login -`" in done.stderr


@pytest.fixture
def bare(site: Site) -> Iterator[Site]:
    """The same site, where no pilotmtc is on the PATH."""
    with Sshd(launcher=False, environment={"SLURM_CONF": str(site.slurm.conf)}) as sshd:
        sshd.authorize(site.client.key.with_suffix(".pub"))
        site.client.known_hosts.write_text(sshd.known_hosts_line)
        site.sshd, before = sshd, site.sshd
        yield site
        site.sshd = before


@pytest.mark.skipif(not ROOT, reason="needs root: an account without pilotmtc")
def test_commands_that_find_no_pilotmtc_at_a_site_say_how_it_gets_there(bare: Site) -> None:
    bare.add("lab", "--no-check")
    for words in (("--site", "lab", "status"), ("run", "--site", "lab", "true")):
        done = bare.run(*words)
        assert (done.returncode, "`pilotmtc site deploy lab` puts it there" in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(not ROOT, reason="needs root: an account without pilotmtc")
def test_site_without_pilotmtc_is_added_and_told_how_to_get_it(bare: Site) -> None:
    added = bare.add()
    assert added.returncode == 0, added.stderr
    found = checked(bare, code=2)
    assert found["python"]["ok"] is True
    assert found["pilotmtc"]["ok"] is False
    assert "pilotmtc site deploy lab" in found["pilotmtc"]["words"]
    assert found["scheduler"]["ok"] is None


def on_login_host(site: Site, words: str) -> str:
    """Run pilotmtc there, as somebody does who has logged in."""
    config = site.directory / "config"
    argv = ["ssh", "-F", str(site.client.config), "-p", str(site.sshd.port), f"{site.sshd.account.name}@127.0.0.1"]
    line = f"XDG_CONFIG_HOME={config} pilotmtc {words} </dev/null"
    done = subprocess.run([*argv, line], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{site.logs()}"
    return done.stdout


def test_same_commands_work_on_the_login_host_itself(site: Site) -> None:
    login = f"127.0.0.1:{site.sshd.port}"
    on_login_host(site, f"site add local-slurm --store {site.store} --login {login} --walltime 5m")
    shown = json.loads(on_login_host(site, "site show local-slurm --json"))
    assert (shown["host"], shown["scheduler"]) == ("", "slurm")
    found = [json.loads(line) for line in on_login_host(site, "site check local-slurm --json").splitlines()]
    assert [(each["name"], each["ok"]) for each in found] == [
        ("pilotmtc", True), ("store", True), ("scheduler", True), ("way back", True),
    ]  # fmt: skip
    out = on_login_host(site, "run --site local-slurm --nodes 2 --cwd / echo {} ::: 1 2 3")
    assert sorted(out.split()) == ["1", "2", "3"]


def test_host_without_a_scheduler_is_a_site(site: Site) -> None:
    """A workstation in the laboratory, say."""
    words = ("--scheduler", "local", "--store", str(site.store), "--config", str(site.client.config))
    site.ok("site", "add", "lab", site.host, *words)
    out = site.ok("run", "--site", "lab", "--cwd", "/", "echo {} $USER", ":::", "1", "2")
    assert sorted(out.splitlines()) == [f"{number} {site.sshd.account.name}" for number in (1, 2)]
    done = site.run("run", "--site", "lab", "--cwd", "/", "--exclusive", "echo {}", ":::", "1")
    assert done.returncode == 2
    assert "local jobs cannot have exclusive" in done.stderr
