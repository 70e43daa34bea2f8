"""The script that a pilot's job runs. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence

from pilotmtc.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def job_script(agent: Sequence[str], *, setup: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> str:
    """Return a script for any POSIX shell: the site's lines, then the agent, which replaces the shell (``exec``).

    It contains no secret: how to reach the store is in files that only the user can read.

    Parameters
    ----------
    agent
        The agent's command line.
    setup
        The site's shell lines; if one fails, the job fails.
    environment
        Variables for the agent, unless the job or `setup` sets them.

    Raises
    ------
    UsageError
        If a value cannot be written in a script.
    """
    lines = [
        "#!/bin/sh",
        "exec 2>&1",
        "umask 077",
        'export MTC_JOB_BEGAN="$(date +%s)"',
    ]  # see start_workers.py
    for line in setup:
        if "\0" in line or "\n" in line or "\r" in line:
            raise UsageError(f"the set-up line {line!r} holds a line break or a NUL: give each line by itself")
        lines.append(f"{line}\n[ $? -eq 0 ] || {{ echo 'pilotmtc: this set-up line failed:' {_quote(line)}; exit 1; }}")
    for name, value in (environment or {}).items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a variable's name")
        lines.append(f'[ -n "${{{name}+set}}" ] || export {name}={_quote(value)}')
    lines.append(f"exec {' '.join(map(_quote, agent))}")
    return "\n".join(lines) + "\n"


def _quote(word: str) -> str:
    if "\0" in word:
        raise UsageError(f"{word!r} holds a NUL, which no program can be given")
    return shlex.quote(word)
