"""`Channel`: the interface of a connection that carries frames."""

from typing import Protocol


class Channel(Protocol):
    """An open connection. One thread reads, one writes, any thread may close."""

    def read(self, n: int) -> bytes:
        """Wait for data; return one to `n` bytes, or ``b""`` at the end.

        It also returns when another thread calls `close`.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`; return when it is in the operating system's buffers.

        Raises
        ------
        ChannelClosed
            If either side has closed the connection.
        """
        ...

    def moved(self) -> int:
        """Return a number that changes whenever the other side has received some of the written data."""
        ...

    def close(self) -> None:
        """Close the connection, and end programs that were started for it, within a few seconds. Safe to repeat."""
        ...

    def last_words(self) -> str:
        """Return the end of the other side's messages (such as stderr), for error messages."""
        ...
