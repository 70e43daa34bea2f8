"""What calls of functions add to the requests about tasks: checks, arguments, results."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import INLINE_BYTES, Call, Result, TaskId, TaskRow, Template, Value
from pilotmtc.protocol.client.tasks import GetCalls, KnownCall, KnownCalls
from pilotmtc.states import Cause
from pilotmtc.store.attempt_id import attempt_id_sql
from pilotmtc.store.file.sql import id_list
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.file.values import find_value, keep_data, use_value, use_values
from pilotmtc.store.requests.handlers import handles
from pilotmtc.system.digests import sha256

MAX_INPUTS = 10_000
TEXT_CHARS = 1_000  # of a result's text
_BATCH_BYTES = 4 << 20  # of the calls in one answer to a claim: a frame has an end
_GIVEN_BYTES = 1 << 20  # of results that travel with one call; the others are fetched
_SHORT_BYTES = 256  # what is fetched costs more than that
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Call).decode
_INSERT = "INSERT INTO call VALUES (?, ?)"
# Of a list of tasks, those that are calls.
_ARE_CALLS = "SELECT c.task_id FROM json_each(?) AS wanted CROSS JOIN call AS c ON c.task_id = wanted.value"
_BODIES = "SELECT c.task_id, c.body FROM json_each(?) AS wanted CROSS JOIN call AS c ON c.task_id = wanted.value"
# What these tasks returned.
_GIVEN = f"""SELECT t.id, r.data, lower(hex(v.digest)), v.size FROM json_each(?) AS wanted
    CROSS JOIN task AS t ON t.id = wanted.value
    CROSS JOIN returned AS r ON r.id = {attempt_id_sql("t.id", "t.attempt")}
    LEFT JOIN value AS v ON v.id = r.value_id"""

_IDS = "SELECT first_id, last_id FROM campaign WHERE id = ?"
# The calls of a campaign between two ids.
_KNOWN = """SELECT t.id, t.state, t.template_id, c.body FROM call AS c CROSS JOIN task AS t ON t.id = c.task_id
    WHERE c.task_id BETWEEN ? AND ? AND t.campaign_id = ? ORDER BY c.task_id"""
_KNOWN_PAGE = 4_000  # ids

Row = tuple[object, ...]


def check_calls(templates: Sequence[Template], rows: Iterable[TaskRow]) -> bool:
    """Return whether there are calls among `rows`, whose templates are there.

    Raises
    ------
    UsageError
        If one makes no sense.
    """
    functions = [template.function is not None for template in templates]
    calls = False
    for row in rows:
        call = row.call
        if (call is not None) is not functions[row.template]:
            command = " ".join(templates[row.template].command)
            raise UsageError(
                f"a task of the function {command} comes without its call: give the arguments, also if there are none"
                if call is None
                else f"a task of the command {command} cannot be a call: that takes a template with a function"
            )
        if call is not None:
            calls = True
            if len(call.args.data) > INLINE_BYTES:
                raise UsageError(
                    f"a call has {len(call.args.data)} bytes of arguments in its row, which takes up to "
                    f"{INLINE_BYTES}: put them as a value, and give its digest"
                )
            if call.inputs:
                _check_inputs(row, call.inputs)
    return calls


def _check_inputs(row: TaskRow, inputs: Sequence[TaskId]) -> None:
    if len(inputs) > MAX_INPUTS:
        raise UsageError(
            f"a call has the results of {len(inputs)} others among its arguments; {MAX_INPUTS} is the most: combine "
            "them in steps"
        )
    after = {need.task for need in row.after if need.well}
    if missing := [task for task in inputs if task not in after]:
        raise UsageError(f"a call that needs the result of task {missing[0]} must run after it has ended well")


def insert_calls(
    tx: Transaction, templates: Iterable[Template], rows: Sequence[TaskRow], first: int, campaign: int
) -> None:
    """Insert the calls of checked tasks, which have ids from `first` on, and keep the values that they need.

    Raises
    ------
    UsageError
        If they need what is not there.
    """
    digests: dict[str, None] = {}
    sizes: dict[str, int] = {}
    inputs: set[TaskId] = set()
    bodies: list[Row] = []
    for template in templates:
        if template.function is not None:
            digests[template.function.code] = None
            if template.function.setup:
                digests[template.function.setup] = None
    for id_, row in enumerate(rows, first):
        if (call := row.call) is None:
            continue
        if call.args.digest:
            sizes[call.args.digest] = call.args.size
        if call.values:
            digests.update(dict.fromkeys(call.values))
        if call.inputs:
            inputs.update(call.inputs)
        bodies.append((id_, _encode(replace(call, given=()) if call.given else call)))
    digests.update(dict.fromkeys(sizes))
    known = use_values(tx, digests, campaign)
    for digest, size in sizes.items():
        if known[digest].size != size:
            raise UsageError(f"the value {digest} has {known[digest].size} bytes, not {size}")
    tx.executemany(_INSERT, bodies)
    are_calls = {id_ for (id_,) in tx.execute(_ARE_CALLS, (id_list(inputs),))} if inputs else set()
    if commands := inputs - are_calls:
        raise UsageError(f"task {min(commands)} is a command, which returns no value: use what it writes instead")


def calls_of(tx: Transaction, tasks: Sequence[tuple[TaskId, int]], *, cut: bool) -> tuple[dict[TaskId, Call], int]:
    """Return the calls among ``(task, campaign)``, with the results that their arguments mention.

    With `cut`, only of as many tasks as go into one answer; one call always does.

    Returns
    -------
    calls, count
        What the tasks call, and how many of the tasks go into the answer.
    """
    calls: dict[TaskId, Call] = {}
    campaigns = dict(tasks)
    left = _BATCH_BYTES
    for id_, body in tx.execute(_BODIES, (id_list(campaigns),)):
        call = _decode(body)
        left -= len(body)
        if call.inputs:
            call = replace(call, given=_given(tx, call.inputs, campaigns[id_]))
            left -= sum(len(value.data) + len(value.digest) for value in call.given)
        if cut and left < 0 and calls:
            return calls, tasks.index((id_, campaigns[id_]))
        calls[id_] = call
    return calls, len(tasks)


def _given(tx: Transaction, inputs: Sequence[TaskId], campaign: int) -> tuple[Value, ...]:
    """Return what these tasks returned; what is too much for one answer is kept as values, to be fetched."""
    found = {
        task: Value(digest=digest, size=size) if size is not None else Value(data or b"", size=len(data or b""))
        for task, data, digest, size in tx.execute(_GIVEN, (id_list(inputs),))
    }
    given = []
    left = _GIVEN_BYTES
    for task in inputs:
        value = found.get(task, Value())
        if len(value.data) > max(left, _SHORT_BYTES):
            digest = sha256(value.data).hexdigest()
            use_value(tx, find_value(tx, digest) or keep_data(tx, digest, value.data), campaign)
            value = Value(digest=digest, size=value.size)
        left -= len(value.data)
        given.append(value)
    return tuple(given)


@handles(GetCalls)
def get_calls(tx: Transaction, request: GetCalls) -> KnownCalls:
    """Return by what clients know calls again."""
    row = tx.execute(_IDS, (request.campaign,)).fetchone()
    if row is None:
        return KnownCalls(())
    first, last = row
    begin = max(first, request.after + 1)
    end = begin + _KNOWN_PAGE - 1
    found = []
    for task, state, template, body in tx.execute(_KNOWN, (begin, end, request.campaign)):
        function, call = tx.caches.templates.get(template).function, _decode(body)
        if function is not None:
            args = identity_of(call)
            found.append(KnownCall(task, TASK_STATES[state], function.name, function.code, args, call.inputs))
    return KnownCalls(tuple(found), end if end < last else 0)


def identity_of(call: Call) -> bytes:
    """Return by what the arguments of a call are known again."""
    args = call.args
    return call.identity or (bytes.fromhex(args.digest) if args.digest else sha256(args.data).digest())


def returned(tx: Transaction, key: int, campaign: int, result: Result) -> tuple[Result, Row | None]:
    """Return the result of an attempt as it is to be recorded, and the row of what it returned, if it has one.

    A large value that did not come to the store is gone: its attempt counts as lost with the pilot.
    """
    value, text = result.value, result.value_text[:TEXT_CHARS]
    if value is None:
        return result, (key, None, None, text) if text else None
    if not value.digest:
        return result, (key, value.data, None, text)
    try:
        stored = use_values(tx, (value.digest,), campaign)[value.digest]
    except UsageError:
        why = f"its result of {value.size} bytes was lost on the way to the store"
        return replace(result, cause=Cause.PILOT_LOST, exit_code=None, signal=None, value=None, message=why), None
    return result, (key, None, stored.id, text)
