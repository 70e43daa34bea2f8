"""Start-up is part of the design: a command imports what it needs and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.user import User

HEAVY = {"paramiko", "cryptography", "radical", "textual", "sqlite_utils", "sqlite3", "rich", "asyncio", "zmq"}
_SHOW = """
import runpy, sys
sys.argv = ["pilotmtc", *sys.argv[1:]]
try:
    runpy.run_module("pilotmtc", run_name="__main__")
finally:
    print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(user: User, *words: str) -> set[str]:
    """Return the packages that ``pilotmtc WORDS`` has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *words], cwd=user.here, env=user.env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("IMPORTED "))
    return set(line.split()[1:])


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["store", "path"]])
def test_command_without_a_store_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    found = imported(User(tmp_path), *words)
    assert "click" in found
    assert found & HEAVY == set()


def test_help_imports_no_other_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pilotmtc", "--help"], env=User(tmp_path).env, cwd=tmp_path,
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {name for name in modules if name.startswith("pilotmtc.")} <= {
        "pilotmtc.__main__", "pilotmtc.boot", "pilotmtc.cli", "pilotmtc.cli.app", "pilotmtc.cli.command",
        "pilotmtc.cli.interrupts", "pilotmtc.cli.output", "pilotmtc.cli.output.streams", "pilotmtc.text",
        "pilotmtc.text.plain", "pilotmtc.text.tables", "pilotmtc.text.terminal", "pilotmtc.errors", "pilotmtc.system",
        "pilotmtc.system.locale", "pilotmtc.units",
    }  # fmt: skip


def test_client_of_a_local_store_leaves_ssh_and_sqlite_alone(tmp_path: Path) -> None:
    user = User(tmp_path)
    user.store.touch()
    assert imported(user, "status") & HEAVY == set()
    assert imported(user, "run", "-q", "true") & (HEAVY - {"rich"}) == set()
    user.wait_alone()


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        (
            "pilotmtc.agent.main, pilotmtc.agent.crews.start_workers",
            {"zmq", "pilotmtc.agent.loop", "pilotmtc.protocol"},
        ),
        ("pilotmtc.agent.build", {"argparse", "difflib", "hashlib", "inspect", "random", "shutil", "tempfile", "zmq"}),
        ("pilotmtc.store.server.__main__", {"argparse", "difflib", "hashlib", "inspect", "random", "subprocess"}),
    ],
)
def test_program_that_waits_for_work_has_only_what_it_needs(module: str, spared: set[str]) -> None:
    """Half of the time to a first result is imports, and agents are many."""
    words = f"from pilotmtc.boot import settle_path; settle_path(); import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-E", "-P", "-c", words], capture_output=True, text=True, timeout=60, check=True
    )
    assert spared & set(done.stdout.split()) == set()
