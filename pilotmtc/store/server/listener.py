"""The lock that makes a store's server the only one, and the socket on which `serve` finds it."""

import contextlib
import fcntl
import os
import socket

from pilotmtc.errors import ConfigError, StoreBusy
from pilotmtc.store.location import socket_path
from pilotmtc.store.serve import within_reach
from pilotmtc.system import private_files


class ServerLock:
    """The lock of a store's server. Its file, beside the store, says on which socket the server listens.

    Raises
    ------
    StoreBusy
        If another process has it.
    ConfigError
        If the store's directory cannot be written.
    """

    def __init__(self, store: str) -> None:
        self._path = f"{store}.lock"
        try:
            private_files.make_above(store)
            while True:
                self._fd = private_files.open_file(self._path, os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    owner = os.pread(self._fd, 500, 0).decode("utf-8", "replace").partition(" ")[0]
                    os.close(self._fd)
                    raise StoreBusy(f"process {owner or 'unknown'} serves {store}") from error
                if self.held():
                    break
                os.close(self._fd)  # its last owner removed it after we had opened it
        except OSError as error:
            raise ConfigError(
                f"the store {store} cannot be used: {error.filename or self._path}: {error.strerror}; "
                "choose another place with --store or PILOTMTC_STORE"
            ) from error

    def held(self) -> bool:
        """Return whether the locked file is still the one at its path."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def prove(self) -> None:
        """Do nothing: the kernel guarantees that no other process has the lock."""

    def advertise(self, path: str) -> None:
        """Write the process id and the socket into the file."""
        with contextlib.suppress(OSError):  # a full disk: only `serve` with another runtime directory needs it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()} {path}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        if self.held():
            with contextlib.suppress(OSError):  # for tidiness only: the lock is what counts
                os.unlink(self._path)
        os.close(self._fd)


class Listener:
    """The socket to which `serve` connects. It never blocks."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.socket, self.path = self._bind()

    def _bind(self) -> tuple[socket.socket, str]:
        path = socket_path(self._store)
        ours = f"{path}.{os.getpid()}"
        try:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"cannot listen on {path}: {error.strerror}") from error
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ours)
            with within_reach(ours) as address:
                bound.bind(address)
            os.chmod(ours, 0o600)
            bound.listen(1024)
            bound.setblocking(False)
            os.rename(ours, path)  # replaces, at once, what a killed server may have left
            self._seen = os.lstat(path)
        except OSError as error:
            bound.close()
            raise ConfigError(f"cannot listen on {path}: {error.strerror}") from error
        return bound, path

    def reachable(self) -> bool:
        """Return whether the path still leads to this socket."""
        try:
            there = os.lstat(self.path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (self._seen.st_dev, self._seen.st_ino)

    def hide(self) -> None:
        """Remove the socket's path; waiting connections can still be accepted."""
        if self.reachable():
            os.unlink(self.path)

    def accept(self) -> socket.socket | None:
        """Return the next waiting connection; None if there is none.

        Raises
        ------
        OSError
            If none can be accepted now, for example because no descriptors are left.
        """
        try:
            control, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):  # there is none, or it has gone again
            return None
        control.setblocking(False)
        return control

    def close(self) -> None:
        """Stop listening."""
        self.hide()
        self.socket.close()
