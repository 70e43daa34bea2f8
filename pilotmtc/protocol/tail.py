"""What a running task has written so far: asked for by whoever looks, told by its agent, kept by nobody."""

from msgspec import Struct

from pilotmtc.model import PilotId, TaskId
from pilotmtc.protocol.base import AGENTS, GUESTS, Done, Reply, Request

TAIL_BYTES = 16 * 1024  # of each stream


class Written(Struct, frozen=True, array_like=True):
    """What a running attempt has written so far: the ends of its streams, up to `TAIL_BYTES` of each.

    Attributes
    ----------
    stdout_bytes, stderr_bytes
        How much it is in all.
    stdout_path, stderr_path
        The files, if the task has named them.
    """

    task: TaskId
    attempt: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    stdout_path: str | None = None
    stderr_path: str | None = None


class Peeked(Request[Done], frozen=True, tag="peeked"):
    """An agent's answer to ``Orders.peek``. Safe to repeat, and to lose: who still looks asks again."""

    said_by = AGENTS

    pilot: PilotId
    written: tuple[Written, ...]


class GetTail(Request["Tail"], frozen=True, tag="tail"):
    """What a task that runs has written so far. Its agent is asked for that.

    Attributes
    ----------
    since
        ``Tail.at`` of the last answer. The server holds this one back up to `wait_s`, until there is a newer one or
        the task does not run any more.
    """

    said_by = GUESTS

    task: TaskId
    since: float = 0.0
    wait_s: float = 0.0


class Tail(Reply, frozen=True):
    """The answer to `GetTail`.

    Attributes
    ----------
    attempt
        The one that runs; 0 if none does, and then `GetOutput` has what there is.
    at
        When the store was told, by its host's clock; 0 if it has not been yet, and `written` is None.
    """

    attempt: int = 0
    at: float = 0.0
    written: Written | None = None
