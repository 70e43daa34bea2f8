"""What a task wrote, in the user's own pager."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.protocol.client.tasks import Output


def pager_command(environ: Mapping[str, str]) -> list[str]:
    """Return the user's pager and its arguments.

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
    """Show files until the user has seen enough; return what went wrong, if anything did."""
    # Ctrl-C is the pager's: it must not end this program. Unlike an ignored signal, a handler is not inherited.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run([*command, *files], check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    finally:
        signal.signal(signal.SIGINT, before)
    return ""


def output_files(found: Output, directory: Path, *, only: str = "") -> list[str]:
    """Return the files that hold what an attempt wrote: its own, where they can be read, or copies in `directory`.

    Parameters
    ----------
    only
        ``stdout`` or ``stderr``; empty for both.
    """
    files = []
    for stream, data, size, path in (
        ("stdout", found.stdout, found.stdout_bytes, found.stdout_path),
        ("stderr", found.stderr, found.stderr_bytes, found.stderr_path),
    ):
        if not size or only not in ("", stream):
            continue
        if path is not None and len(data) != size and _is_here(path, size):
            files.append(path)
            continue
        copy = directory / stream
        copy.write_bytes(data or f"[{size:,} bytes are in {path}, which cannot be read from here]\n".encode())
        files.append(str(copy))
    return files


def _is_here(path: str, size: int) -> bool:
    """Return whether it is that file, and not one of the same name on another machine than the store's."""
    try:
        return os.stat(path).st_size == size and os.access(path, os.R_OK)
    except OSError:
        return False
