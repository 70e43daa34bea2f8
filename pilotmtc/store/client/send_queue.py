"""The order in which a client sends its requests. Pure: time is an argument.

Results may be large and connections slow. So results give way to all other requests, and only as many of them are sent
ahead as arrive within a moment: otherwise heartbeats and claims would wait behind data in the connection's buffers.
"""

import collections
from collections.abc import Iterable
from typing import Protocol

WINDOW_BYTES = (64 << 10, 256 << 10, 16 << 20)  # smallest, first and largest amount that is sent ahead
_SWIFT_S = 0.5  # after an answer within this time, send more at once
_SLOW_S = 2.0  # after an answer that took longer, send less at once
_WRITE_BYTES = 1 << 20


class QueuedCall(Protocol):
    """A request to send; `bulky` requests let others go first."""

    @property
    def frame(self) -> bytes: ...  # noqa: D102
    @property
    def bulky(self) -> bool: ...  # noqa: D102


class SendQueue:
    """What to write on a connection."""

    def __init__(self) -> None:
        self._first: collections.deque[bytes] = collections.deque()
        self._bulky: collections.deque[QueuedCall] = collections.deque()
        self._under_way: dict[QueuedCall, float] = {}  # since when each request has been sent
        self._bytes = 0
        self.window = WINDOW_BYTES[1]

    def put(self, call: QueuedCall) -> None:
        """Add a request."""
        if call.bulky:
            self._bulky.append(call)
        else:
            self._first.append(call.frame)

    def put_frame(self, frame: bytes) -> None:
        """Add a frame that gets no reply."""
        self._first.append(frame)

    def begin(self, calls: Iterable[QueuedCall]) -> None:
        """Start again on a new connection, with all of `calls`."""
        self.clear()
        for call in calls:
            self.put(call)

    def clear(self) -> None:
        """Forget everything: the connection has ended."""
        self._first.clear()
        self._bulky.clear()
        self._under_way.clear()
        self._bytes = 0

    def take(self, now: float) -> bytes:
        """Return what to write next; empty if replies must come first."""
        frames: list[bytes] = []
        size = 0
        while self._first and size < _WRITE_BYTES:
            frames.append(self._first.popleft())
            size += len(frames[-1])
        if frames:
            return b"".join(frames) if len(frames) > 1 else frames[0]
        if not self._bulky or (self._under_way and self._bytes + len(self._bulky[0].frame) > self.window):
            return b""
        call = self._bulky.popleft()
        self._under_way[call] = now
        self._bytes += len(call.frame)
        return call.frame

    def over(self, call: QueuedCall, now: float) -> None:
        """Note that a request was answered or given up."""
        since = self._under_way.pop(call, None)
        if since is None:
            return
        self._bytes -= len(call.frame)
        if now - since > _SLOW_S:
            self.window = max(WINDOW_BYTES[0], self.window // 2)
        elif now - since < _SWIFT_S and self._bulky:
            self.window = min(WINDOW_BYTES[2], self.window * 2)
