"""A client's side of a conversation, with a scripted other side."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pilotmtc.errors import (
    ChannelClosed,
    ConnectError,
    LoginRefused,
    ProtocolError,
    SchemaMismatch,
    StoreBusy,
    UsageError,
)
from pilotmtc.model import PilotId, Result, TaskId
from pilotmtc.protocol.agent import Finish, Finished, Heartbeat, Orders
from pilotmtc.protocol.base import Done, Reply
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import Pilots
from pilotmtc.protocol.frames import MAX_CHATTER_BYTES, FrameDecoder, append_reply, decode_request, encode_greeting
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.states import Cause
from pilotmtc.store import serve
from pilotmtc.store.client import client as client_module
from pilotmtc.store.client.client import StoreClient
from pilotmtc.transport.channel import Channel
from tests.support import wait_until


class SocketChannel:
    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.taken = 0  # the test's word for how much the other side has

    def read(self, n: int) -> bytes:
        try:
            return self.stream.recv(n)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        try:
            self.stream.sendall(data)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def moved(self) -> int:
        return self.taken

    def close(self) -> None:
        with contextlib.suppress(OSError):  # ended already
            self.stream.shutdown(socket.SHUT_RDWR)
        self.stream.close()

    def last_words(self) -> str:
        return "last words"


class FakeTime:
    """The module ``time``, with a clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.now


class OtherSide:
    """Hands out channels; the test reads and writes their other ends."""

    def __init__(self) -> None:
        self.links: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.opened = 0
        self.refuse: Exception | None = None
        self.channels: list[SocketChannel] = []
        self._all: list[socket.socket] = []

    def connect(self) -> Channel:
        self.opened += 1
        if self.refuse is not None:
            raise self.refuse
        ours, theirs = socket.socketpair()
        theirs.settimeout(10)
        self._all += [ours, theirs]
        self.channels.append(SocketChannel(ours))
        self.links.put(theirs)
        return self.channels[-1]

    def accept(self, greeting: bytes | None = None) -> "Link":
        return Link(self.links.get(timeout=10), encode_greeting("1") if greeting is None else greeting)

    def close(self) -> None:
        for stream in self._all:
            stream.close()


class Link:
    def __init__(self, stream: socket.socket, greeting: bytes) -> None:
        self.stream = stream
        self._decoder = FrameDecoder(chatter_bytes=0)
        stream.sendall(greeting)
        self.frame()  # the client's encode_greeting

    def frame(self) -> bytes:
        while (frame := self._decoder.next_frame()) is None:
            data = self.stream.recv(65536)
            assert data
            self._decoder.feed(data)
        return frame

    def request(self) -> tuple[int, AnyRequest | ProtocolError]:
        return decode_request(self.frame())

    def reply(self, number: int, reply: Reply | StoreBusy | UsageError) -> None:
        buffer = bytearray()
        append_reply(buffer, number, reply)
        self.stream.sendall(buffer)


@pytest.fixture
def other() -> Iterator[OtherSide]:
    other = OtherSide()
    yield other
    other.close()


@pytest.fixture
def make(other: OtherSide) -> Iterator[Callable[..., StoreClient]]:
    before = set(threading.enumerate())
    made: list[StoreClient] = []

    def make(patience_s: float | None = 20.0) -> StoreClient:
        made.append(StoreClient(other.connect, patience_s=patience_s))
        return made[-1]

    yield make
    for client in made:
        client.close()
    assert set(threading.enumerate()) <= before


Make = Callable[..., StoreClient]
ASK = SnapshotStore("x")  # answered by Done, the shortest reply


def test_unanswered_requests_are_sent_again_in_order(make: Make, other: OtherSide) -> None:
    client = make()
    first, second, third = (client.send(SnapshotStore(str(n))) for n in range(3))
    link = other.accept()
    assert [link.request()[0] for _ in range(3)] == [1, 2, 3]
    link.reply(2, Done())
    assert second.result(timeout=10) == Done()
    link.stream.close()
    link = other.accept()
    assert [link.request() for _ in range(2)] == [(1, SnapshotStore("0")), (3, SnapshotStore("2"))]
    link.reply(3, Done())
    link.reply(1, UsageError("no"))
    assert third.result(timeout=10) == Done()
    with pytest.raises(UsageError, match="no"):
        first.result(timeout=10)


def test_reply_that_breaks_off_is_asked_for_again(make: Make, other: OtherSide) -> None:
    future = make().send(ASK)
    link = other.accept()
    link.request()
    link.stream.sendall(b"\0\0\0\x05\x92")
    link.stream.close()
    link = other.accept()
    link.reply(link.request()[0], Done())
    assert future.result(timeout=10) == Done()


def test_calls_fail_when_patience_is_over(make: Make, other: OtherSide) -> None:
    other.refuse = ConnectError("the cable is cut")
    with pytest.raises(ConnectError, match=r"no connection to the store for 0.1 s: the cable is cut"):
        make(patience_s=0.1).call(ASK)


def test_endless_patience_outlasts_refusals(make: Make, other: OtherSide) -> None:
    other.refuse = StoreBusy("wait")
    client = make(patience_s=None)
    future = client.send(ASK)
    while other.opened < 3:
        time.sleep(0.005)
    assert not client.connected
    other.refuse = None
    link = other.accept()
    link.reply(link.request()[0], Done())
    assert future.result(timeout=10) == Done()
    assert client.connected


def test_timeout_of_a_call_ends_it_and_a_late_reply_hurts_nobody(make: Make, other: OtherSide) -> None:
    client = make()
    with pytest.raises(ConnectError, match=r"no connection to the store for 0.05 s"):
        client.call(ASK, timeout_s=0.05)
    link = other.accept()
    future = client.send(ASK)
    number, _ = link.request()
    link.reply(1, Done())
    link.reply(number, Done())
    assert future.result(timeout=10) == Done()


@pytest.mark.parametrize("greeting", [serve.failure_frame("SchemaMismatch", "it is damaged"), b"Welcome!\n" * 10_000])
def test_lasting_refusal_fails_at_once_and_is_tried_again_for_the_next_call(
    make: Make, other: OtherSide, greeting: bytes
) -> None:
    client = make()
    future = client.send(ASK)
    other.links.get(timeout=10).sendall(greeting)
    with pytest.raises((SchemaMismatch, ProtocolError), match=r"damaged|Welcome!"):
        future.result(timeout=10)
    opened = other.opened
    future = client.send(ASK)
    link = other.accept()
    link.reply(link.request()[0], Done())
    assert future.result(timeout=10) == Done()
    assert other.opened == opened + 1


def test_end_before_the_hello_quotes_what_was_said(make: Make, other: OtherSide) -> None:
    client = make(patience_s=0.3)
    future = client.send(ASK)
    link = other.links.get(timeout=10)
    link.sendall(b"bash: pilotmtc: command not found\n")
    link.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectError, match="command not found\nlast words"):
        future.result(timeout=10)


def test_server_may_say_for_hours_why_it_waits(make: Make, other: OtherSide) -> None:
    client = make()
    future = client.send(ASK)
    said = f"{serve.WAITING}another host has the store\n".encode()
    link = other.accept(said)
    for _ in range(3 * MAX_CHATTER_BYTES // len(said)):
        link.stream.sendall(said)
    link.stream.sendall(encode_greeting("1"))
    number, _ = link.request()
    link.reply(number, Done())
    assert future.result(timeout=10) == Done()


def test_garbage_from_the_server_fails_the_calls_with_clear_words(make: Make, other: OtherSide) -> None:
    future = make().send(ASK)
    link = other.accept()
    link.request()
    link.stream.sendall(b"\xff" * 100)
    with pytest.raises(ProtocolError, match="bytes is announced"):
        future.result(timeout=10)


def test_reply_of_the_wrong_shape_fails_that_call_only(make: Make, other: OtherSide) -> None:
    client = make()
    wrong, right = client.send(GetStore()), client.send(ASK)
    link = other.accept()
    link.reply(1, Pilots(()))
    link.reply(2, Done())
    assert right.result(timeout=10) == Done()
    with pytest.raises(ProtocolError, match="does not understand"):
        wrong.result(timeout=10)


def test_request_that_cannot_be_sent_fails_where_it_is_made(make: Make, other: OtherSide) -> None:
    client = make()
    with pytest.raises(UsageError, match="cannot be sent"):
        client.send(Submit(key="\ud800"))
    future = client.send(ASK)
    link = other.accept()
    link.reply(link.request()[0], Done())
    assert future.result(timeout=10) == Done()


def test_close_fails_what_is_unanswered_and_may_be_repeated(make: Make, other: OtherSide) -> None:
    client = make()
    future = client.send(ASK)
    other.accept()
    client.close()
    client.close()
    with pytest.raises(ChannelClosed):
        future.result(timeout=10)
    with pytest.raises(ChannelClosed):
        client.send(ASK)


def test_refusal_that_comes_while_the_client_closes_keeps_no_thread() -> None:
    closing = threading.Event()

    def connect() -> Channel:
        assert closing.wait(10)
        raise LoginRefused("nobody answered")

    StoreClient(connect, on_close=closing.set).close()  # a fixture looks for what is left behind


def test_callback_may_close_the_client(make: Make, other: OtherSide) -> None:
    client = make()
    closed = threading.Event()

    def close(_: object) -> None:
        client.close()
        closed.set()

    client.send(ASK).add_done_callback(close)
    link = other.accept()
    link.reply(link.request()[0], Done())
    assert closed.wait(10)


def test_sending_does_not_wait_for_a_side_that_does_not_read(make: Make, other: OtherSide) -> None:
    client = make()
    link = other.accept()
    futures = [client.send(SnapshotStore("x" * 1_000_000)) for _ in range(8)]
    assert not any(future.done() for future in futures)
    for _ in futures:
        link.reply(link.request()[0], Done())
    assert [future.result(timeout=10) for future in futures] == [Done()] * 8


def test_heartbeat_overtakes_results_that_wait_for_a_slow_link(make: Make, other: OtherSide) -> None:
    client = make()
    link = other.accept()
    result = Result(TaskId(1), 1, Cause.EXIT, 0, stdout=bytes(100_000))
    results = [client.send(Finish(PilotId(1), (result,))) for _ in range(6)]
    first = [link.request() for _ in range(2)]
    beat = client.send(Heartbeat(PilotId(1)))
    number, request = link.request()
    assert isinstance(request, Heartbeat)
    link.reply(number, Orders(1, 60.0))
    assert beat.result(timeout=10).number == 1
    for number, request in first:
        assert isinstance(request, Finish)
        link.reply(number, Finished(1))
    for _ in range(4):
        number, _ = link.request()
        link.reply(number, Finished(1))
    assert {future.result(timeout=10).recorded for future in results} == {1}


def test_side_that_takes_what_is_written_is_alive(
    make: Make, other: OtherSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime()
    monkeypatch.setattr(client_module, "time", clock)
    client = make()
    link = other.accept()
    future = client.send(ASK)
    number, _ = link.request()
    for _ in range(5):
        other.channels[-1].taken += 1
        clock.now += 100.0
        wait_until(lambda: client._moved_to == other.channels[-1].taken)
    assert client.connected
    link.reply(number, Done())
    assert future.result(timeout=10) == Done()


def test_many_threads_share_a_client(make: Make, other: OtherSide) -> None:
    client = make()
    link = other.accept()
    answers: list[Done] = []
    threads = [threading.Thread(target=lambda: answers.extend(client.call(ASK) for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        link.reply(link.request()[0], Done())
    for thread in threads:
        thread.join(10)
    assert answers == [Done()] * 200
