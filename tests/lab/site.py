"""A site: a real SLURM behind a real sshd, an account of its own there, and a user's workstation before it."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.store.server.stewards import LIMIT_VARIABLE
from tests.lab.slurm import Slurm, needs_slurm, slurm
from tests.lab.sshd import Client, Sshd, make_client
from tests.support import patience_s, wait_until

__all__ = ["needs_slurm", "site", "site_sshd", "slurm"]  # fixtures


class Site:
    """What a user has: a workstation with ``sites.toml`` and a key, and a directory on the site."""

    def __init__(self, slurm: Slurm, sshd: Sshd, client: Client, environment: dict[str, str]) -> None:
        self.slurm = slurm
        self.sshd = sshd
        self.client = client
        self.environment = environment
        self.directory = sshd.account.home / f"run-{secrets.token_hex(4)}"

    @property
    def store(self) -> Path:
        return self.directory / "store.db"

    @property
    def host(self) -> str:
        return f"{self.sshd.account.name}@127.0.0.1:{self.sshd.port}"

    def add(self, name: str = "lab", *more: str) -> "subprocess.CompletedProcess[str]":
        """Make the site known, with what a lab needs besides."""
        usual = {
            "--scheduler": "slurm", "--store": str(self.store), "--config": str(self.client.config),
            "--login": f"127.0.0.1:{self.sshd.port}",
        }  # fmt: skip
        words = [word for option, value in usual.items() if option not in more for word in (option, value)]
        return self.run("site", "add", name, self.host, *words, *more)

    def run(self, *words: str, timeout_s: float = 90.0) -> "subprocess.CompletedProcess[str]":
        """Run pilotmtc on the workstation."""
        return subprocess.run(
            [sys.executable, "-m", "pilotmtc", *words],
            env=self.environment, capture_output=True, text=True, timeout=patience_s(timeout_s), check=False,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        """Begin to run pilotmtc on the workstation."""
        return subprocess.Popen(
            [sys.executable, "-m", "pilotmtc", *words],
            env=self.environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd="/",
        )  # fmt: skip

    def ok(self, *words: str, timeout_s: float = 90.0) -> str:
        """Run pilotmtc and return what it printed; it must not fail."""
        done = self.run(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def pilot(self, id_: int | str) -> dict[str, Any]:
        """Return a pilot's JSON."""
        found: dict[str, Any] = json.loads(self.ok("--site", "lab", "pilot", "show", str(id_), "--json"))
        return found

    def wait_for(self, id_: int | str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return a pilot's JSON once it is in one of `states`."""
        last: dict[str, Any] = {}

        def there() -> bool:
            last.clear()
            last.update(self.pilot(id_))
            return last["state"] in states

        wait_until(there, timeout_s, on_timeout=lambda: f"{last}\n{self.logs()}")
        return last

    def logs(self) -> str:
        """Return what the pilots' jobs and the server have written."""
        logs = [
            *self.directory.glob("store.db.d/pilots/*/agent.log"),
            *sorted(Path("/tmp").glob("pilotmtc-*/*.log"), key=os.path.getmtime)[-1:],
        ]
        return "\n".join(f"== {log}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def remove(self) -> None:
        """End what is left there, and remove it."""
        self.slurm.cancel_all()
        shutil.rmtree(self.directory, ignore_errors=True)


def login_of(slurm: Slurm) -> Sshd:
    """Return a way in: its sessions find the commands of `slurm`."""
    return Sshd(environment={"SLURM_CONF": str(slurm.conf), LIMIT_VARIABLE: "30"})


@pytest.fixture(scope="session")
def site_sshd(slurm: Slurm) -> Iterator[Sshd]:
    """The way in for all tests that leave it as it is."""
    with login_of(slurm) as server:
        yield server


@pytest.fixture
def site(slurm: Slurm, site_sshd: Sshd, tmp_path: Path) -> Iterator[Site]:
    """A site with a workstation that knows nothing of it but its host key."""
    client = make_client(tmp_path / "workstation", site_sshd)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PILOTMTC_STORE"))}
    environment = {
        **kept,
        "HOME": str(client.home),
        "XDG_CONFIG_HOME": str(client.home / ".config"),
        "PATH": "/usr/bin:/bin",
    }
    found = Site(slurm, site_sshd, client, environment)
    with contextlib.ExitStack() as stack:
        stack.callback(found.remove)
        yield found
