"""Tests of the store server: a store's path, and a look at the process that serves it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.location import socket_path
from pilotmtc.store.server.loop import Server
from tests.support import children, wait_until


class Place:
    """A store's path, and a look at the process that serves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clients: list[StoreClient] = []

    def client(self, patience_s: float | None = 30.0) -> StoreClient:
        client = connect_store(str(self.path), patience_s=patience_s)
        self._clients.append(client)
        return client

    @property
    def socket(self) -> Path:
        return Path(socket_path(str(self.path)))

    @property
    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.socket.with_suffix(".log").read_text()
        return ""

    def server(self) -> int:
        """Return the server's process id, 0 if there is none."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pid = int(Path(f"{self.path}.lock").read_text().split()[0])
            # Its number may be another process's by now, or this one's, if a test runs a server in a thread.
            if f"pilotmtc.store.server\0{os.path.realpath(self.path)}\0" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return 0

    def serve(self) -> int:
        """Return a serve of this store among the children of this process, 0 if there is none."""
        return next((pid for pid, command in children().items() if f"serve.py {self.path}" in command), 0)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send the server a signal and return its process id, once it is gone."""
        pid = self.server()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, number)
            wait_until(lambda: self.server() != pid)
        return pid

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()

    def clear(self) -> None:
        self.close_clients()
        self.kill(signal.SIGTERM)


@contextlib.contextmanager
def a_place(directory: Path) -> Iterator[Place]:
    """Give a place below `directory`; afterwards its clients are closed, and no descriptor is left open."""
    descriptors = len(os.listdir("/proc/self/fd"))
    place = Place(directory / "data" / "store.db")
    yield place
    place.clear()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@contextlib.contextmanager
def serving_here(place: Place) -> Iterator[Server]:
    """Run the server of a place in a thread of this process; afterwards its clients are closed."""
    server = Server(str(place.path), linger_s=60)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        place.client().send(GetStore())  # wakes it
        thread.join(30)
        assert not thread.is_alive()
        place.close_clients()
