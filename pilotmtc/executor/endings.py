"""From what the store says of a call that is over to its value or its exception."""

from pilotmtc.errors import PilotMTCError, TaskFailed
from pilotmtc.executor.future import PoolBroken
from pilotmtc.executor.ledger import Future, without
from pilotmtc.executor.loading import load, load_exception
from pilotmtc.executor.values import Values
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
    try:
        if row.state is TaskState.DONE and row.value is not None:
            value = load(values.get(row.value))
        else:
            future.set_exception(failure(future, row, values))
            return
    except PilotMTCError as error:
        future.set_exception(error)
    except BaseException as error:  # noqa: BLE001 -- a user's class may raise anything when it is loaded
        future.set_exception(_unreadable(future, error))
    else:
        future.set_result(value)
    finally:
        if future.inputs:
            future.inputs = ()


def failure(future: Future, row: ReturnedCall, values: Values) -> BaseException:
    """Return the exception of a call that has returned nothing."""
    if row.state is TaskState.SKIPPED:
        bad = next((need for need in future.inputs if need.done() and (need.cancelled() or need.exception())), None)
        if bad is not None:
            return without(future, bad)
    raised: BaseException | None = None
    if row.value is not None:
        raised = load_exception(values.get(row.value))
        if row.cause is Cause.EXIT:
            return raised
    if row.cause is Cause.LAUNCH_ERROR and (row.message or "").startswith(_SETUP):
        broken = PoolBroken(f"no worker can be set up: {row.message}")
        broken.__cause__ = raised
        return broken
    failed = TaskFailed(
        _sentence(future, row),
        task=row.task,
        attempt=row.attempt,
        cause=row.state.name if row.cause is None else row.cause.name,
        returncode=-row.signal if row.signal else row.exit_code,
        node=row.node,
    )
    failed.__cause__ = raised
    return failed


def _sentence(future: Future, row: ReturnedCall) -> str:
    where = f" on {row.node}" if row.node else ""
    call = f"{future.call} (task {row.task})"
    if row.state is TaskState.DONE:  # as a task that was no call
        return f"{call} is over, and the store has no value of it: see pilotmtc tasks {row.task}"
    if row.state is TaskState.SKIPPED:
        return f"{call} was not called, because a task that it waits for has not ended well"
    if row.state is TaskState.CANCELED:
        return f"{call} was canceled by somebody else; pilotmtc retry {row.task} runs it again"
    if row.cause in (Cause.EXIT, Cause.SIGNAL):
        how = f"ended with exit code {row.exit_code}" if row.cause is Cause.EXIT else f"was {describe_end(row)}"
        text = f"{call}: its worker {how}{where} before the call returned"
    elif row.cause is None:
        text = f"{call} was not called"
    else:
        text = f"{call}: {describe_end(row)}{where}"
    if (message := message_of(row)) and _IN_CALL not in message:
        text = f"{text}: {message}"
    if row.cause in _HELP:
        text = f"{text}; {_HELP[row.cause]}"
    said = row.stderr[-_WORDS:].decode("utf-8", "replace").strip()
    return f"{text}; it wrote:\n{said}" if said else text


def _unreadable(future: Future, error: BaseException) -> BaseException:
    found = TaskFailed(
        f"{future.call} (task {future.task_id}) has returned, but its value cannot be loaded here: "
        f"{type(error).__name__}: {error}",
        task=future.task_id or 0,
        cause=Cause.EXIT.name,
        returncode=0,
    )
    found.__cause__ = error
    return found
