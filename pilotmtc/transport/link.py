"""Interfaces of a connection to another host: the link, and the channels on it."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from pilotmtc.transport.channel import Channel

# Asks a person: the prompts, and for each whether what is typed may be seen. Returns one answer for each prompt.
Ask = Callable[[Sequence[str], Sequence[bool]], Sequence[str]]


class CommandChannel(Channel, Protocol):
    """The stdin and stdout of a command on the other host."""

    def exit_status(self, wait_s: float) -> int | None:
        """Return how the command ended; None if that is not known within `wait_s`."""
        ...


class Files(Protocol):
    """The files of the other host; a context manager."""

    def __enter__(self) -> "Files": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put(self, local: str, remote: str) -> None:
        """Copy a file; the one there is whole or not there at all.

        Raises
        ------
        ConnectError
            If it does not arrive.
        """
        ...


class HostLink(Protocol):
    """A connection to a host, opened when it is first needed. Threads may share it."""

    def connect(self) -> None:
        """Open the connection if it is not open; `open` does it, too.

        Raises
        ------
        ConnectError
            If the host cannot be reached; `LoginRefused` if it does not let the user in.
        """
        ...

    def open(self, command: str) -> CommandChannel:
        """Start `command` in the user's login shell there.

        Raises
        ------
        ConnectError
            If the host cannot be reached; `LoginRefused` if it does not let the user in.
        """
        ...

    def files(self) -> Files:
        """Start the host's SFTP server.

        Raises
        ------
        ConnectError
            If the host cannot be reached or has none.
        """
        ...

    def close(self) -> None:
        """End it and all channels on it. Safe to repeat."""
        ...
