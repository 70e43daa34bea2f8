"""The byte stream below an SSH connection, and the channels on it."""

import contextlib
import socket
import struct
import threading

import paramiko  # type: ignore[import-untyped]

from pilotmtc.errors import ChannelClosed
from pilotmtc.transport.ssh.proxy_command import ProxySocket

_QUOTED_BYTES = 2000
_PIECE_BYTES = 64 << 10
_JOIN_S = 5.0
_KEEPALIVE_BYTES = 4096  # more than all keep-alive requests: only more sent data shows that the other side reads
_TCP_INFO = getattr(socket, "TCP_INFO", 11)
_TCP_INFO_BYTES = 136  # the part of Linux's tcp_info up to the numbers of acknowledged and received bytes


class CountedStream:
    """The byte stream below a connection, which counts data in both directions."""

    def __init__(self, stream: "socket.socket | paramiko.Channel | ProxySocket") -> None:
        self._stream = stream
        self._received = self._sent = 0
        self._first = b""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def recv(self, n: int) -> bytes:
        """Return received data, up to `n` bytes."""
        data = bytes(self._stream.recv(n))
        self._received += len(data)
        if len(self._first) < _QUOTED_BYTES:
            self._first += data[:_QUOTED_BYTES]
        return data

    def send(self, data: bytes) -> int:
        """Send some of `data`; return how much."""
        sent = int(self._stream.send(data))
        self._sent += sent
        return sent

    def before_greeting(self) -> str:
        """Return the first line that the other side sent, if it is not an SSH server's greeting."""
        line = self._first.partition(b"\n")[0]
        return "" if line.startswith(b"SSH-") else line.decode("utf-8", "replace").strip()

    def moved(self) -> int:
        """Return a number that changes whenever data was received, or the other side has received some."""
        # Data may wait in the kernel for minutes although it moves; Linux knows how much was acknowledged.
        if isinstance(self._stream, socket.socket) and self._stream.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # it was closed
                info = self._stream.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
                if len(info) == _TCP_INFO_BYTES:
                    return sum(struct.unpack_from("=QQ", info, _TCP_INFO_BYTES - 16))
        return self._received + self._sent // _KEEPALIVE_BYTES


class SshChannel:
    """A channel to a command's stdin and stdout. Its stderr is always read, so that the command does not block."""

    def __init__(self, channel: "paramiko.Channel", transport: "paramiko.Transport", host: str) -> None:
        self._channel = channel
        self._transport = transport
        self._host = host
        self._said = b""
        self._ended = False
        self._sent = 0
        self._listener = threading.Thread(target=self._listen, name="ssh-stderr", daemon=True)
        self._listener.start()

    def read(self, n: int) -> bytes:
        """See `Channel`."""
        try:
            data = bytes(self._channel.recv(n))
        except (OSError, EOFError):
            data = b""
        self._ended = self._ended or not data
        return data

    def write(self, data: bytes) -> None:
        """See `Channel`."""
        at = 0
        try:
            while at < len(data):
                sent = int(self._channel.send(data[at : at + _PIECE_BYTES]))
                self._sent += sent
                at += sent
                if not sent:
                    raise EOFError("closed")
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._ended = True
            raise ChannelClosed(f"the connection to {self._host} has ended: {error}") from error

    def moved(self) -> int:
        """See `Channel`."""
        # Sent data makes the window smaller; when the other side has read it, the window grows again.
        return self._sent + int(self._channel.out_window_size)

    def close(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # the connection may have ended
            self._channel.close()
        self._listener.join(_JOIN_S)

    def last_words(self) -> str:
        """See `Channel`."""
        if self._ended:  # stdout and stderr end together, but not all of stderr may have been read yet
            self._listener.join(_JOIN_S)
        words = self._said.decode("utf-8", "replace").strip()
        if not words and not self._transport.is_active():
            return f"the SSH connection to {self._host} has ended"
        return words

    def exit_status(self, wait_s: float) -> int | None:
        """See `CommandChannel`."""
        self._channel.status_event.wait(wait_s)
        return int(self._channel.exit_status) if self._channel.exit_status >= 0 else None

    def _listen(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := self._channel.recv_stderr(32 << 10):
                self._said = (self._said + data)[-_QUOTED_BYTES:]
