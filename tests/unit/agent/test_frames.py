"""What a node and its function workers send each other."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.agent.functions import frames

TASKS = st.integers(0, 2**63 - 1)
ATTEMPTS = st.integers(0, 2**32 - 1)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
TIMES = st.floats(0, 1e9)


@given(
    TASKS,
    ATTEMPTS,
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
    DIGESTS,
    st.binary(),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 1), st.binary())),
)
def test_calls_come_as_they_were_sent(
    task: int, attempt: int, version: tuple[int, int], code: str, args: bytes, kept: bool, refers: bool,
    given: list[tuple[int, bytes]],
) -> None:  # fmt: skip
    frame = frames.call_frame(
        task, attempt, version, code.encode(), args, args_kept=kept, refers=refers, given=given
    )  # fmt: skip
    assert frame[0] == frames.CALL
    call = frames.Call(frame)
    assert (call.task, call.attempt, call.version, call.code) == (task, attempt, version, code.encode())
    assert (call.args, bool(call.args_kept), bool(call.refers), list(call.given)) == (args, kept, refers, given)
    with pytest.raises((ValueError, struct.error)):
        frames.Call(frame[:-1])
    with pytest.raises((ValueError, struct.error)):
        frames.Call(frame + b"x")


@given(
    st.integers(0, 3),
    TASKS,
    ATTEMPTS,
    st.tuples(TIMES, TIMES, TIMES),
    st.integers(0, 2**63),
    st.binary(),
    st.text(),
    st.binary(),
    st.binary(),
    st.none() | st.tuples(DIGESTS, st.integers(1, 2**40)),
    st.booleans(),
)
def test_ends_come_as_they_were_sent(
    outcome: int, task: int, attempt: int, times: tuple[float, float, float], memory: int, value: bytes, text: str,
    out: bytes, err: bytes, kept: tuple[str, int] | None, waits: bool,
) -> None:  # fmt: skip
    frame = frames.ended_frame(
        outcome, task, attempt, times, memory, value, text.encode(), out, err, kept=kept, waits=waits
    )  # fmt: skip
    assert frame[0] == frames.ENDED
    end = frames.End(frame)
    assert (end.outcome, end.task, end.attempt) == (outcome, task, attempt)
    assert (end.began, end.elapsed_s, end.cpu_s) == times
    assert (end.memory, end.text, end.out, end.err, bool(end.waits)) == (memory, text, out, err, waits)
    assert (end.value, end.digest, end.size) == ((value, "", len(value)) if kept is None else (b"", *kept))
    for bad in (frame[:-1], frame + b"x", frame[:10]):
        with pytest.raises((ValueError, struct.error)):
            frames.End(bad)


@given(st.binary(max_size=200))
def test_nonsense_is_an_error_and_nothing_else(data: bytes) -> None:
    for read in (frames.Call, frames.End, frames.read_failed):
        try:
            read(data)
        except (ValueError, struct.error):
            continue


@given(st.text(), st.binary(), st.text(), DIGESTS)
def test_other_frames(text: str, value: bytes, path: str, cores: str) -> None:
    assert frames.read_failed(frames.failed_frame(text.encode(), value)) == (text, value)
    frame = frames.file_frame(path)
    assert (frame[0], frames.read_file_frame(frame)) == (frames.IN_FILE, path)
    assert frames.cores_frame(cores)[1:].decode() == cores
