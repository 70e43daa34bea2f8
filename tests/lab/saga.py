"""Run an ordinary SAGA program, in a process, home and directory of its own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_BEFORE = """\
import json, os, time
import pilotmtc_adaptors
pilotmtc_adaptors.register()
from radical import saga

def describe(executable, *arguments, extras=None, **attributes):
    description = saga.job.Description()
    description.executable = executable
    description.arguments = list(arguments)
    for name, value in attributes.items():
        setattr(description, name, value)
    if extras is not None:
        description.system_architecture = extras
    return description

def refusal(do):
    try:
        return ["no exception", str(do())]
    except saga.SagaException as error:
        return [type(error).__name__, str(error)]

def until(job, *states):
    end = time.monotonic() + 60
    while job.state not in states:
        assert time.monotonic() < end, job.state
        time.sleep(0.1)
    return job

"""
_AFTER = """
print(json.dumps(answer))
"""


def run_saga(tmp_path: Path, program: str, environment: Mapping[str, str] | None = None, **known: object) -> Any:
    """Run a program that sets `answer`; return that. It has said nothing else, nor written where it was or lives.

    The program knows `saga`, `describe`, `refusal`, `until`, and what is `known` besides.
    """
    here, home, base = (tmp_path / name for name in ("saga-here", "saga-home", "saga-base"))
    for each in (here, home, base):
        each.mkdir(exist_ok=True)
    quiet = {"RADICAL_BASE": str(base), "RADICAL_LOG_LVL": "OFF", "RADICAL_LOG_TGT": "null"}  # SAGA logs into $PWD
    given = "".join(f"{name} = {value!r}\n" for name, value in known.items())
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE + given + textwrap.dedent(program) + _AFTER],
        env={**os.environ, **(environment or {}), **quiet, "HOME": str(home), "PWD": str(here)},
        cwd=here, capture_output=True, text=True, timeout=110, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout
    assert not [*here.iterdir()], "it wrote where it was"
    assert not [*home.iterdir()], "it wrote into its home"
    return msgspec.json.decode(lines[0].encode())
