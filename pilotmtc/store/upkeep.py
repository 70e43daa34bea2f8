"""Check, compact, snapshot: looking after the file. All work on a path or a connection of their own."""

import contextlib
import os
import sqlite3
from pathlib import Path

from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.store.check import problems
from pilotmtc.store.looking import size_of
from pilotmtc.store.opening import APPLICATION_ID, translate
from pilotmtc.wire.messages import Checked, Compacted, Done


def check_file(path: Path) -> Checked:
    """Check the store at `path` through a connection of its own, which blocks no writer."""
    with _reading(path) as connection:
        return Checked(tuple(problems(connection)))


def snapshot_file(path: Path, target: Path) -> Done:
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
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        with _reading(path) as source, contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # a copy is one file
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    except sqlite3.Error as error:
        raise translate(error, target) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    return Done()


def _refuse(path: Path, target: Path) -> None:
    """Raise unless `target` is free or an older snapshot."""
    if not target.exists():
        return
    if target.is_dir():
        raise UsageError(f"{target} is a directory: name a file in it")
    if os.path.samefile(path, target):
        raise UsageError(f"{target} is the store itself: name another file")
    try:
        with target.open("rb") as file:
            head = file.read(72)
    except OSError as error:
        raise ConfigError(f"{target} cannot be read: {error.strerror}") from error
    if head and head[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise UsageError(f"{target} exists and is no snapshot of a store: name another file, or remove it")


def compact(connection: sqlite3.Connection, path: Path) -> Compacted:
    """Give unused space back. Takes room for a second copy while it runs."""
    before = size_of(str(path))
    connection.execute("VACUUM")
    connection.execute("PRAGMA optimize")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return Compacted(before, size_of(str(path)))


@contextlib.contextmanager
def _reading(path: Path):  # type: ignore[no-untyped-def]
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=2.0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        yield connection
    except sqlite3.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()
