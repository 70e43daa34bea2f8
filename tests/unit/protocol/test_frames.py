"""Frames: bytes as they were agreed on, and what becomes of bytes that were not."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import PilotMTCError, ProtocolError, StaleAttempt, StoreError, UsageError
from pilotmtc.model import (
    Call,
    CampaignId,
    Claimed,
    Function,
    PilotId,
    Resources,
    Result,
    TaskId,
    TaskRow,
    Template,
    Value,
)
from pilotmtc.protocol.agent import Batch, Claim, Finish, Heartbeat, Started
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.client.tasks import GetOutput, Output
from pilotmtc.protocol.frames import (
    MAGIC,
    MAX_CHATTER_BYTES,
    MAX_FRAME_BYTES,
    PROTOCOL,
    Failure,
    FrameDecoder,
    Greeting,
    Ping,
    append_frame,
    append_reply,
    decode_greeting,
    decode_reply,
    decode_request,
    encode_greeting,
    encode_request,
    error_of,
    split_reply,
)
from pilotmtc.protocol.records import NodeState
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.protocol.values import PutValue
from pilotmtc.states import Cause
from pilotmtc.store import serve

GOLDEN = json.loads((Path(__file__).parent / "golden" / "frames.json").read_text())

SUBMIT = Submit(
    key="k",
    templates=(Template(command=("echo", "{x}"), fields=("x",)),),
    resources=(Resources(cores=2),),
    rows=(TaskRow(0, 0, ("ä",)), TaskRow(0, 0, ("2",), 5, "b", ("t",))),
    last=True,
)
CLAIM = Claim(PilotId(1), 7, Resources(cores=8), Resources(cores=4), 256, wait_s=20.0, nodes=((3, Resources(cores=8)),))
STARTED = Started(PilotId(1), ((TaskId(3), 1, 5.0, "n1", "0-3"),))
BEAT = Heartbeat(PilotId(1), 4, 3, 10.0, (NodeState("n1", 12, 3, 1, 2.5, 1 << 30, 1 << 20),))
FINISH = Finish(PilotId(1), (Result(TaskId(3), 1, Cause.EXIT, 0, stdout=b"\x00\xff"),))
CALLS = Submit(
    key="k",
    templates=(Template(("f()",), function=Function("f", "c0de", "5e7", "/usr/bin/python3", (3, 12), True)),),
    resources=(Resources(),),
    rows=(TaskRow(0, 0, call=Call(Value(b"\x80"), (TaskId(2),), ("da7a",))),),
)
RETURNS = Finish(
    PilotId(1), (Result(TaskId(3), 1, Cause.EXIT, 0, value=Value(digest="d16e57", size=9), value_text="x"),)
)
PUT = PutValue("d16e57", 0, 9, b"\x00\xff", CampaignId(1), PilotId(1))
BATCH = Batch(
    7,
    (Claimed(TaskId(3), 1, 1, 2, ("ä",), campaign=CampaignId(1)),),
    {1: Template(command=("echo", "{x}"), fields=("x",))},
    {2: Resources(cores=2)},
)


def reply_frame(number: int, reply: Batch | PilotMTCError) -> bytes:
    buffer = bytearray(b"before")
    append_reply(buffer, number, reply)
    assert buffer.startswith(b"before")
    return bytes(buffer[len(b"before") :])


def one_frame(data: bytes) -> bytes:
    decoder = FrameDecoder()
    decoder.feed(MAGIC + data)
    frame = decoder.next_frame()
    assert frame is not None
    assert decoder.next_frame() is None
    return frame


def test_chatter_that_is_understood_may_go_on_for_hours() -> None:
    decoder = FrameDecoder()
    line = b"pilotmtc: waiting: another host has the store\n"
    for _ in range(3 * MAX_CHATTER_BYTES // len(line)):
        decoder.feed(line)
        assert decoder.next_frame() is None
        decoder.forget_chatter()
    whole = encode_greeting("1")
    decoder.feed(line + whole[:5])
    decoder.forget_chatter()  # not the beginning of a encode_greeting
    decoder.feed(whole[5:-1])
    decoder.forget_chatter()
    decoder.feed(whole[-1:])
    frame = decoder.next_frame()
    assert frame is not None
    assert decode_greeting(frame).version == "1"


def test_bytes_are_those_that_were_agreed_on() -> None:
    assert {
        "hello": encode_greeting("1.2.3").hex(),
        "submit": encode_request(1, SUBMIT).hex(),
        "claim": encode_request(2, CLAIM).hex(),
        "finish": encode_request(300, FINISH).hex(),
        "calls": encode_request(1, CALLS).hex(),
        "returns": encode_request(1, RETURNS).hex(),
        "put_value": encode_request(1, PUT).hex(),
        "started": encode_request(3, STARTED).hex(),
        "heartbeat": encode_request(4, BEAT).hex(),
        "ping": encode_request(0, Ping()).hex(),
        "batch": reply_frame(2, BATCH).hex(),
        "failure": reply_frame(5, StaleAttempt("too late")).hex(),
    } == GOLDEN


@pytest.mark.parametrize("request_", [SUBMIT, CLAIM, STARTED, BEAT, FINISH, CALLS, RETURNS, PUT, GetStore(), Ping()])
def test_request_comes_out_as_it_went_in(request_: AnyRequest) -> None:
    assert decode_request(one_frame(encode_request(9, request_))) == (9, request_)


def test_reply_comes_out_as_it_went_in() -> None:
    number, raw = split_reply(one_frame(reply_frame(2, BATCH)))
    assert number == 2
    assert not isinstance(raw, PilotMTCError)
    assert decode_reply(raw, Batch) == BATCH


def test_failure_comes_out_as_the_same_class_with_the_same_words() -> None:
    number, error = split_reply(one_frame(reply_frame(5, StaleAttempt("too late"))))
    assert number == 5
    assert type(error) is StaleAttempt
    assert str(error) == "too late"


def test_unknown_error_class_of_a_newer_version_keeps_its_words() -> None:
    error = error_of(Failure("FromTheFuture", "words"))
    assert type(error) is StoreError
    assert str(error) == "words"


def test_frames_may_come_in_any_pieces() -> None:
    stream = encode_greeting("1") + encode_request(1, SUBMIT) + encode_request(2, CLAIM)
    for size in (1, 2, 3, 7, 1000):
        decoder = FrameDecoder()
        frames = []
        for at in range(0, len(stream), size):
            decoder.feed(stream[at : at + size])
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
        assert decode_greeting(frames[0]) == Greeting(PROTOCOL, "1")
        assert [decode_request(frame) for frame in frames[1:]] == [(1, SUBMIT), (2, CLAIM)]
        assert decoder.held_bytes == 0


def test_chatter_of_a_login_shell_is_passed_over() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"Last login: today\r\n\x89pilot" * 1000 + encode_greeting("1"))
    frame = decoder.next_frame()
    assert frame is not None
    assert decode_greeting(frame).version == "1"


def test_chatter_without_end_is_refused_and_quoted() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"This account is expired. " * (MAX_CHATTER_BYTES // 25 + 2))
    with pytest.raises(ProtocolError, match="This account is expired"):
        decoder.next_frame()


def test_server_tolerates_no_chatter() -> None:
    decoder = FrameDecoder(chatter_bytes=0)
    decoder.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError, match="GET / HTTP"):
        decoder.next_frame()


def test_oversized_frame_is_refused_before_it_comes() -> None:
    decoder = FrameDecoder()
    decoder.feed(MAGIC + (MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="bytes is announced"):
        decoder.next_frame()


def test_oversized_request_is_refused_where_it_is_made() -> None:
    big = Finish(PilotId(1), (Result(TaskId(1), 1, Cause.EXIT, 0, stdout=b"x" * (MAX_FRAME_BYTES + 1)),))
    with pytest.raises(UsageError, match="over the limit"):
        encode_request(1, big)


def test_oversized_reply_turns_into_a_failure_and_leaves_no_bytes_behind() -> None:
    buffer = bytearray()
    append_reply(buffer, 4, Output(True, stdout=b"x" * (MAX_FRAME_BYTES + 1)))
    assert len(buffer) < 1000
    number, error = split_reply(one_frame(bytes(buffer)))
    assert number == 4
    assert isinstance(error, StoreError)


def test_text_that_no_wire_can_carry_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="Submit cannot be sent"):
        encode_request(1, Submit(key="\ud800"))


def test_frames_are_appended_behind_each_other() -> None:
    buffer = bytearray()
    append_frame(buffer, (1, GetStore()))
    append_frame(buffer, (2, GetOutput(TaskId(1))))
    decoder = FrameDecoder()
    decoder.feed(MAGIC + bytes(buffer))
    frames = [decoder.next_frame(), decoder.next_frame()]
    assert [decode_request(frame) for frame in frames if frame] == [(1, GetStore()), (2, GetOutput(TaskId(1)))]


def test_unknown_request_is_answered_under_its_number() -> None:
    buffer = bytearray()
    append_frame(buffer, (17, {"op": "dance"}))
    number, error = decode_request(bytes(buffer[4:]))
    assert number == 17
    assert isinstance(error, ProtocolError)


@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error_whatever_it_is(data: bytes) -> None:
    for decode in (decode_request, decode_greeting, split_reply):
        try:
            decode(data)
        except PilotMTCError as error:
            assert isinstance(error, ProtocolError) or decode is not decode_request  # noqa: PT017
    decoder = FrameDecoder(chatter_bytes=0)
    decoder.feed(MAGIC + data)
    try:
        while decoder.next_frame() is not None:
            pass
    except ProtocolError:
        pass


def test_decoder_holds_no_more_than_it_was_fed() -> None:
    decoder = FrameDecoder()
    decoder.feed(MAGIC + MAX_FRAME_BYTES.to_bytes(4, "big"))
    tracemalloc.start()
    try:
        for _ in range(100):
            decoder.feed(bytes(10_000))
            assert decoder.next_frame() is None
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_other_protocol_is_refused_with_both_numbers() -> None:
    buffer = bytearray()
    append_frame(buffer, Greeting(PROTOCOL + 1, "9.9"))
    with pytest.raises(ProtocolError, match=rf"9\.9 with protocol {PROTOCOL + 1}.*protocol {PROTOCOL}"):
        decode_greeting(bytes(buffer[4:]))


def test_serve_that_imports_nothing_writes_the_same_failure() -> None:
    decoder = FrameDecoder(chatter_bytes=0)
    decoder.feed(serve.failure_frame("SchemaMismatch", "ä damaged"))
    frame = decoder.next_frame()
    assert frame is not None
    with pytest.raises(PilotMTCError, match="ä damaged") as caught:
        decode_greeting(frame)
    assert type(caught.value).__name__ == "SchemaMismatch"
    number, _ = split_reply(frame)
    assert number == 0
