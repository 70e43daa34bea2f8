"""Logs on a full disk, which ``/dev/full`` is."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["pilotmtc.agent", "pilotmtc.store.server", "pilotmtc.agent.crews.worker"])
def test_program_ends_with_its_own_exit_code_although_its_log_cannot_be_written(program: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", program, "--nonsense"], stderr=full, timeout=60.0, check=False)
    assert done.returncode == 2
