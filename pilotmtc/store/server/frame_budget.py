"""Limits the memory for messages that have arrived only in part. Pure: no I/O."""

from collections.abc import Iterator
from typing import Generic, TypeVar

ROOM_BYTES = 64 << 20  # for all messages together: two of the largest
SMALL_BYTES = 256 << 10  # a message of one read at most needs no permission

P = TypeVar("P")  # whoever sends


class FrameBudget(Generic[P]):
    """Lets senders send large messages, first come, first served, while there is memory for the whole message."""

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self._left = size
        self._given: dict[P, int] = {}
        self._waiting: dict[P, None] = {}  # in order of arrival

    @property
    def full(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def admit(self, sender: P, size: int) -> bool:
        """Return whether to read more of a message of `size` bytes; 0: no message is unfinished."""
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
        """Take memory back from a sender whose message has arrived, or never will."""
        self._left += self._given.pop(sender, 0)
        self._waiting.pop(sender, None)

    def holders(self) -> list[P]:
        """Return those that are sending large messages."""
        return list(self._given)

    def waiting(self) -> Iterator[P]:
        """Yield those that wait, in order, each after the one before was admitted."""
        before: P | None = None
        while self._waiting:
            first = next(iter(self._waiting))
            if first is before:
                return
            before = first
            yield first
