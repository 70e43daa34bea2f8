"""A client of the store's server: its descriptors, and its unread and unsent data. It never blocks."""

import contextlib
import os
import select
import socket
import stat

from pilotmtc.errors import PilotMTCError, ProtocolError
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import Reply
from pilotmtc.protocol.frames import FrameDecoder, append_reply
from pilotmtc.store.server.permissions import PeerIdentity

READ_BYTES = 256 << 10
# The server does not read from a client that does not read its answers.
HIGH_WATER_BYTES = 4 << 20
MOST_IN_THREAD = 2  # each may hold a part of a value


class Peer:
    """A client.

    Parameters
    ----------
    number
        Its number in the log.
    who
        Its identity.
    control
        The socket to the waiting `serve`.
    source, sink
        Its stdin and stdout.
    epoll
        The epoll object that watches them.
    """

    def __init__(
        self,
        number: int,
        who: PeerIdentity,
        control: socket.socket,
        *,
        source: int,
        sink: int,
        epoll: select.epoll,
        now: float,
    ) -> None:
        for fd in (source, sink):
            mode = os.fstat(fd).st_mode
            if not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
                raise ProtocolError("serve needs a pipe or a socket as its stdin and stdout")
            os.set_blocking(fd, False)
        self.number = number
        self.who = who
        self.control = control
        self.source = source
        self.sink = sink
        self.decoder = FrameDecoder(chatter_bytes=0)
        self.software = ""  # empty until its greeting has come
        self.closed = False
        self.since = now
        self.moved_at = now  # when it last took some data
        self.heard_at = now  # when data last came from it
        self.pilot: PilotId | None = None  # the pilot whose agent it is
        self.in_thread = 0  # number of its requests that a thread performs now
        self._out = bytearray()
        self._epoll = epoll
        self.writing = False  # whether its sink is watched, because data waits
        self._reading = True
        epoll.register(source, select.EPOLLIN)

    @property
    def full(self) -> bool:
        """Whether too much of its work is in progress, or too many answers wait, to read more of its requests."""
        return len(self._out) >= HIGH_WATER_BYTES or self.held_up

    @property
    def held_up(self) -> bool:
        """Whether it is not listened to because the server has not yet done what it has asked for."""
        return self.in_thread >= MOST_IN_THREAD

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that wait for it."""
        return len(self._out)

    def read(self, now: float) -> bool:
        """Read what it has sent; return whether it is still connected."""
        try:
            data = os.read(self.source, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # reset
            return False
        self.heard_at = now
        self.decoder.feed(data)
        return bool(data)

    def say(self, data: bytes) -> None:
        """Send `data` unchanged."""
        self._out += data

    def answer(self, number: int, reply: Reply | PilotMTCError) -> None:
        """Send a reply or a failure."""
        append_reply(self._out, number, reply)

    def flush(self, now: float) -> bool:
        """Send as much as it takes; return whether it is still connected."""
        try:
            while self._out:
                with memoryview(self._out) as view:
                    sent = os.write(self.sink, view[: 1 << 20])
                del self._out[:sent]
                self.moved_at = now
        except BlockingIOError:
            pass
        except OSError:  # it has gone
            return False
        if bool(self._out) != self.writing:
            self.writing = not self.writing
            if self.writing:
                self.moved_at = now
                self._epoll.register(self.sink, select.EPOLLOUT)
            else:
                self._epoll.unregister(self.sink)
        return True

    def listen(self, wanted: bool) -> None:
        """Start or stop reading from it."""
        if wanted != self._reading:
            self._reading = wanted
            self._epoll.modify(self.source, select.EPOLLIN if wanted else 0)

    def close(self) -> None:
        """Close its descriptors, so that its `serve` exits."""
        if self.closed:
            return
        self.closed = True
        for fd in (self.source, self.sink):
            with contextlib.suppress(OSError):  # the sink is watched only while data waits
                self._epoll.unregister(fd)
            os.close(fd)
        with contextlib.suppress(OSError):
            self._epoll.unregister(self.control)
        self.control.close()
        self._out.clear()
