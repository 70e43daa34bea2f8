"""Someone at a shell, for tests of the command line: a store of their own, and what commands print."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from tests.forked import LARGEST, Ended, Forker
from tests.support import patience_s, wait_until

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 60.0


forker: Forker | None = None  # set for a session of tests


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables at which a Python looks when it starts."""
    return {name: value for name, value in env.items() if name.startswith(("LANG", "LC_", "PYTHON"))}


_AT_START = _at_start(os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"})


class Done(NamedTuple):
    """What a command left behind."""

    out: str
    err: str
    code: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the objects that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self) -> dict[str, Any]:
        """Return the one object that it printed."""
        (only,) = self.records
        return only


class User:
    """Someone whose home is the test's own; `surroundings` has set HOME and the rest."""

    def __init__(self, directory: Path) -> None:
        self.here = directory
        self.store = directory / "store.db"
        self.env = os.environ | {
            "PILOTMTC_STORE": str(self.store),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "120",
        }

    def argv(self, *words: str) -> list[str]:
        """Return the command line of ``pilotmtc WORDS``."""
        return [sys.executable, "-m", "pilotmtc", *words]

    def cli(self, *words: str, code: int = 0, stdin: bytes | None = None, **env: str) -> Done:
        """Run ``pilotmtc WORDS``, which must exit with `code` and without a traceback."""
        done = self._run(list(words), self.env | env, stdin)
        found = Done(done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode(), done.returncode)
        assert found.code == code, f"pilotmtc {' '.join(words)}: exit {found.code}\n{found.out}\n{found.err}"
        assert "Traceback" not in found.err, found.err
        return found

    def _run(
        self, words: list[str], env: dict[str, str], stdin: bytes | None
    ) -> "Ended | subprocess.CompletedProcess[bytes]":
        """Run a command: in a fork, if nothing is different that a Python looks at when it starts."""
        timeout_s = patience_s(TIMEOUT_S)
        is_usual = type(self) is User and _at_start(env) == _AT_START and sum(map(len, words)) < LARGEST
        if forker is not None and is_usual:
            return forker.run(words, self.here, env, stdin, timeout_s)
        return subprocess.run(
            self.argv(*words), cwd=self.here, env=env, capture_output=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL if stdin is None else None, input=stdin,
        )  # fmt: skip

    def start(self, *words: str, **settings: Any) -> "subprocess.Popen[bytes]":
        """Start ``pilotmtc WORDS`` in a session of its own, and return it."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        argv, more = self.argv(*words), pipes | settings
        process = subprocess.Popen(argv, cwd=self.here, env=self.env, start_new_session=True, **more)
        return cast("subprocess.Popen[bytes]", process)

    def file(self, name: str, text: str) -> Path:
        """Write a file here."""
        path = self.here / name
        path.write_text(text)
        return path

    def counts(self, campaign: int | None = None) -> dict[str, int]:
        """Return how many tasks of the newest campaign, or of `campaign`, are in which state; zeros are left out."""
        words = [] if campaign is None else [str(campaign)]
        campaigns = self.cli("status", *words, "--json").record["campaigns"]
        found = campaigns[0]["counts"] if campaigns else {}
        return {state: n for state, n in found.items() if n}

    def wait_counts(self, **counts: int) -> None:
        """Wait until the newest campaign's tasks are so."""
        wait_until(lambda: self.counts() == counts, 20.0, self.counts)

    def wait_alone(self) -> None:
        """Wait until no pilot is active and the store's server has left."""
        if not self.store.exists():
            return
        wait_until(lambda: not self.cli("pilot", "list", "--json").out, 20.0)

        def server_has_left() -> bool:
            try:
                pid = Path(f"{self.store}.lock").read_text().split()[0]
            except (OSError, IndexError):
                return True
            return not Path("/proc", pid).exists()

        wait_until(server_has_left, 10.0)

    def leave(self) -> None:
        """End all pilots."""
        if Path(f"{self.store}.d", "pilots").exists():
            self.cli("pilot", "cancel", "--all")
