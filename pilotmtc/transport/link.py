"""Interfaces of a connection to another host: `HostLink`, and the channels on it."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from pilotmtc.transport.channel import Channel

# Asks the user; called with prompts, and whether the answer to each may be shown. Returns an answer for each prompt.
Ask = Callable[[Sequence[str], Sequence[bool]], Sequence[str]]


class CommandChannel(Channel, Protocol):
    """A channel to the stdin and stdout of a command on the other host."""

    def exit_status(self, wait_s: float) -> int | None:
        """Return the command's exit status; None if it is not known within `wait_s`."""
        ...


class Files(Protocol):
    """Copies files to the other host. A context manager."""

    def __enter__(self) -> "Files": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put(self, local: str, remote: str) -> None:
        """Copy a file; it appears there only when it is complete.

        Raises
        ------
        ConnectError
            If it cannot be copied.
        """
        ...


class HostLink(Protocol):
    """A connection to a host, opened at first use. Threads may share it."""

    def connect(self) -> None:
        """Open the connection unless it is open; `open` does so as well.

        Raises
        ------
        ConnectError
            If the host cannot be reached; `LoginRefused` if it refuses the login.
        """
        ...

    def open(self, command: str) -> CommandChannel:
        """Run `command` in the user's login shell there.

        Raises
        ------
        ConnectError
            If the host cannot be reached; `LoginRefused` if it refuses the login.
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
        """Close it, and all channels on it. Safe to repeat."""
        ...
