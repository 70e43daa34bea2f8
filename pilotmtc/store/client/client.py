"""`StoreClient`: the client of a store's server."""

import concurrent.futures
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, cast

from pilotmtc import __version__
from pilotmtc.errors import (
    ChannelClosed,
    ConnectError,
    PilotMTCError,
    ProtocolError,
    StoreMoved,
    TransportError,
    UsageError,
)
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import R, Request
from pilotmtc.protocol.frames import (
    FrameDecoder,
    Ping,
    decode_greeting,
    decode_reply,
    encode_greeting,
    encode_request,
    split_reply,
)
from pilotmtc.protocol.registry import REPLIES, AnyRequest
from pilotmtc.store.client.send_queue import SendQueue
from pilotmtc.store.serve import WAITING
from pilotmtc.transport.channel import Channel

log = logging.getLogger(__name__)

_READ_BYTES = 64 << 10  # less than what malloc maps and unmaps each time
_GREETING_TIMEOUT_S = 45.0  # longer than the 30 s after which serve reports a server that does not start
_PING_AFTER_S = 15.0  # without any data in either direction while answers are due
_DEAD_AFTER_S = 120.0
_BACKOFF_S = 0.02
_BACKOFF_MAX_S = 5.0
_JOIN_S = 10.0
_SAY_EVERY_S = 15.0


class _Call:
    """A request without an answer so far."""

    __slots__ = ("bulky", "expires_at", "frame", "future", "kind", "name", "sent_at")

    def __init__(self, request: AnyRequest, number: int, timeout_s: float | None) -> None:
        self.name = type(request).__name__
        self.kind = REPLIES[type(request)]
        self.bulky = request.handling.bulky
        self.frame = encode_request(number, request)  # kept to be sent again, until the request is answered
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.future.set_running_or_notify_cancel()  # it may have been sent already, so it cannot be canceled
        self.sent_at = time.monotonic()
        self.expires_at = None if timeout_s is None else self.sent_at + timeout_s


class StoreClient:
    """A `Store` at the other end of a channel. Threads may share it.

    It connects by itself, reconnects when the connection breaks, and sends unanswered requests again: every request is
    safe to repeat. One thread reads; another one writes and checks timeouts; `close` ends both.

    Parameters
    ----------
    connect
        Opens a channel.
    again
        Opens a channel after the first one; default: `connect`.
    patience_s
        After this time without a connection, requests fail with `ConnectError`; None: never.
    on_close
        Releases what `connect` uses, even while it is connecting.
    follow
        Opens a channel to the host that the store has moved to. When that channel ends, `connect` is used again.
    pilot
        Be the agent of this pilot: the server then accepts only what this agent may send.
    in_child
        Makes new connectors for a forked child that uses the client; None: a child cannot use it.
    """

    def __init__(
        self,
        connect: Callable[[], Channel],
        again: Callable[[], Channel] | None = None,
        *,
        patience_s: float | None = 60.0,
        on_close: Callable[[], None] | None = None,
        follow: Callable[[StoreMoved], Channel] | None = None,
        pilot: PilotId | None = None,
        in_child: "Callable[[], Connectors] | None" = None,
    ) -> None:
        self._again = again or connect  # a store that existed must not be created again
        self._pilot = pilot
        self._patience_s = patience_s
        self._in_child = in_child
        self._wake = threading.Condition()  # guards everything that `_begin` makes; wakes the writer
        self._inherited = False  # this is a forked child, which must not use its parent's connection
        self._begin(Connectors(connect, follow, on_close))
        _clients.add(self)

    def _begin(self, connectors: "Connectors") -> None:
        self._connect, self._follow, self._on_close = connectors
        self._moved: StoreMoved | None = None  # the host of the last attempt
        self._number = 0
        self._calls: dict[int, _Call] = {}  # unanswered, in the order of their numbers
        self._queue = SendQueue()  # what to write on this connection
        self._moved_to = 0  # the last value of the channel's `moved`
        self._channel: Channel | None = None
        self._linked = False  # greetings were exchanged
        self._down_since = time.monotonic()
        self._heard_at = 0.0
        self._pinged = False
        self._opened_at = 0.0
        self._said_at = -_SAY_EVERY_S
        self._trouble = ""
        self._check_at = math.inf  # no request expires earlier
        self._closed = threading.Event()
        self._more = threading.Event()  # a request waits for a connection
        self._threads = [
            threading.Thread(target=self._keep_link, name="store-link", daemon=True),
            threading.Thread(target=self._keep_time, name="store-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # -- for everybody ----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._linked

    @property
    def trouble(self) -> str:
        """Why there is no connection now; empty if there is one, and before the first attempt has failed."""
        return "" if self._linked else self._trouble

    def call(self, request: Request[R], timeout_s: float | None = None) -> R:
        """Send `request`, wait for the reply and return it.

        Raises
        ------
        PilotMTCError
            The server's error; or `ConnectError` without a connection for `patience_s`, or without an answer within
            `timeout_s`.
        """
        return self.send(request, timeout_s).result()

    def send(self, request: Request[R], timeout_s: float | None = None) -> "concurrent.futures.Future[R]":
        """Send `request` without waiting; return a future with what `call` would return or raise.

        Callbacks of the future run in the client's threads and must be brief.
        """
        with self._wake:
            if self._closed.is_set():
                raise ChannelClosed("this connection to the store was closed")
            if self._inherited:
                self._begin_in_child()
            self._number += 1
            call = _Call(cast("AnyRequest", request), self._number, timeout_s)
            self._calls[self._number] = call
            self._check_at = min(self._check_at, self._expiry(call))
            if self._linked:
                self._queue.put(call)
            self._more.set()
            self._wake.notify()
        return call.future

    def _begin_in_child(self) -> None:
        """Start again in a forked process, which lacks the parent's threads and must not use its stream."""
        if self._in_child is None:
            raise UsageError(
                "this connection to a store on another host was made before a fork: make a session in the process "
                "that uses it, or start processes with multiprocessing's 'spawn'"
            )
        self._inherited = False
        self._begin(self._in_child())

    def close(self) -> None:
        """End the connection and both threads. Unanswered requests fail with `ChannelClosed`. Safe to repeat."""
        if self._inherited:  # it belongs to the parent
            self._closed.set()
            return
        with self._wake:
            self._closed.set()
            self._more.set()
            self._wake.notify_all()
            channel = self._channel
        if channel is not None:
            channel.close()
        if self._on_close is not None:
            self._on_close()
        for thread in self._threads:
            if thread is not threading.current_thread():  # the callback of a future may close the client
                thread.join(_JOIN_S)
        self._fail_all(ChannelClosed("this connection to the store was closed"))

    def __enter__(self) -> "StoreClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the link ---------------------------------------------------------------------------------------------

    def _keep_link(self) -> None:
        backoff_s = 0.0
        while not self._closed.is_set():
            answered = refused = False
            try:
                channel = self._open()
            except PilotMTCError as error:
                self._failed_to_link(error)
                refused = not error.transient
            else:
                answered = self._read(channel)
            # A connection with answers is good. After one without, the pause grows: a server that dies with each
            # request must not be started a hundred times per second.
            backoff_s = _BACKOFF_S if answered else min(max(2 * backoff_s, _BACKOFF_S), _BACKOFF_MAX_S)
            import random

            self._closed.wait(backoff_s * random.uniform(0.5, 1.0))
            while refused and not self._more.wait(60.0):
                pass  # there is no need to reconnect before the next request

    def _failed_to_link(self, error: PilotMTCError) -> None:
        log.debug("no link to the store: %s", error)
        with self._wake:
            if self._follow is None or not isinstance(error, StoreMoved):  # the host to try now
                self._trouble = str(error)
            if not self._closed.is_set():
                self._more.clear()
            if not error.transient:
                failed = self._take_calls()
            elif self._calls:
                self._more.set()
        if not error.transient:
            for call in failed:
                call.future.set_exception(_copy(error))

    def _open(self) -> Channel:
        """Open a channel and exchange greetings."""
        moved, self._moved = self._moved, None
        channel = self._connect() if moved is None or self._follow is None else self._follow(moved)
        with self._wake:
            self._channel = channel
            self._opened_at = time.monotonic()
            self._decoder = FrameDecoder()
            closed = self._closed.is_set()
        try:
            if closed:
                raise ChannelClosed("this connection to the store was closed")
            channel.write(encode_greeting(__version__, self._pilot))
            while (frame := self._decoder.next_frame()) is None:
                data = channel.read(_READ_BYTES)
                if not data:
                    raise ConnectError(self._no_greeting(channel))
                self._decoder.feed(data)
                self._note_waiting(data)
            decode_greeting(frame)
        except PilotMTCError as error:
            with self._wake:
                self._channel = None
            if isinstance(error, ChannelClosed) and (words := channel.last_words()):
                error = ConnectError(f"the store's server did not answer: {words}")
            channel.close()
            self._moved = error if isinstance(error, StoreMoved) else None
            raise error
        self._connect = self._again
        with self._wake:
            self._heard_at = time.monotonic()
            self._pinged = False
            self._queue.begin(self._calls.values())
            self._linked = True
            self._wake.notify()
        return channel

    def _note_waiting(self, data: bytes) -> None:
        """Note that the other side says why it waits, which does not count as time without a connection."""
        _, mark, words = data.decode("utf-8", "replace").rpartition(WAITING)
        if not mark:
            return
        words = words.partition("\n")[0].strip()  # the greeting may have come in the same read
        self._decoder.forget_chatter()
        with self._wake:
            self._opened_at = self._down_since = now = time.monotonic()
            self._trouble = words
            say = now - self._said_at >= _SAY_EVERY_S
            if say:
                self._said_at = now
        if say:
            log.warning("waiting: %s", words)

    def _no_greeting(self, channel: Channel) -> str:
        said = "\n".join(filter(None, (self._decoder.chatter(), channel.last_words())))
        return f"the store's server did not answer: {said or 'the connection ended without a message'}"

    def _read(self, channel: Channel) -> bool:
        """Receive replies until the connection ends; return whether there was any."""
        answered = False
        decoder = self._decoder
        trouble: PilotMTCError = ChannelClosed("the connection to the store's server has ended")
        try:
            while True:
                while (frame := decoder.next_frame()) is not None:
                    answered = self._on_frame(frame) or answered
                data = channel.read(_READ_BYTES)
                if not data:
                    break
                self._heard_at = time.monotonic()
                self._pinged = False
                decoder.feed(data)
        except PilotMTCError as error:
            trouble = error
        with self._wake:
            self._linked = False
            self._channel = None
            self._queue.clear()
            self._down_since = time.monotonic()
            self._trouble = str(trouble)
            self._check_at = self._down_since  # the time of `patience_s` starts
            self._wake.notify()
        channel.close()
        if not trouble.transient:
            self._fail_all(trouble)
        return answered

    def _on_frame(self, frame: bytes) -> bool:
        number, reply = split_reply(frame)
        if number == 0:
            if isinstance(reply, PilotMTCError):
                raise reply
            return False  # the answer to a ping
        with self._wake:
            call = self._calls.pop(number, None)
            if call is not None and call.bulky:
                self._queue.over(call, time.monotonic())
                self._wake.notify()
        if call is None:  # its caller has given up
            return True
        if isinstance(reply, PilotMTCError):
            call.future.set_exception(reply)
            return True
        try:
            answer = decode_reply(reply, call.kind)
        except ProtocolError as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(answer)
        return True

    # -- writing, and the time --------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        while not self._closed.is_set():
            with self._wake:
                now = time.monotonic()
                expired = self._take_expired(now)
                channel = self._channel
                hung = self._hung(now)
                data = b"" if hung or not self._linked else self._queue.take(now)
                if not (data or expired or hung):
                    self._wake.wait(self._pause(now))
                    continue
            for call, error in expired:
                call.future.set_exception(error)
            if channel is None:
                continue
            if hung:
                log.warning("the store's server does not answer; connecting anew")
                channel.close()
            elif data:
                try:
                    channel.write(data)
                except TransportError:
                    channel.close()  # the reader notices it and reconnects

    def _take_expired(self, now: float) -> list[tuple[_Call, PilotMTCError]]:
        expired: list[tuple[_Call, PilotMTCError]] = []
        if now < self._check_at:
            return expired
        for number, call in list(self._calls.items()):
            if now < self._expiry(call):
                continue
            timed_out = call.expires_at is not None and now >= call.expires_at
            waited = call.expires_at - call.sent_at if timed_out and call.expires_at else self._patience_s
            if timed_out and self._linked:
                words = f"the store's server has not answered {call.name} for {waited:.3g} s"
            else:
                words = f"no connection to the store for {waited:.3g} s: {self._trouble or 'still connecting'}"
            del self._calls[number]
            self._queue.over(call, now)
            expired.append((call, ConnectError(words)))
        self._check_at = min(map(self._expiry, self._calls.values()), default=math.inf)
        return expired

    def _expiry(self, call: _Call) -> float:
        at = math.inf if call.expires_at is None else call.expires_at
        if self._patience_s is not None and not self._linked:
            at = min(at, max(self._down_since, call.sent_at) + self._patience_s)
        return at

    def _hung(self, now: float) -> bool:
        """Return whether the connection is dead; ping the server if it has been silent for long."""
        if self._channel is None:
            return False
        if not self._linked:
            return now - self._opened_at > _GREETING_TIMEOUT_S
        if not self._calls:
            self._heard_at = now  # no answer is due
            return False
        if (moved := self._channel.moved()) != self._moved_to:  # a large message may take long
            self._moved_to = moved
            self._heard_at = now
        if now - self._heard_at > _DEAD_AFTER_S:
            return True
        if now - self._heard_at > _PING_AFTER_S and not self._pinged:
            self._pinged = True
            self._queue.put_frame(encode_request(0, Ping()))
        return False

    def _pause(self, now: float) -> float:
        """Return how long to wait for the next event."""
        pause = min(60.0, self._check_at - now)
        if self._channel is not None and (self._calls or not self._linked):
            pause = min(pause, 5.0)
        return max(pause, 0.001)

    # -- ends -------------------------------------------------------------------------------------------------

    def _take_calls(self) -> list[_Call]:
        calls = list(self._calls.values())
        self._calls.clear()
        self._queue.clear()
        return calls

    def _fail_all(self, error: PilotMTCError) -> None:
        with self._wake:
            calls = self._take_calls()
        for call in calls:
            call.future.set_exception(_copy(error))


class Connectors(NamedTuple):
    """How a client opens channels, and how it releases what they use; see `StoreClient`."""

    connect: Callable[[], Channel]
    follow: Callable[[StoreMoved], Channel] | None = None
    on_close: Callable[[], None] | None = None


_clients: "weakref.WeakSet[StoreClient]" = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._inherited = True
        client._linked = False
        client._wake = threading.Condition()  # a thread of the parent may hold the old one
        client._closed = _event(client._closed.is_set())


def _event(is_set: bool) -> threading.Event:
    event = threading.Event()
    if is_set:
        event.set()
    return event


os.register_at_fork(after_in_child=_after_fork)


def _copy(error: PilotMTCError) -> PilotMTCError:
    # An object that is raised in several threads would collect the tracebacks of all.
    return type(error)(*error.args)
