"""Opens the store's file, and explains what is wrong with it."""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from pilotmtc.errors import ConfigError, PilotMTCError, SchemaMismatch, StoreBusy, StoreError
from pilotmtc.store.file.schema.views import VIEWS
from pilotmtc.system import private_files

APPLICATION_ID = 0x4D544331  # "MTC1"
SCHEMA = 9
_MAGIC = b"SQLite format 3\x00"
_BUSY_S = 2.0  # nobody else should ever write; a tool that does is waited for this long


# What SQLite says of a damaged file may hold bytes of it, which Python cannot always read.
TROUBLE = (sqlite3.Error, UnicodeDecodeError)


def translate(error: sqlite3.Error | UnicodeDecodeError, path: str | Path) -> PilotMTCError:
    """Return the error that tells the user what `error` means."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in str(error):
        code = sqlite3.SQLITE_CORRUPT
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"another program is writing to {path}: close it, or wait and try again")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"no space left for {path}, or a quota is used up: nothing was changed; free some and retry")
    if code == sqlite3.SQLITE_NOTADB:
        return SchemaMismatch(f"{path} is not a pilotmtc store: name another file with --store")
    if code == sqlite3.SQLITE_CORRUPT:
        return SchemaMismatch(
            f"{path} is damaged ({error}): restore it from a snapshot, or save what can be read with "
            f"`sqlite3 {path} .recover`"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return ConfigError(f"{path} cannot be written ({error}): the file and its directory must be yours and writable")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"using {path} failed ({error}): nothing was changed; look at the disk and its quota")
    return StoreError(f"the store {path} refused: {error}")


def open_file(path: Path, exclusive: bool = False, prove: Callable[[], None] = lambda: None) -> sqlite3.Connection:
    """Open or create the store at `path` for writing and bring it to the present schema.

    Parameters
    ----------
    exclusive
        Keep every other process out, and do without shared memory.
    prove
        Is called before something is written.

    Raises
    ------
    ConfigError
        If the path cannot be used.
    SchemaMismatch
        If the file is something else, damaged or of a newer version.
    StoreError
        If the disk fails.
    """
    _prepare(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(path, exclusive)
        prove()
        _identify(connection, path)
        _check_companions(path)  # once more: they are open now
        _configure(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if _is_empty(connection):
            from pilotmtc.store.file.schema.steps import lay_down

            prove()
            lay_down(connection, APPLICATION_ID, SCHEMA)
        elif version < SCHEMA or not _has_views(connection):
            from pilotmtc.store.file.schema.migrations import migrate  # loads sqlite-utils, which takes 50 ms and more

            prove()
            migrate(connection, APPLICATION_ID, SCHEMA)
    except TROUBLE as error:
        if connection is not None:
            connection.close()
        raise translate(error, path) from error
    except PilotMTCError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _has_views(connection: sqlite3.Connection) -> bool:
    """Return whether the views are this version's: another one may have made others under the same schema."""
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall())
    return all(found.get(name) == f"CREATE VIEW {name} AS {query}" for name, query in VIEWS.items())


def _connect(path: Path, exclusive: bool) -> sqlite3.Connection:
    connection = _open(path, "")
    if exclusive:
        try:
            _take(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_LOCK:
                raise
            # No locks on this file system, as on Lustre without the mount option flock: the lease must do.
            connection = _open(path, "&vfs=unix-none")
            _take(connection)
    return connection


def _open(path: Path, more: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw{more}", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False,
        cached_statements=256,
    )  # fmt: skip


def _take(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    connection.execute("PRAGMA user_version").fetchone()  # the lock comes with the first reading


# What may be over soon, while the file's name stays right: pilots wait for that.
_OF_THE_MACHINE = (
    errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT,
    errno.EHOSTDOWN, errno.ENOTCONN, errno.ESHUTDOWN, errno.EREMOTEIO,
)  # fmt: skip


def _prepare(path: Path) -> None:
    """Create `path` with mode 0600 if it is not there; raise if it cannot be a store of this user's."""
    try:
        private_files.make_above(path)
        _check_companions(path)
        _refuse_half(path)
        descriptor = private_files.open_file(os.path.realpath(path), os.O_RDWR | os.O_CREAT)
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a directory: name a file in it, such as {path / 'store.db'}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{path.parent} is not a directory: name another place with --store") from error
    except OSError as error:
        text = f"{path} cannot be opened for writing: {error.strerror}"
        if error.errno in _OF_THE_MACHINE:
            raise StoreError(f"{text}; look at its disk and at this machine, then try again") from error
        raise ConfigError(f"{text}; name another with --store") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        head = file.read(len(_MAGIC))
        if head and head != _MAGIC:
            raise SchemaMismatch(f"{path} is not a pilotmtc store (not even SQLite): name another file with --store")
        if status.st_mode & 0o077 and status.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)


def _check_companions(path: Path) -> None:
    """Raise `ConfigError` if a file that SQLite would read beside `path`, or write to, is not this user's own."""
    for suffix in ("-wal", "-shm", "-journal"):
        private_files.check_file(f"{os.path.realpath(path)}{suffix}")


def _refuse_half(path: Path) -> None:
    """Raise if only a store's log is there: SQLite would throw it away, and with it what was acknowledged."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        raise ConfigError(
            f"{path} is not there, but the end of its contents is still in {log}: put the store back, or move "
            "that away as well"
        )


def _identify(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == 0 and not version:
        # Empty, or left by a start that was cut off; anything else with tables belongs to another program.
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables or ("_sqlite_migrations" in tables and tables <= _OWN_TABLES):
            return
    if application != APPLICATION_ID:
        raise SchemaMismatch(f"{path} is an SQLite file of another program: name another file with --store")
    if version > SCHEMA:
        raise SchemaMismatch(
            f"{path} was made by a newer pilotmtc (schema {version}, this one knows {SCHEMA}): upgrade pilotmtc"
        )


_OWN_TABLES = {
    "_sqlite_migrations", "campaign", "template", "resources", "pilot", "task", "attempt", "output", "dependency",
    "tally", "control", "wish", "revival", "checksum", "resource_limit", "call", "value", "value_use", "returned",
    "campaign_run", "superseded", "program", "version", "memo", "grown", "campaign_after", "growth", "seen",
}  # fmt: skip


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "temp_store = MEMORY",
        "cache_size = -16000",  # KiB: the store server's memory budget is 80 MB
        "wal_autocheckpoint = 2000",  # pages: larger transactions' pages are written back in one go
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchone()
