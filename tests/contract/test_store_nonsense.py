"""Requests of the right shape that mean nothing, and bytes of requests that were damaged: a named error, no more."""

import contextlib
import json
import math
import tracemalloc
import types
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotmtc.errors import PilotMTCError, ProtocolError
from pilotmtc.model import Template
from pilotmtc.protocol.agent import Batch
from pilotmtc.protocol.client.maintenance import CheckStore, NewKey, RevokeKey, SetMode, SnapshotStore
from pilotmtc.protocol.frames import (
    FrameDecoder,
    Ping,
    decode_greeting,
    decode_reply,
    decode_request,
    encode_greeting,
    split_reply,
)
from pilotmtc.protocol.registry import REPLIES, REQUESTS
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row

# Those that write files where they are told to, or change the account's keys.
_ELSEWHERE = (SnapshotStore, NewKey, RevokeKey, SetMode)
_KINDS = [kind for kind in REQUESTS if kind not in _ELSEWHERE]
_INTEGERS = st.integers(-2, 5) | st.sampled_from([-(2**63), -(2**31), 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1])
_FLOATS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e18, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan])
_TEXTS = st.sampled_from(["", "x", "{x}", "{", "}{", "a\0b", "\n", "é" * 300, "../..", "params.x", "cpu_s", "<", "%s"])
_FRAMES = {name: bytes.fromhex(text) for name, text in json.loads(
    (Path(__file__).parents[1] / "unit" / "protocol" / "golden" / "frames.json").read_text()
).items()}  # fmt: skip


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of the annotated type `kind`, sensible and not."""
    origin = get_origin(kind)
    words = get_args(kind)
    if origin is Annotated:
        return anything(words[0])
    if origin is Literal:
        return st.sampled_from(words)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(anything, words))
    if origin is tuple and words[-1] is Ellipsis:
        return st.lists(anything(words[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(anything, words))
    if origin is dict:
        return st.dictionaries(anything(words[0]), anything(words[1]), max_size=2)
    kind = getattr(kind, "__supertype__", kind)  # a NewType's
    if isinstance(kind, TypeVar):
        kind = kind.__bound__
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=True)
        return st.fixed_dictionaries({name: anything(hints[name]) for name in kind.__struct_fields__}).map(
            lambda fields: kind(**fields)
        )
    simple = {
        int: _INTEGERS, float: _FLOATS | _INTEGERS.map(float), str: _TEXTS, bytes: st.binary(max_size=20),
        bool: st.booleans(), type(None): st.none(),
    }  # fmt: skip
    return simple[kind] if kind in simple else st.from_type(kind)


# Announcements of more than will ever come, which a decoder must not believe.
_MORE = [
    *(bytes([kind]) + b"\x7f\xff\xff\xff" for kind in (0xC6, 0xC9, 0xDB, 0xDD, 0xDF)),
    b"\x91" * 2000,
]
_REQUESTS = sorted(_FRAMES.keys() - {"hello", "batch", "failure"})
_ANY = st.sampled_from(_KINDS).flatmap(anything)


@pytest.fixture(scope="module")
def store() -> Iterator[SqliteStore]:
    """A store with some tasks, two of them held."""
    with TemporaryDirectory() as directory:
        store = SqliteStore(f"{directory}/s.db")
        kit = Kit(store)
        kit.submit(*[row(number) for number in range(6)], template=Template(("x",), fields=("x",), max_retries=1))
        pilot = kit.pilot()
        kit.claim_batch(pilot, 2)
        yield store
        assert store.call(CheckStore()).problems == ()
        store.close()


_settled = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@_settled
@given(requests=st.lists(_ANY, min_size=1, max_size=4))
def test_any_request_is_answered_or_refused_with_a_named_error(store: SqliteStore, requests: list[Any]) -> None:
    for request in requests:
        wire = msgspec.msgpack.encode((1, request))
        _, read = decode_request(wire)
        if isinstance(read, ProtocolError):
            continue
        (answer,) = store.call_many([read])
        assert isinstance(answer, PilotMTCError | REPLIES[type(request)])
    store.due()


def mutate(data: st.DataObject, whole: bytes) -> bytes:
    """Return `whole` with some bytes changed, cut out, repeated or put in."""
    found = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(found)))
        size = data.draw(st.integers(0, 8))
        kind = data.draw(st.sampled_from(("flip", "cut", "repeat", "insert")))
        if kind == "flip" and at < len(found):
            found[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del found[at : at + size]
        elif kind == "repeat":
            found[at:at] = found[at : at + size] * data.draw(st.integers(1, 3))
        elif kind == "insert":
            found[at:at] = data.draw(st.sampled_from(_MORE))
    return bytes(found)


@_settled
@given(data=st.data(), name=st.sampled_from(_REQUESTS))
def test_damaged_request_is_refused_or_means_something(store: SqliteStore, data: st.DataObject, name: str) -> None:
    try:
        _, request = decode_request(mutate(data, _FRAMES[name][4:]))
    except ProtocolError:
        return
    if isinstance(request, ProtocolError | Ping):
        return
    (answer,) = store.call_many([request])
    assert isinstance(answer, PilotMTCError | REPLIES[type(request)])


@_settled
@given(data=st.data(), name=st.sampled_from(["batch", "failure"]))
def test_damaged_reply_is_a_reply_or_a_named_error(data: st.DataObject, name: str) -> None:
    with contextlib.suppress(ProtocolError):
        _, raw = split_reply(mutate(data, _FRAMES[name][4:]))
        if not isinstance(raw, PilotMTCError):
            decode_reply(raw, Batch)


@_settled
@given(data=st.data())
def test_damaged_stream_is_frames_or_a_named_error_and_takes_no_memory(data: st.DataObject) -> None:
    stream = mutate(data, encode_greeting("1") + _FRAMES["submit"] + _FRAMES["batch"])
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        with contextlib.suppress(PilotMTCError):
            decoder.feed(stream)
            while (frame := decoder.next_frame()) is not None:
                for decode in (decode_greeting, decode_request, split_reply):
                    with contextlib.suppress(PilotMTCError):
                        decode(frame)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
