"""Values of calls: put, got, and returned."""

import hashlib
import re
from typing import Any

from pilotmtc.errors import UsageError, shown
from pilotmtc.model import Value
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned, Returned, ReturnedCall
from pilotmtc.protocol.values import MAX_VALUE_BYTES, PART_BYTES, GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import TASK_FINAL, Cause
from pilotmtc.store.attempt_id import ATTEMPT_BITS, LAST_ATTEMPT, split_attempt_id
from pilotmtc.store.file.sql import id_list, in_states
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.requests.handlers import handles

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CAUSES = tuple(Cause)
_parts: dict[str, bytearray] = {}
_SIZE = "SELECT size FROM value WHERE digest = ?"
_INSERT = "INSERT INTO value(digest, size, data, unused_since) VALUES (?, ?, ?, ?)"
_PART = "SELECT size, substr(data, ?, ?) FROM value WHERE digest = ?"
_RETURNED = f"""SELECT t.id, t.state, a.id, a.cause, a.exit_code, a.signal, a.node, a.message, r.data,
    v.digest, v.size, r.text, iif(t.state = 4, NULL, o.stderr)
    FROM json_each(?) AS wanted CROSS JOIN task AS t ON t.id = wanted.value
    LEFT JOIN attempt AS a ON a.id = (SELECT max(id) FROM attempt
        WHERE id BETWEEN t.id << {ATTEMPT_BITS} AND (t.id << {ATTEMPT_BITS}) + {LAST_ATTEMPT})
    LEFT JOIN returned AS r ON r.id = a.id LEFT JOIN value AS v ON v.id = r.value_id
    LEFT JOIN output AS o ON o.id = a.id
    WHERE t.state {in_states(TASK_FINAL)}"""


@handles(PutValue)
def put_value(tx: Transaction, request: PutValue) -> ValueStatus:
    """Take a part of a value."""
    digest = _bytes_of(request.digest)
    if not 0 <= request.offset <= MAX_VALUE_BYTES or not 0 <= request.size <= MAX_VALUE_BYTES:
        raise UsageError(f"a value has up to {MAX_VALUE_BYTES} bytes, not {max(request.size, request.offset)}")
    found = tx.execute(_SIZE, (digest,)).fetchone()
    if found is not None:
        return ValueStatus(found[0])
    part = _parts.setdefault(request.digest, bytearray())
    if request.offset <= len(part):
        part += request.data[len(part) - request.offset :]
    if len(part) < request.size:
        return ValueStatus(len(part))
    del _parts[request.digest]
    if hashlib.sha256(part).digest() != digest:
        raise UsageError(f"the value {request.digest} is not what its digest says: put it again from the beginning")
    tx.execute(_INSERT, (digest, request.size, bytes(part), tx.clock.now()))
    return ValueStatus(request.size)


def _bytes_of(digest: str) -> bytes:
    if not _DIGEST.fullmatch(digest):
        raise UsageError(
            f"{shown(digest)} is no digest of a value: give the SHA-256 of its bytes, in 64 hexadecimal digits"
        )
    return bytes.fromhex(digest)


@handles(GetValue)
def get_value(tx: Transaction, request: GetValue) -> ValuePart:
    """Return a part of a value."""
    digest = _bytes_of(request.digest)
    offset, limit = max(request.offset, 0), max(0, min(request.limit, PART_BYTES))
    row = tx.execute(_PART, (offset + 1, limit, digest)).fetchone()
    return ValuePart(False) if row is None else ValuePart(True, *row)


@handles(GetReturned)
def get_returned(tx: Transaction, request: GetReturned) -> Returned:
    """Return what calls that are over have returned."""
    rows = tx.execute(_RETURNED, (id_list(request.tasks[:MAX_RETURNED]),)).fetchall()
    return Returned(tuple([_returned_call(row) for row in rows]), min(len(request.tasks), MAX_RETURNED))


def _returned_call(row: tuple[Any, ...]) -> ReturnedCall:
    id_, state, attempt, cause, exit_code, signal, node, message, data, digest, size, text, stderr = row
    if attempt is None:
        return ReturnedCall(id_, 0, TASK_STATES[state])
    value = (
        Value(b"", digest.hex(), size)
        if digest is not None
        else Value(data, "", len(data))
        if data is not None
        else None
    )
    return ReturnedCall(
        id_, split_attempt_id(attempt)[1], TASK_STATES[state], _CAUSES[cause], exit_code, signal, node, message, value,
        text or "", stderr or b"",
    )  # fmt: skip
