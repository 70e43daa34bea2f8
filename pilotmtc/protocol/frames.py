"""Frames: the format of the stream between a client and the store's server.

Each side first sends `MAGIC` and a frame with its `Greeting`; then the client sends requests and the server replies::

    frame    4-byte big-endian length, then that many bytes of msgpack
    request  [id, request]      the client numbers its requests from 1; 0 is a `Ping`
    reply    [id, reply]        its type follows from the request, so it carries no tag
    failure  [~id, Failure]     the complement of the id; ~0 is about the whole connection

Nothing here does I/O. Whatever bytes come, a `FrameDecoder` holds no more than one frame and one read.
"""

import functools
import operator
import struct
from types import GenericAlias
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from pilotmtc import errors
from pilotmtc.errors import PilotMTCError, ProtocolError, StoreError, UsageError
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import Done, Reply, Request
from pilotmtc.protocol.registry import REQUESTS, AnyRequest

MAX_FRAME_BYTES = 32 << 20
MAX_CHATTER_BYTES = 64 << 10
# Not ASCII, so that a connection that changes line ends or control characters is noticed at once.
MAGIC = b"\x89pilotmtc\r\n\x1a\n"

PROTOCOL = 4


class Greeting(Struct, frozen=True, tag="hello", tag_field="op"):
    """The first frame each way.

    Attributes
    ----------
    pilot
        An agent's own pilot: the server then accepts only requests that this pilot's agent may send.
    """

    protocol: int
    version: str
    software: str = "pilotmtc"
    pilot: PilotId | UnsetType = UNSET


class Ping(Request[Done], frozen=True, tag="ping"):
    """Ask whether the server is alive. It answers with id 0; the store never sees this."""


class Failure(Struct, frozen=True):
    """An error as a reply: the name of its class in `pilotmtc.errors`, and its text."""

    error: str
    message: str


_LENGTH = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()
_NUMBERED = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_GREETING = msgspec.msgpack.Decoder(Greeting | tuple[int, Failure])
_FAILURE = msgspec.msgpack.Decoder(Failure)
_ERRORS: dict[str, type[PilotMTCError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PilotMTCError)
}

S = TypeVar("S")


# Made when they are first needed: a client decodes no requests and few kinds of replies, and a server no replies.
@functools.cache
def _requests() -> msgspec.msgpack.Decoder[tuple[int, AnyRequest]]:
    kinds: Any = functools.reduce(operator.or_, REQUESTS)
    return msgspec.msgpack.Decoder(GenericAlias(tuple, (int, kinds | Ping)))


@functools.cache
def _replies(kind: type[Reply]) -> msgspec.msgpack.Decoder[Reply]:
    return msgspec.msgpack.Decoder(kind)


class FrameDecoder:
    """Splits a stream into frames.

    Parameters
    ----------
    chatter_bytes
        How much may come before `MAGIC`, since a login shell may print something.
    """

    def __init__(self, *, chatter_bytes: int = MAX_CHATTER_BYTES) -> None:
        self._buffer = bytearray()
        self._preamble = True
        self._tolerated = chatter_bytes + len(MAGIC)

    @property
    def held_bytes(self) -> int:
        """Number of bytes that have not become a frame yet."""
        return len(self._buffer)

    @property
    def begun_bytes(self) -> int:
        """The announced length of a frame that has arrived in part; 0: there is none."""
        if self._preamble or len(self._buffer) < _LENGTH.size:
            return 0
        (length,) = _LENGTH.unpack_from(self._buffer)
        return int(length)

    def feed(self, data: bytes) -> None:
        """Add data that was read."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Return the next complete frame; None if more data is needed.

        Raises
        ------
        ProtocolError
            If the data is not a frame. The stream is then of no further use.
        """
        buffer = self._buffer
        if self._preamble and not self._skip_preamble():
            return None
        if len(buffer) < 4:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes is announced; {MAX_FRAME_BYTES} is the most: not pilotmtc?")
        end = 4 + length
        if len(buffer) < end:
            return None
        # A copy, because a bytearray cannot shrink while a view of it exists.
        frame = bytes(memoryview(buffer)[4:end])
        del buffer[:end]
        return frame

    def _skip_preamble(self) -> bool:
        buffer = self._buffer
        at = buffer.find(MAGIC, 0, self._tolerated)
        if at >= 0:
            del buffer[: at + len(MAGIC)]
            self._preamble = False
            return True
        if len(buffer) >= self._tolerated:
            raise ProtocolError(f"not pilotmtc on the other side, but something that says: {self.chatter()}")
        return False

    def forget_chatter(self) -> None:
        """Forget what came before the greeting so far: the other side may send for hours why it has to wait."""
        if self._preamble and MAGIC not in self._buffer:
            del self._buffer[: -len(MAGIC)]

    def chatter(self) -> str:
        """Return the start of what came instead of a greeting, for an error message."""
        if not self._preamble:
            return ""
        return self._buffer[:2000].decode("utf-8", "replace").strip()


def append_frame(buffer: bytearray, message: object) -> None:
    """Encode `message` as a frame at the end of `buffer`.

    Raises
    ------
    UsageError
        If it is larger than `MAX_FRAME_BYTES`; the buffer is then unchanged.
    """
    start = len(buffer)
    buffer += b"\0\0\0\0"
    try:
        _ENCODER.encode_into(message, buffer, -1)
        length = len(buffer) - start - 4
        if length > MAX_FRAME_BYTES:
            raise UsageError(f"a message of {length} bytes is over the limit of {MAX_FRAME_BYTES}: send or ask less")
        _LENGTH.pack_into(buffer, start, length)
    except BaseException:
        del buffer[start:]
        raise


def encode_greeting(version: str, pilot: PilotId | None = None) -> bytes:
    """Return what each side sends first; an agent names its pilot."""
    buffer = bytearray(MAGIC)
    append_frame(buffer, Greeting(PROTOCOL, version, pilot=UNSET if pilot is None else pilot))
    return bytes(buffer)


def decode_greeting(frame: bytes) -> Greeting:
    """Return the other side's greeting.

    Raises
    ------
    PilotMTCError
        The error that the other side sent instead; or `ProtocolError` if it does not speak this protocol.
    """
    greeting = _decode(_GREETING, frame)
    if not isinstance(greeting, Greeting):
        raise error_of(greeting[1])
    if greeting.protocol != PROTOCOL:
        raise ProtocolError(
            f"the other side is {greeting.software} {greeting.version} with protocol {greeting.protocol}, this side "
            f"has protocol {PROTOCOL}: use the same version on both (a server leaves a minute after its last client)"
        )
    return greeting


def encode_request(number: int, request: AnyRequest) -> bytes:
    """Return the frame of a request.

    Raises
    ------
    UsageError
        If it is too large, or contains a value that cannot be sent.
    """
    buffer = bytearray()
    try:
        append_frame(buffer, (number, request))
    except (TypeError, ValueError, OverflowError) as error:  # UnicodeEncodeError is a ValueError
        raise UsageError(f"{type(request).__name__} cannot be sent: {error}") from error
    return bytes(buffer)


def decode_request(frame: bytes) -> tuple[int, AnyRequest | ProtocolError]:
    """Return a request and its number; for an unknown request, a `ProtocolError` in its place.

    Raises
    ------
    ProtocolError
        If not even its number can be read.
    """
    try:
        return _requests().decode(frame)
    except msgspec.ValidationError as error:
        number, _ = _decode(_NUMBERED, frame)
        return number, ProtocolError(f"the server does not understand the request: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a request: {error}") from error


def append_reply(buffer: bytearray, number: int, reply: Reply | PilotMTCError) -> None:
    """Append the frame of a reply or failure; a reply that is too large becomes a failure."""
    if not isinstance(reply, PilotMTCError):
        try:
            append_frame(buffer, (number, reply))
            return
        except UsageError:
            reply = StoreError(f"the answer is over the limit of {MAX_FRAME_BYTES} bytes: ask for less at a time")
    append_frame(buffer, (~number, Failure(type(reply).__name__, str(reply)[:100_000])))


def split_reply(frame: bytes) -> tuple[int, msgspec.Raw | PilotMTCError]:
    """Return the number of the answered request, and its encoded reply or the error."""
    number, raw = _decode(_NUMBERED, frame)
    return (number, raw) if number >= 0 else (~number, error_of(_decode(_FAILURE, raw)))


def decode_reply(raw: msgspec.Raw, kind: type[Reply]) -> Reply:
    """Decode a reply to `request`, which determines its type."""
    return _decode(_replies(kind), raw)


def error_of(failure: Failure) -> PilotMTCError:
    """Return the error in a failure; a `StoreError` with its text if this version lacks the class."""
    return _ERRORS.get(failure.error, StoreError)(failure.message)


def _decode(decoder: msgspec.msgpack.Decoder[S], data: bytes | msgspec.Raw) -> S:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the other side sent what this version does not understand: {error}") from error
