"""Check, compact, snapshot: maintenance of the file.

If other processes may open the file, checks and copies use connections of their own. If the server has it exclusively,
they use the server's connection, in steps between which it does its work.
"""

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.client.maintenance import Checked, Compacted
from pilotmtc.store.file.check import problems
from pilotmtc.store.file.large_outputs import large_outputs
from pilotmtc.store.file.opening import APPLICATION_ID, TROUBLE, translate
from pilotmtc.store.file.values import sizes_of_files
from pilotmtc.units import format_memory

_STEP_PAGES = 256
_BETWEEN_STEPS_S = 0.001
# Of SQLite's file format: the head has all that is looked at here; how the file is written: 1 a journal, 2 WAL.
_HEAD_BYTES = 72
_OWN_SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock", ".d", ".owner")
_WRITE_VERSION = 18
_WAL = 2


def check_file(path: Path, owner: sqlite3.Connection | None = None) -> Checked:
    """Check the store at `path`, in a way that blocks no writer for long.

    If `owner` has the file exclusively, a copy is checked: damaged pages are copied as they are.
    """
    if owner is None:
        with _reading(path) as connection:
            return Checked(tuple(problems(connection, os.path.realpath(path))))
    copy = path.with_name(f"{path.name}.check-{os.getpid()}")
    try:
        snapshot_file(path, copy, owner)
        with _reading(copy) as connection:
            return Checked(tuple(problems(connection, os.path.realpath(path))))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)


def snapshot_file(path: Path, target: Path, owner: sqlite3.Connection | None = None) -> Done:
    """Write a consistent copy of the store at `path` to `target`; an older snapshot there is replaced.

    Raises
    ------
    UsageError
        If `target` is something else.
    ConfigError
        If it cannot be written.
    """
    target = Path(os.path.abspath(target.expanduser()))
    _refuse(path, target)
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _source(path, owner) as source, contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
            if owner is None:
                source.backup(copy)
            else:  # what its owner writes meanwhile is written to the copy as well
                source.backup(copy, pages=_STEP_PAGES, progress=lambda *_: time.sleep(_BETWEEN_STEPS_S))
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # a copy is one file
            note = _lacks(copy, os.path.realpath(path), target)
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    except TROUBLE as error:
        raise translate(error, target) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    return Done(note)


def _lacks(copy: sqlite3.Connection, store: str, target: Path) -> str:
    """Return a message about the outputs and values that a copy of the store lacks; empty if it has all."""
    outputs, values = large_outputs(copy), sizes_of_files(copy)
    lacking = []
    if outputs:
        n = len(outputs)
        lacking.append(
            f"{n} large output{'s' * (n > 1)} ({format_memory(sum(outputs))}), of which it has head and tail"
        )
    if values:
        lacking.append(f"{len(values)} large value{'s' * (len(values) > 1)} ({format_memory(sum(values))})")
    if not lacking:
        return ""
    return f"the copy lacks {' and '.join(lacking)}: to have all, copy the directory {store}.d, too, as {target}.d"


def _refuse(path: Path, target: Path) -> None:
    """Raise unless `target` is free or an older snapshot."""
    refuse_output(path, target)
    try:
        # Not blocking: a pipe that takes its place at this moment must not stop the server.
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{target} cannot be read: {error.strerror}") from error
    if head and head[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise UsageError(f"{target} exists and is no snapshot of a store: name another file, or remove it")
    if head and head[_WRITE_VERSION] == _WAL:  # which a snapshot is not in before it is opened as a store
        raise UsageError(f"{target} is a store that is or was in use: name another file, or remove it")


def refuse_output(store: Path, target: Path) -> None:
    """Raise `UsageError` if `target` cannot be an output: it is no regular file, or one of the store's own."""
    try:
        status = target.stat()
    except OSError:  # not there, or whoever writes it will be told
        status = None
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{target} is a directory: name a file in it")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{target} is not a regular file: name another one")
    real = os.path.realpath(target)
    own = os.path.realpath(store)
    if status is not None and any(_is_same(f"{own}{suffix}", status) for suffix in _OWN_SUFFIXES):
        raise UsageError(f"{target} is the store itself: name another file")
    if real in [f"{own}{suffix}" for suffix in _OWN_SUFFIXES] or real.startswith((f"{own}.d/", f"{own}.owner/")):
        raise UsageError(f"{target} is one of the store's own files: name another one")


def _is_same(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def compact(connection: sqlite3.Connection, path: Path) -> Compacted:
    """Give unused space back. Takes room for a second copy while it runs."""
    before = size_of(str(path))
    connection.execute("VACUUM")
    connection.execute("PRAGMA optimize")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return Compacted(before, size_of(str(path)))


def _source(path: Path, owner: sqlite3.Connection | None) -> contextlib.AbstractContextManager[sqlite3.Connection]:
    return _reading(path) if owner is None else contextlib.nullcontext(owner)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=2.0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")  # of a damaged file, too
        yield connection
    except TROUBLE as error:
        raise translate(error, path) from error
    finally:
        connection.close()


def size_of(path: str) -> int:
    """Return the bytes that the store takes on disk, its write-ahead log included."""
    return sum(os.stat(name).st_size for name in (path, f"{path}-wal") if os.path.exists(name))
