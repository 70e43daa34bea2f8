"""Copies files to another host through SFTP."""

from types import TracebackType
from typing import Protocol

import paramiko  # type: ignore[import-untyped]

from pilotmtc.errors import ChannelClosed, ConnectError
from pilotmtc.transport.process import ProcessChannel

_SILENCE_S = 60.0


class SftpStream(Protocol):
    """The stream that SFTP uses."""

    def send(self, data: bytes, /) -> int:
        """Write some of the data; return how much."""
        ...

    def recv(self, n: int, /) -> bytes:
        """Return the next data; nothing at the end."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


_TROUBLE = (paramiko.SSHException, paramiko.SFTPError, ChannelClosed, EOFError, OSError)


def _client(stream: SftpStream, silence_s: float) -> "paramiko.SFTPClient":
    """Return a client for the SFTP server at the other end of `stream`, which may be silent for a limited time."""
    if isinstance(stream, paramiko.Channel):
        stream.settimeout(silence_s)
    return paramiko.SFTPClient(stream)


class SftpFiles:
    """Copies files to a host over a stream to its SFTP server. Relative paths start in the home directory."""

    def __init__(self, stream: SftpStream, host: str) -> None:
        self._host = host
        try:
            self._client = _client(stream, _SILENCE_S)
        except _TROUBLE as error:
            stream.close()
            raise ConnectError(f"{host} offers no SFTP: {error or 'it has hung up'}; ask the site for it") from error

    def __enter__(self) -> "SftpFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def put(self, local: str, remote: str) -> None:
        """Copy a file; it appears there only when it is complete.

        Raises
        ------
        ConnectError
            If it cannot be copied.
        """
        head, _, name = remote.rpartition("/")
        part = f"{head}/.{name}.part"
        try:
            self._client.put(local, part)  # it compares the sizes
            self._client.posix_rename(part, remote)
        except _TROUBLE as error:
            raise ConnectError(f"{remote} does not get to {self._host}: {error or 'it has hung up'}") from error


class ProcessStream:
    """The stdin and stdout of a child process, as a connection for paramiko."""

    def __init__(self, process: ProcessChannel) -> None:
        self._process = process

    def send(self, data: bytes) -> int:
        """Write all of the data."""
        self._process.write(data)
        return len(data)

    def recv(self, n: int) -> bytes:
        """Return the next data; nothing at the end."""
        return self._process.read(n)

    def close(self) -> None:
        """Close it."""
        self._process.close()
