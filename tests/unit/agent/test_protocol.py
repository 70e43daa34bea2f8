"""Messages between agent and worker, over a link that loses, repeats and reorders them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.agent.crews.protocol import RESEND_S, Numbered, NumberedLine, ToAgent, decode, encode
from pilotmtc.errors import ProtocolError
from pilotmtc.model import TaskId


def up(number: int) -> ToAgent:
    return ToAgent((), ((TaskId(number), 1),))


def test_what_is_not_confirmed_is_said_again_and_heard_once() -> None:
    worker, agent = NumberedLine(1, ToAgent), NumberedLine(1, ToAgent)
    first = worker.say(up(1), 0.0)
    assert worker.again(RESEND_S / 2) == []
    (again,) = worker.again(RESEND_S)
    assert again.body == first.body
    assert agent.hear(first, 0.0) == up(1)
    assert agent.hear(again, 0.0) is None
    worker.hear(agent.beat(), 1.0)
    assert worker.unheard == 0
    assert worker.again(99.0) == []


def test_messages_come_out_of_bytes_as_they_went_in() -> None:
    said = NumberedLine(7, ToAgent).say(up(3), 0.0)
    assert decode([encode(said)]) == said


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_random_bytes_are_a_named_error(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match="is ignored"):
        decode(parts)


@given(st.integers(0, 1000), st.binary(max_size=4))
def test_damaged_message_is_a_message_or_a_named_error(at: int, by: bytes) -> None:
    data = bytearray(encode(NumberedLine(7, ToAgent).say(up(3), 0.0)))
    at %= len(data)
    data[at : at + len(by)] = by
    with contextlib.suppress(ProtocolError):
        said = decode([bytes(data)])
        if isinstance(said, Numbered):
            NumberedLine(7, ToAgent).hear(said, 0.0)


@given(
    st.lists(st.tuples(st.sampled_from(["say", "lose", "late", "repeat"]), st.booleans()), max_size=60), st.randoms()
)
def test_all_is_heard_once_and_in_order_whatever_the_link_does(steps: list[tuple[str, bool]], random: object) -> None:
    worker, agent = NumberedLine(1, ToAgent), NumberedLine(1, ToAgent)
    said, heard, now = 0, [], 0.0
    flight: list[Numbered] = []

    def arrive(message: Numbered) -> None:
        over = decode([encode(message)])
        assert isinstance(over, Numbered)
        body = agent.hear(over, now)
        if body is not None:
            heard.append(body.no_room[0][0])

    for step, confirmed in steps:
        now += 1.0
        if step == "say":
            said += 1
            flight.append(worker.say(up(said), now))
        elif step == "lose" and flight:
            flight.pop(0)
        elif step == "late" and flight:
            arrive(flight.pop())
        elif step == "repeat" and flight:
            arrive(flight[0])
            arrive(flight[0])
        flight += worker.again(now)
        if confirmed:
            worker.hear(agent.beat(), now)
    for _ in range(3):
        now += RESEND_S
        for message in worker.again(now):
            arrive(message)
        worker.hear(agent.beat(), now)
    assert heard == list(range(1, said + 1))
    assert worker.unheard == 0
