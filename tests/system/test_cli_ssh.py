"""The command line with a store on another host."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_ssh import Place
from tests.lab.sshd import Client, Sshd, client, sshd

__all__ = ["client", "sshd"]  # fixtures


@pytest.fixture
def place(sshd: Sshd, tmp_path: Path) -> Iterator[Place]:
    place = Place(sshd, "mtc-store", f"{tmp_path.parent.name}-cli-{os.getpid()}")
    yield place
    place.remove()


def pilotmtc(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "pilotmtc", "--store", url, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_tasks_run_here_for_a_store_there(transport: str, sshd: Sshd, client: Client, place: Place) -> None:
    url = client.url(sshd, place.url_path, options=f"transport={transport}")
    done = pilotmtc(url, "run", "echo", "task {}", ":::", "1", "2", "3")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["task 1", "task 2", "task 3"]
    status = pilotmtc(url, "status", "--json")
    assert status.returncode == 0, status.stderr
    assert "a store.db" in status.stdout


def test_refused_login_ends_with_its_exit_code(sshd: Sshd, client: Client, place: Place) -> None:
    client.known_hosts.write_text("")
    done = pilotmtc(client.url(sshd, place.url_path), "status")
    assert done.returncode == 4
    assert "is not a known host" in done.stderr
