"""Checks whether the files of large outputs are as they were written."""

import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator

from pilotmtc.store.attempt_id import split_attempt_id
from pilotmtc.store.file.large_outputs import place

_SHOWN = 5
_BLOCK_BYTES = 1 << 20
# Attempts whose large outputs have checksums, with what is needed to find the files.
_ALL = """SELECT c.id, a.stdout_path, c.stdout, a.stderr_path, c.stderr, p.directory FROM checksum AS c
    JOIN attempt AS a ON a.id = c.id LEFT JOIN pilot AS p ON p.id = a.pilot_id ORDER BY c.id"""


def damaged(connection: sqlite3.Connection, store: str) -> Iterator[str]:
    """Yield messages about files of large outputs that have changed; `missing` finds those that are gone."""
    changed: list[str] = []
    for id_, out, out_crc, err, err_crc, directory in connection.execute(_ALL):
        for path, crc in ((out, out_crc), (err, err_crc)):
            file = None if crc is None else place(store, path, directory)
            try:
                if file is not None and _crc_of(file) != crc:
                    task, attempt = split_attempt_id(id_)
                    changed.append(f"{file} of task {task}, attempt {attempt}")
            except FileNotFoundError:
                continue
            except OSError as error:
                yield f"a large output cannot be read: {file}: {error.strerror}"
    if changed:
        some = "; ".join(changed[:_SHOWN]) + ("; ..." if len(changed) > _SHOWN else "")
        yield f"{len(changed)} large outputs are not as they were written: {some}"


def _crc_of(path: str) -> int | None:
    """Return the CRC-32 of a file; None if it is no longer a regular file."""
    crc = 0
    with open(path, "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        while block := file.read(_BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
    return crc


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # not to wait for who writes to a FIFO
