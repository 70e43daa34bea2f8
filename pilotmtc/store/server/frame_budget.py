"""Limits the memory for messages that have arrived only in part. Pure."""

from collections.abc import Iterator
from typing import Generic, TypeVar

ROOM_BYTES = 64 << 20  # for all messages together: two of the largest size
SMALL_BYTES = 256 << 10  # a message that fits in one read needs no permission

P = TypeVar("P")  # the sender


class FrameBudget(Generic[P]):
    """Admits senders of large messages, first come, first served, while there is memory for their whole message."""

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self._left = size
        self._given: dict[P, int] = {}
        self._waiting: dict[P, None] = {}  # in order of arrival

    @property
    def full(self) -> bool:
        """Whether a sender waits."""
        return bool(self._waiting)

    def admit(self, sender: P, size: int) -> bool:
        """Return whether to read more of a message of `size` bytes; 0: no message is incomplete."""
        if size <= SMALL_BYTES:
            self.leave(sender)
            return True
        if sender in self._given:
            return True
        others_first = self._waiting and next(iter(self._waiting)) is not sender
        if others_first or (size > self._left and self._given):
            self._waiting[sender] = None
            return False
        self._waiting.pop(sender, None)
        self._given[sender] = size
        self._left -= size
        return True

    def leave(self, sender: P) -> None:
        """Release the memory of a sender whose message has arrived or never will."""
        self._left += self._given.pop(sender, 0)
        self._waiting.pop(sender, None)

    def holders(self) -> list[P]:
        """Return the senders that were admitted."""
        return list(self._given)

    def waiting(self) -> Iterator[P]:
        """Yield waiting senders in order, each one after the previous one was admitted."""
        before: P | None = None
        while self._waiting:
            first = next(iter(self._waiting))
            if first is before:
                return
            before = first
            yield first
