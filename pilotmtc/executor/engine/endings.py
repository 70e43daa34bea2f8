"""From what the store says of a call that is over to its value or its exception."""

from typing import Any

from pilotmtc.errors import PilotMTCError, StoreError, TaskFailed
from pilotmtc.executor.engine.ledger import Future, without
from pilotmtc.executor.engine.values import Values
from pilotmtc.executor.future import PoolBroken
from pilotmtc.executor.pickling.loading import load, load_exception
from pilotmtc.protocol.client.tasks import ReturnedCall
from pilotmtc.states import Cause, TaskState
from pilotmtc.text.endings import describe_end, message_of

_SETUP = "the initializer"  # so begins what workers say of it
_IN_CALL = "in the middle of the call"  # so agents say of a worker what the sentence here says, too
_WORDS = 2000  # of what a call wrote to stderr, at the most
_HELP = {
    Cause.TIMEOUT: "give it a longer time_limit",
    Cause.OOM: "give it more memory",
    Cause.WALLTIME: "give the pool a longer walltime",
}


def end(future: Future, row: ReturnedCall, values: Values) -> None:
    """Give a future the value that its call has returned, or the exception that says why there is none."""
    bad = None
    if row.state is TaskState.SKIPPED:
        bad = next((need for need in future.inputs if need.done() and (need.cancelled() or need.exception())), None)
    value, error = outcome(future.call, row, values) if bad is None else (None, without(future, bad))
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
    if future.inputs:
        future.inputs = ()


def outcome(call: str, row: ReturnedCall, values: Values) -> tuple[Any, BaseException | None]:
    """Return what a call has returned; or None, and the exception that says why there is nothing.

    Parameters
    ----------
    call
        As people see it.
    """
    try:
        if row.state is TaskState.DONE and row.value is not None:
            return load(values.get(row.value)), None
        if row.state is TaskState.DONE:
            raise StoreError(f"what task {row.task} returned was deleted: only its text is left: {row.value_text}")
        return None, _failure(call, row, values)
    except PilotMTCError as error:
        return None, error
    except BaseException as error:  # noqa: BLE001 -- a user's class may raise anything when it is loaded
        return None, _unreadable(call, row, error)


def _failure(call: str, row: ReturnedCall, values: Values) -> BaseException:
    raised: BaseException | None = None
    if row.value is not None:
        raised = load_exception(values.get(row.value))
        if row.cause is Cause.EXIT:
            return raised
    if row.cause is Cause.LAUNCH_ERROR and (row.message or "").startswith(_SETUP):
        said = "" if raised else _said(row)
        broken = PoolBroken(f"no worker can be set up: {row.message}{said}")
        broken.__cause__ = raised
        return broken
    failed = TaskFailed(
        _sentence(call, row),
        task=row.task,
        attempt=row.attempt,
        cause=row.state.name if row.cause is None else row.cause.name,
        returncode=-row.signal if row.signal else row.exit_code,
        node=row.node,
    )
    failed.__cause__ = raised
    return failed


def _sentence(called: str, row: ReturnedCall) -> str:
    where = f" on {row.node}" if row.node else ""
    call = f"{called} (task {row.task})"
    if row.state is TaskState.DONE:  # as a task that was no call
        return f"{call} is over, and the store has no value of it: see pilotmtc tasks {row.task}"
    if row.state is TaskState.SKIPPED:
        return f"{call} was not called, because a task that it waits for has not ended well"
    if row.state is TaskState.CANCELED:
        return f"{call} was canceled by somebody else; pilotmtc retry {row.task} runs it again"
    if row.cause in (Cause.EXIT, Cause.SIGNAL):
        how = f"was {describe_end(row)}"
        if row.cause is Cause.EXIT:  # a worker's 0 is recorded as another code, and the message has it
            code = (row.message or "").partition(f"{_IN_CALL}, with exit code ")[2]
            how = f"ended with exit code {code or row.exit_code}"
        text = f"{call}: its worker {how}{where} before the call returned"
    elif row.cause is None:
        text = f"{call} was not called"
    else:
        text = f"{call}: {describe_end(row)}{where}"
    if (message := message_of(row)) and _IN_CALL not in message:
        text = f"{text}: {message}"
    if row.cause in _HELP:
        text = f"{text}; {_HELP[row.cause]}"
    return text + _said(row)


def _said(row: ReturnedCall) -> str:
    said = row.stderr[-_WORDS:].decode("utf-8", "replace").strip()
    return f"; it wrote:\n{said}" if said else ""


def _unreadable(call: str, row: ReturnedCall, error: BaseException) -> BaseException:
    found = TaskFailed(
        f"{call} (task {row.task}) has returned, but its value cannot be loaded here: {type(error).__name__}: {error}",
        task=row.task,
        cause=Cause.EXIT.name,
        returncode=0,
    )
    found.__cause__ = error
    return found
