"""Shows tasks' output in the user's pager."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.protocol.client.tasks import Output
from pilotmtc.protocol.records import OutputTail


def pager_command(environ: Mapping[str, str]) -> list[str]:
    """Return the command of the user's pager.

    Raises
    ------
    UsageError
        If there is none.
    """
    for words in (environ.get("PAGER", ""), "less -R", "more"):
        try:
            command = shlex.split(words)
        except ValueError as error:
            raise UsageError(f"PAGER={words}: {error}") from error
        if command and (words == environ.get("PAGER") or shutil.which(command[0], path=environ.get("PATH"))):
            return command
    raise UsageError("there is no pager here: install less, or name one in PAGER")


def run_pager(command: Sequence[str], files: Sequence[str]) -> str:
    """Show files until the user quits the pager; return an error message, empty if there is none."""
    # Ctrl-C is for the pager, not for this program. An ignored signal would be inherited; a handler is not.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run([*command, *files], check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    finally:
        signal.signal(signal.SIGINT, before)
    return ""


def output_files(found: Output | OutputTail, directory: Path) -> list[str]:
    """Return the files with an attempt's output: its own, if they can be read here, otherwise copies in `directory`."""
    files = []
    for stream, data, size, path in (
        ("stdout", found.stdout, found.stdout_bytes, found.stdout_path),
        ("stderr", found.stderr, found.stderr_bytes, found.stderr_path),
    ):
        if not size:
            continue
        if path is not None and len(data) != size and _is_here(path, size):
            files.append(path)
            continue
        copy = directory / stream
        copy.write_bytes(data or f"[{size:,} bytes are in {path}, which cannot be read from here]\n".encode())
        files.append(str(copy))
    return files


def _is_here(path: str, size: int) -> bool:
    """Return whether the file exists on this machine, and is not just another one with the same name."""
    try:
        return os.stat(path).st_size == size and os.access(path, os.R_OK)
    except OSError:
        return False
