"""Files to another host."""

from types import TracebackType
from typing import Protocol

import paramiko  # type: ignore[import-untyped]

from pilotmtc.errors import ChannelClosed, ConnectError
from pilotmtc.transport.process import ProcessChannel

_SILENCE_S = 60.0


class SftpStream(Protocol):
    """What SFTP is spoken on."""

    def send(self, data: bytes, /) -> int:
        """Write some of it; return how much."""
        ...

    def recv(self, n: int, /) -> bytes:
        """Return what comes next; nothing at the end."""
        ...

    def close(self) -> None:
        """End it."""
        ...


_TROUBLE = (paramiko.SSHException, paramiko.SFTPError, ChannelClosed, EOFError, OSError)


def _client(stream: SftpStream, silence_s: float) -> "paramiko.SFTPClient":
    """Return a client for the SFTP server on the other end of `stream`, which may be silent for so long."""
    if isinstance(stream, paramiko.Channel):
        stream.settimeout(silence_s)
    return paramiko.SFTPClient(stream)


class SftpFiles:
    """Puts files on a host through SFTP, over a stream that its server speaks on. Relative paths are in the home."""

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
        """Copy a file; the one there is whole or not there at all.

        Raises
        ------
        ConnectError
            If it does not arrive.
        """
        head, _, name = remote.rpartition("/")
        part = f"{head}/.{name}.part"
        try:
            self._client.put(local, part)  # which compares the sizes
            self._client.posix_rename(part, remote)
        except _TROUBLE as error:
            raise ConnectError(f"{remote} does not get to {self._host}: {error or 'it has hung up'}") from error


class ProcessStream:
    """The stdin and stdout of a child, as paramiko wants a connection to be."""

    def __init__(self, process: ProcessChannel) -> None:
        self._process = process

    def send(self, data: bytes) -> int:
        """Write all of it."""
        self._process.write(data)
        return len(data)

    def recv(self, n: int) -> bytes:
        """Return what comes next; nothing at the end."""
        return self._process.read(n)

    def close(self) -> None:
        """End it."""
        self._process.close()
