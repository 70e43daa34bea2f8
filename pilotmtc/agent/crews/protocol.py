"""The messages between the agent and its node workers, and how none of them is lost. Pure.

ZeroMQ keeps messages complete and in order, but a connection that breaks loses some. So messages that matter have
numbers, are kept until the other side has confirmed them, and are sent again; those that come twice or out of order are
ignored. A worker that was restarted is another worker, recognized by its *birth*, a random number.
"""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from pilotmtc.errors import ProtocolError
from pilotmtc.model import Claimed, Resources, Result, TaskId, Template
from pilotmtc.protocol.records import OutputTail
from pilotmtc.protocol.values import GetValue, PutValue, ValuePart
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause

RESEND_S = 3.0


class StartAttempt(Struct, frozen=True, array_like=True):
    """Start an attempt.

    Attributes
    ----------
    slots
        Of the ranks that this node starts: its own, or all of them if it does so with a program for that.
    mates
        Calls that these slots run afterwards, as `Start` has them.
    way
        What starts them: ``mpiexec``, ``srun``, or ``ranks`` if each node starts its own.
    first, ranks, nodes
        Number of the first rank in `slots`; how many ranks the task has; names of all its nodes, as ``n[1-4]``.
    """

    claimed: Claimed
    slots: tuple[Slot, ...]
    way: str = ""
    first: int = 0
    ranks: int = 1
    nodes: str = ""
    mates: tuple[Claimed, ...] = ()


class StopAttempt(Struct, frozen=True, array_like=True):
    """Stop an attempt, as `Stop` has it."""

    task: TaskId
    attempt: int
    cause: Cause
    grace_s: float


class ToWorker(Struct, frozen=True, array_like=True):
    """From the agent; with the templates and resources of the attempts to start, by their numbers.

    Attributes
    ----------
    parts, taken
        Answers to `ToAgent.asks` and `ToAgent.puts`, in their order: of the latter how much the agent has, below 0 if
        it cannot keep that value.
    """

    begins: tuple[StartAttempt, ...] = ()
    halts: tuple[StopAttempt, ...] = ()
    templates: dict[int, Template] = {}
    resources: dict[int, Resources] = {}
    peek: tuple[tuple[TaskId, int], ...] = ()
    parts: tuple[ValuePart, ...] = ()
    taken: tuple[int, ...] = ()


class ToAgent(Struct, frozen=True, array_like=True):
    """From a worker: what has ended, what there is no room for now, and what running tasks have written.

    Attributes
    ----------
    unfit
        Why the node cannot run tasks as it should; empty if it can.
    unbegun
        Calls that were taken back before they began.
    begun
        Calls that run after others on their slots, as far as they take long: task, attempt and cores.
    asks, puts
        Parts of values that it lacks, and of results: a worker that has not the pilot's directory takes the agent for
        the store.
    """

    results: tuple[Result, ...] = ()
    no_room: tuple[tuple[TaskId, int], ...] = ()
    written: tuple[OutputTail, ...] = ()
    unfit: str = ""
    unbegun: tuple[tuple[TaskId, int], ...] = ()
    begun: tuple[tuple[TaskId, int, str], ...] = ()
    asks: tuple[GetValue, ...] = ()
    puts: tuple[PutValue, ...] = ()


class WorkerReady(Struct, frozen=True, array_like=True, tag="ready"):
    """A worker is ready, with nothing running. Repeated until it is accepted."""

    birth: int
    name: str
    cores: tuple[int, ...]
    gpus: int
    memory_bytes: int


class Accepted(Struct, frozen=True, array_like=True, tag="accepted"):
    """The agent has accepted the worker of this birth."""

    birth: int


class Dismissed(Struct, frozen=True, array_like=True, tag="dismissed"):
    """The agent does not want the worker, or no longer: kill what runs, and leave."""

    birth: int
    reason: str = ""


class WorkerLeaves(Struct, frozen=True, array_like=True, tag="leaves"):
    """The worker leaves, and ends what runs."""

    birth: int
    reason: str


class Numbered(Struct, frozen=True, array_like=True, tag="numbered"):
    """A numbered `ToWorker` or `ToAgent`; number 0 and no body for a mere sign of life.

    `heard`: all up to this number has come.
    """

    birth: int
    number: int
    heard: int
    body: msgspec.Raw = msgspec.Raw()
    load: float = 0.0
    memory_used_bytes: int = 0


Message = WorkerReady | Accepted | Dismissed | WorkerLeaves | Numbered
T = TypeVar("T", ToAgent, ToWorker)
M = TypeVar("M")
encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode(parts: Sequence[bytes]) -> Message:
    """Return the message that came as `parts`.

    Raises
    ------
    ProtocolError
        If it is not one of these messages.
    """
    return _read(_decoder, b"".join(parts))


def _read(decoder: "msgspec.msgpack.Decoder[M]", data: bytes | msgspec.Raw) -> "M":
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"{bytes(data)[:60]!r} is ignored: {error}") from error


class NumberedLine(Generic[T]):
    """One side of a numbered line between an agent and a worker."""

    def __init__(self, birth: int, incoming: type[T]) -> None:
        self.birth = birth
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)
        self._number = 0
        self._heard = 0
        self._unheard: deque[tuple[int, msgspec.Raw]] = deque()
        self._again_at = 0.0

    @property
    def unheard(self) -> int:
        """How many messages the other side has not confirmed."""
        return len(self._unheard)

    def say(self, body: ToAgent | ToWorker, now: float) -> Numbered:
        """Return `body` as a message, and keep it."""
        self._number += 1
        raw = msgspec.Raw(encode(body))
        if not self._unheard:
            self._again_at = now + RESEND_S
        self._unheard.append((self._number, raw))
        return Numbered(self.birth, self._number, self._heard, raw)

    def beat(self, load: float = 0.0, memory_used_bytes: int = 0) -> Numbered:
        """Return a sign of life, which confirms what has come."""
        return Numbered(self.birth, 0, self._heard, msgspec.Raw(b"\xc0"), load, memory_used_bytes)

    def again(self, now: float) -> list[Numbered]:
        """Return what is to be sent again because it was not confirmed in time."""
        if not self._unheard or now < self._again_at:
            return []
        self._again_at = now + RESEND_S
        return [Numbered(self.birth, number, self._heard, raw) for number, raw in self._unheard]

    def hear(self, said: Numbered, now: float) -> T | None:
        """Take a message in; return its body if it is the next one.

        Raises
        ------
        ProtocolError
            If the body makes no sense.
        """
        while self._unheard and self._unheard[0][0] <= said.heard:
            self._unheard.popleft()
            self._again_at = now + RESEND_S
        if said.number != self._heard + 1:
            return None
        body = _read(self._decoder, said.body)
        self._heard += 1
        return body
