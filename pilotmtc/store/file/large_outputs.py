"""Outputs that are too large for the store: each is in a file below the directory beside the store.

The store knows such files by their paths from that directory on, so that it can be moved or copied together with it.
The paths of older stores are absolute.
"""

import os
import re
import sqlite3
from collections.abc import Iterator

from pilotmtc.store.attempt_id import split_attempt_id

_SHOWN = 5
_OURS = re.compile(r"(?:/.*\.d/)?(pilots/[^/]+/outputs/[^/]+)", re.DOTALL)
# Attempts with large outputs.
_ALL = """SELECT a.id, a.stdout_path, a.stdout_bytes, a.stderr_path, a.stderr_bytes, p.directory FROM attempt AS a
    LEFT JOIN pilot AS p ON p.id = a.pilot_id WHERE a.stdout_path IS NOT NULL OR a.stderr_path IS NOT NULL"""


def kept(store: str, path: str | None) -> str | None:
    """Return a path as the store keeps it: relative to the store's directory if it is below that."""
    return path and path.removeprefix(f"{store}.d/")


def place(store: str, path: str | None, directory: str | None) -> str | None:
    """Return where the file with this kept path is, or should be.

    Parameters
    ----------
    directory
        Of the pilot: what a copy of the store lacks may still be where it was made.
    """
    ours = path and _OURS.fullmatch(path)
    if not path or not ours:
        return path
    here = os.path.join(f"{store}.d", ours[1])
    if os.path.isdir(os.path.dirname(os.path.dirname(here))) or not (directory or os.path.isabs(path)):
        return here
    return path if os.path.isabs(path) else f"{directory}/outputs/{os.path.basename(path)}"


def own_file(store: str, path: str | None, directory: str | None) -> str | None:
    """Return where the file with this kept path is if it belongs to the store; a file that the user named does not."""
    return place(store, path, directory) if path and _OURS.fullmatch(path) else None


def missing(connection: sqlite3.Connection, store: str) -> Iterator[str]:
    """Yield messages about outputs whose files are gone."""
    tasks = [
        str(split_attempt_id(id_)[0])
        for id_, out, _, err, _, directory in connection.execute(_ALL)
        for path in (out, err)
        if path and _OURS.fullmatch(path) and not os.path.exists(place(store, path, directory) or "")
    ]
    if tasks:
        each = list(dict.fromkeys(tasks))  # a task may lack both of its outputs
        some = ", ".join(each[:_SHOWN]) + (", ..." if len(each) > _SHOWN else "")
        n = len(tasks)
        what = "1 large output of which the file is" if n == 1 else f"{n} large outputs of which the files are"
        yield f"{what} gone, so that only head and tail are left: of task{'s' * (len(each) > 1)} {some}"


def large_outputs(connection: sqlite3.Connection) -> list[int]:
    """Return the sizes of the outputs that are in files below the directory beside the store."""
    return [
        size
        for _, out, out_size, err, err_size, _ in connection.execute(_ALL)
        for path, size in ((out, out_size), (err, err_size))
        if path and _OURS.fullmatch(path)
    ]
