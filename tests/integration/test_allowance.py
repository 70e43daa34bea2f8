"""Limits of real control groups, where this machine has them and lets this account make some."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TOP = Path("/sys/fs/cgroup")
_ASK = """
import os, sys
for group in sys.argv[1:]:
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
from pilotmtc.agent.node import allowance
print(allowance.cores(64, {}), allowance.memory(1 << 62, {}))
"""


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    """Control groups of one CPU and a half, and 300 MB."""
    name = f"pilotmtc-test-{os.getpid()}"
    if (_TOP / "cgroup.controllers").exists():
        files = {_TOP / name: {"cpu.max": "150000 100000", "memory.max": "300000000"}}
    else:
        files = {
            _TOP / "cpu" / name: {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"},
            _TOP / "memory" / name: {"memory.limit_in_bytes": "300003328"},
        }
    made: list[Path] = []
    try:
        try:
            for group, limits in files.items():
                group.mkdir()
                made.append(group)
                for limit, text in limits.items():
                    (group / limit).write_text(text)
        except OSError as error:
            pytest.skip(f"needs control groups that it may make: {error}")
        yield made
    finally:
        for group in made:
            group.rmdir()


def test_pilot_believes_in_what_its_container_may_have(groups: list[Path]) -> None:
    asked = [sys.executable, "-c", _ASK, *map(str, groups)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    cores, memory = done.stdout.split() or [done.stderr, ""]
    assert cores == "1"
    assert 299_000_000 < int(memory) <= 300_003_328
