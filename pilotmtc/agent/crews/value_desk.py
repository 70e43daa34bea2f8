"""Values for workers that have not the pilot's directory: parts of them go out, and those of results come in."""

import logging
import os
from pathlib import Path

from pilotmtc.protocol.values import GetValue, PutValue, ValuePart

_log = logging.getLogger("pilotmtc.agent")


class _Incoming:
    """A result of which so much has come."""

    __slots__ = ("fd", "path", "received")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.received = 0


class ValueDesk:
    """Hands out and takes in parts of values.

    Parameters
    ----------
    directory
        Where the values are; it is there before the first of them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming: dict[tuple[int, str], _Incoming] = {}  # by the worker's birth and the digest

    def part(self, ask: GetValue) -> ValuePart:
        """Return a part of a value; it is said not to be found if it cannot be read."""
        try:
            with (self._directory / ask.digest).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return ValuePart(True, size, os.pread(file.fileno(), ask.limit, ask.offset))
        except OSError as error:
            _log.error("a value cannot be sent to a node: %s: %s", error.filename, error.strerror)
            return ValuePart(False)

    def take(self, birth: int, put: PutValue) -> int:
        """Take a part of a value; return how much is there, below 0 if the value cannot be kept.

        The worker checks no digest and neither does this: the store will.
        """
        key = birth, put.digest
        path = self._directory / put.digest
        try:
            incoming = self._incoming.get(key)
            if incoming is None:
                if path.exists() and path.stat().st_size == put.size:
                    return put.size
                incoming = self._incoming[key] = _Incoming(self._directory / f".{put.digest}.{birth}")
            if put.offset == incoming.received:
                left = memoryview(put.data)
                while left:
                    written = os.pwrite(incoming.fd, left, incoming.received)
                    left = left[written:]
                    incoming.received += written
            if incoming.received == put.size:
                os.rename(incoming.path, path)
                self._drop(key)
                return put.size
        except OSError as error:
            _log.error("a result cannot be kept in %s: %s", self._directory, error.strerror)
            self._drop(key)
            return -1
        return incoming.received

    def forget(self, birth: int) -> None:
        """Remove what a lost worker has sent in part."""
        for key in [key for key in self._incoming if key[0] == birth]:
            self._drop(key)

    def close(self) -> None:
        """Close what is open."""
        for key in list(self._incoming):
            self._drop(key)

    def _drop(self, key: tuple[int, str]) -> None:
        incoming = self._incoming.pop(key, None)
        if incoming is not None:
            os.close(incoming.fd)
            incoming.path.unlink(missing_ok=True)
