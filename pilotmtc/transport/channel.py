"""What carries frames: a stream of bytes each way."""

from typing import Protocol


class Channel(Protocol):
    """An open connection to the other side. One thread reads, one writes, any may close."""

    def read(self, n: int) -> bytes:
        """Return what has come, at least one and at most `n` bytes; wait for it; ``b""`` is the end.

        A `close` by another thread ends the waiting.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`; wait until the last of it is under way.

        Raises
        ------
        ChannelClosed
            If the other side, or this one, has closed.
        """
        ...

    def moved(self) -> int:
        """Return a number that changes whenever the other side has taken something of what was written."""
        ...

    def close(self) -> None:
        """End it, and what was started for it, within a few seconds. Safe to repeat."""
        ...

    def last_words(self) -> str:
        """Return the end of what the other side said beside the stream, for error messages."""
        ...
