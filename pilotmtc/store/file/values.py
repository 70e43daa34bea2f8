"""Values by their digests, in rows: small ones whole, of large ones where their files are; and who uses them."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pilotmtc.errors import UsageError, shown
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.file.value_files import absent
from pilotmtc.system.digests import sha256

ROW_BYTES = 128 << 10  # of a value in a row: below that, a file of its own costs more than it saves
UNUSED_S = 7 * 86400.0  # what no campaign uses is kept so long: an upload, or a link that is down, may take its time
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIND = "SELECT id, size, file, unused_since IS NOT NULL FROM value WHERE digest = ?"
_DATA = "SELECT coalesce(substr(data, ?, ?), x'') FROM value WHERE id = ?"
# A value whose file is gone gets another one.
_KEEP = """INSERT INTO value(digest, size, data, file, unused_since) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT(digest) DO UPDATE SET data = excluded.data, file = excluded.file
    RETURNING id, size, file, unused_since IS NOT NULL"""
_USE = "INSERT OR IGNORE INTO value_use VALUES (?, ?)"
_IS_USED = "UPDATE value SET unused_since = NULL WHERE id = ?"
_IS_UNUSED = "UPDATE value SET unused_since = ? WHERE id = ?"
# Values that only this campaign uses.
_LEAVE = """UPDATE value SET unused_since = ?2 WHERE id IN (SELECT value_id FROM value_use WHERE campaign_id = ?1)
    AND NOT EXISTS (SELECT 1 FROM value_use AS other WHERE other.value_id = value.id AND other.campaign_id != ?1)"""
_FORGET_USES = "DELETE FROM value_use WHERE campaign_id = ?"
# The same of some values.
_LEAVE_SOME = f"""UPDATE value SET unused_since = ? WHERE id {IN_LIST}
    AND NOT EXISTS (SELECT 1 FROM value_use AS other WHERE other.value_id = value.id AND other.campaign_id != ?)"""
_FORGET_SOME_USES = f"DELETE FROM value_use WHERE campaign_id = ? AND value_id {IN_LIST}"
_FORGET_UNUSED = "DELETE FROM value WHERE unused_since < ? RETURNING file"
_FILES = "SELECT lower(hex(digest)), file, size FROM value WHERE file IS NOT NULL ORDER BY id"
_ROWS = "SELECT digest, size, data FROM value WHERE data IS NOT NULL"


class StoredValue(NamedTuple):
    """A value that the store has; `file` is None if its row has all of it."""

    id: int
    size: int
    file: str | None
    unused: bool


def digest_bytes(digest: str) -> bytes:
    """Return the digest as the store keeps it.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{shown(digest)} is no digest of a value: give its SHA-256 in 64 hexadecimal digits")
    return bytes.fromhex(digest)


def find_value(tx: Transaction, digest: str) -> StoredValue | None:
    """Return what the store knows of a value.

    Raises
    ------
    UsageError
        If `digest` is none.
    """
    row = tx.execute(_FIND, (digest_bytes(digest),)).fetchone()
    return row and StoredValue(row[0], row[1], row[2], bool(row[3]))


def value_data(tx: Transaction, value: StoredValue, offset: int, limit: int) -> bytes:
    """Return up to `limit` bytes from `offset` on of a value that its row has."""
    data: bytes = tx.execute(_DATA, (offset + 1, limit, value.id)).fetchone()[0]
    return data


def keep_data(tx: Transaction, digest: str, data: bytes) -> StoredValue:
    """Keep a small value in a row.

    Raises
    ------
    UsageError
        If it is not what its digest says.
    """
    expected = digest_bytes(digest)
    if sha256(data).digest() != expected:
        raise UsageError(f"the value {digest} is not what its digest says: put it again from the beginning")
    return StoredValue(*tx.execute(_KEEP, (expected, len(data), data, None, tx.clock.now())).fetchone())


def keep_file(tx: Transaction, digest: str, size: int, name: str) -> StoredValue:
    """Keep a value that is in a file, complete and checked."""
    tx.value_files.keep(digest, size)
    return StoredValue(*tx.execute(_KEEP, (digest_bytes(digest), size, None, name, tx.clock.now())).fetchone())


def use_value(tx: Transaction, value: StoredValue, campaign: int) -> None:
    """Keep a value as long as the campaign."""
    tx.execute(_USE, (campaign, value.id))
    if value.unused:
        tx.execute(_IS_USED, (value.id,))


def touch_value(tx: Transaction, value: StoredValue) -> None:
    """Let the time begin anew after which a value is removed that no campaign uses."""
    if value.unused:
        tx.execute(_IS_UNUSED, (tx.clock.now(), value.id))


def use_values(tx: Transaction, digests: Iterable[str], campaign: int) -> dict[str, StoredValue]:
    """Keep these values as long as the campaign, and return them.

    Raises
    ------
    UsageError
        If the store lacks one.
    """
    found = {}
    for digest in digests:
        value = find_value(tx, digest)
        if value is None:
            raise UsageError(f"the store has no value {digest}: put it before the tasks that need it")
        use_value(tx, value, campaign)
        found[digest] = value
    return found


def leave_values(tx: Transaction, campaign: int) -> None:
    """Let a campaign that is to be removed keep its values no longer."""
    tx.execute(_LEAVE, (campaign, tx.clock.now()))
    tx.execute(_FORGET_USES, (campaign,))


def leave_some_values(tx: Transaction, campaign: int, values: Iterable[int]) -> None:
    """Let a campaign keep some of its values no longer."""
    them = id_list(values)
    tx.execute(_LEAVE_SOME, (tx.clock.now(), them, campaign))
    tx.execute(_FORGET_SOME_USES, (campaign, them))


def remove_unused(tx: Transaction) -> None:
    """Remove values that no campaign has used for long."""
    for (name,) in tx.execute(_FORGET_UNUSED, (tx.clock.now() - UNUSED_S,)).fetchall():
        if name is not None:
            tx.value_files.remove(name)


def file_names(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the files of all large values."""
    return {name for _, name, _ in connection.execute(_FILES)}


def wrong_values(connection: sqlite3.Connection, store: str) -> Iterator[str]:
    """Yield messages about values that are gone, or not what their digests say."""
    for digest, size, data in connection.execute(_ROWS):
        if len(data) != size or sha256(data).digest() != digest:
            yield f"the value {digest.hex()} is not what its digest says"
    yield from absent(store, iter(connection.execute(_FILES)))


def sizes_of_files(connection: sqlite3.Connection) -> list[int]:
    """Return the sizes of the values that are in files."""
    return [size for _, _, size in connection.execute(_FILES)]
