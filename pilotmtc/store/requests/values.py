"""Values of calls: they are put and got in parts; and what calls have returned."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pilotmtc.errors import UsageError
from pilotmtc.model import TaskId, Value
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned, Returned, ReturnedCall
from pilotmtc.protocol.values import MAX_VALUE_BYTES, PART_BYTES, GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import TASK_FINAL, Cause, TaskState
from pilotmtc.store.attempt_id import LAST_ATTEMPT, attempt_id_sql, split_attempt_id
from pilotmtc.store.file.sql import id_list, in_states
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.file.value_files import ValueFiles
from pilotmtc.store.file.values import (
    ROW_BYTES,
    StoredValue,
    find_value,
    keep_data,
    keep_file,
    touch_value,
    use_value,
    value_data,
)
from pilotmtc.store.requests.handlers import InThread, handles

_CAUSES = tuple(Cause)
_ANSWER_BYTES = 8 << 20  # of what calls have returned
_HAS_CAMPAIGN = "SELECT 1 FROM campaign WHERE id = ? AND deleted_at IS NULL"
# Of a list of tasks those that are over, with their newest attempts.
_RETURNED = f"""SELECT wanted.key, t.id, t.state, a.id, a.cause, a.exit_code, a.signal, a.node, a.message,
    r.data, lower(hex(v.digest)), v.size, coalesce(r.text, ''), coalesce(o.stderr, x'')
    FROM json_each(?) AS wanted CROSS JOIN task AS t ON t.id = wanted.value
    LEFT JOIN attempt AS a ON a.id = iif(t.state = {TaskState.DONE:d}, {attempt_id_sql("t.id", "t.attempt")},
        (SELECT max(id) FROM attempt
            WHERE id BETWEEN {attempt_id_sql("t.id", "0")} AND {attempt_id_sql("t.id", str(LAST_ATTEMPT))}))
    LEFT JOIN returned AS r ON r.id = a.id LEFT JOIN value AS v ON v.id = r.value_id
    LEFT JOIN output AS o ON o.id = a.id AND t.state != {TaskState.DONE:d}
    WHERE t.state {in_states(TASK_FINAL)}"""


@handles(PutValue)
def put_value(tx: Transaction, request: PutValue) -> ValueStatus | InThread:
    """Take a part of a value: a small one into its row, a large one into its file."""
    value = find_value(tx, request.digest)
    _check(tx, request, value)
    digest, size = request.digest, request.size
    if value is None or not (value.file is None or tx.value_files.is_whole(value.file, value.size)):
        if size <= ROW_BYTES:
            if len(request.data) < size:
                return ValueStatus(0)
            value = keep_data(tx, digest, request.data)
        elif name := tx.value_files.complete(digest, size):
            value = keep_file(tx, digest, size, name)
        elif request.file:
            return InThread(partial(_take_file, tx.value_files, request))
        elif request.data:
            return InThread(partial(_take, tx.value_files, request))
        else:
            return ValueStatus(tx.value_files.received(digest, size), tx.value_files.parts)
    if request.campaign is None:
        touch_value(tx, value)
    else:
        use_value(tx, value, request.campaign)
    return ValueStatus(size)


def _check(tx: Transaction, request: PutValue, value: StoredValue | None) -> None:
    if not 0 <= request.size <= MAX_VALUE_BYTES:
        raise UsageError(f"a value cannot have {request.size} bytes: {MAX_VALUE_BYTES} is the most")
    if not 0 <= request.offset <= request.size - len(request.data):
        raise UsageError(
            f"{len(request.data)} bytes from {request.offset} on are no part of a value of {request.size} bytes"
        )
    if len(request.data) > PART_BYTES:
        raise UsageError(f"a part of {len(request.data)} bytes of a value: {PART_BYTES} is the most")
    if value is not None and value.size != request.size:
        raise UsageError(f"the value {request.digest} has {value.size} bytes, not {request.size}")
    if request.campaign is not None and not tx.execute(_HAS_CAMPAIGN, (request.campaign,)).fetchone():
        raise UsageError(f"there is no campaign {request.campaign} to keep a value for")


def _take(files: ValueFiles, request: PutValue) -> ValueStatus | None:
    received = files.take(request.digest, request.offset, request.size, request.data)
    return None if received == request.size else ValueStatus(received)


def _take_file(files: ValueFiles, request: PutValue) -> ValueStatus | None:
    return None if files.take_file(request.digest, request.size, request.file) else ValueStatus(0)


@handles(GetValue)
def get_value(tx: Transaction, request: GetValue) -> ValuePart | InThread:
    """Return a part of a value."""
    value = find_value(tx, request.digest)
    if value is None:
        return ValuePart(False)
    offset, limit = min(max(request.offset, 0), value.size), max(0, min(request.limit, PART_BYTES))
    if value.file is None:
        return ValuePart(True, value.size, value_data(tx, value, offset, limit))
    if not limit:
        return ValuePart(True, value.size, path=tx.value_files.path(value.file))
    return InThread(partial(_read, tx.value_files, value.file, value.size, offset, limit))


def _read(files: ValueFiles, name: str, size: int, offset: int, limit: int) -> ValuePart:
    return ValuePart(True, size, files.read(name, size, offset, limit), files.path(name))


@handles(GetReturned)
def get_returned(tx: Transaction, request: GetReturned) -> Returned:
    """Return what calls that are over have returned, as much as goes into one answer."""
    rows, asked = returned_calls(tx, request.tasks)
    return Returned(tuple(rows), asked)


def returned_calls(tx: Transaction, tasks: Sequence[TaskId]) -> tuple[list[ReturnedCall], int]:
    """Return how those of `tasks` have ended that are over, and how many of them were looked at for one answer."""
    wanted = tasks[:MAX_RETURNED]
    rows: list[ReturnedCall] = []
    left = _ANSWER_BYTES
    for position, *row in tx.execute(_RETURNED, (id_list(wanted),)):
        call = _returned_call(row)
        left -= len(call.stderr) + (len(call.value.data) if call.value else 0)
        if left < 0 and rows:
            return rows, position
        rows.append(call)
    return rows, len(wanted)


def _returned_call(row: list[Any]) -> ReturnedCall:
    """Return the record of a row of `_RETURNED`, without the position."""
    id_, state, attempt, cause, exit_code, signal, node, message, data, digest, size, text, stderr = row
    if attempt is None:
        return ReturnedCall(id_, 0, TASK_STATES[state])
    value = None if data is None else Value(data, size=len(data))
    if size is not None:
        value = Value(digest=digest, size=size)
    return ReturnedCall(
        id_, split_attempt_id(attempt)[1], TASK_STATES[state], _CAUSES[cause], exit_code, signal, node, message, value,
        text, stderr,
    )  # fmt: skip
