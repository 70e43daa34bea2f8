"""Several hosts that share a directory: UTS namespaces, each with a name and a runtime directory of its own."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pilotmtc.errors import StoreError, StoreMoved
from pilotmtc.store import serve
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.ownership.filesystem import NETWORK, set_mode
from pilotmtc.store.ownership.owner import Record, highest, is_alive, parse
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.process import open_process
from tests.support import wait_until

RENEW_S = 0.3
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a UTS namespace a name")


class Hosts:
    """Hosts by name, which have one store between them; some may see it elsewhere than at `store`."""

    def __init__(self, store: Path, runtime: Path, seen_at: Mapping[str, Path] | None = None) -> None:
        self.store = store
        self._runtime = runtime
        self._seen_at = seen_at or {}
        self._clients: list[StoreClient] = []
        self._stopped: set[int] = set()

    def argv(self, host: str, *words: str) -> list[str]:
        """Return the command that runs `words` on `host`."""
        name = ["sh", "-c", 'hostname "$0" && exec "$@"', host]
        return ["unshare", "--uts", "--", *name, *words]

    def environment(self, host: str) -> dict[str, str]:
        runtime = self._runtime / host
        runtime.mkdir(mode=0o700, exist_ok=True)
        return {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}

    def channel(self, host: str) -> Channel:
        """Return what a client on `host` gets from `serve`."""
        words = [sys.executable, "-I", "-S", serve.__file__, str(self._seen_at.get(host, self.store))]
        return open_process(self.argv(host, *words), self.environment(host))

    def client(self, host: str, *, follows: bool = True, patience_s: float = 60.0) -> StoreClient:
        """Return a client on `host`."""

        def follow(moved: StoreMoved) -> Channel:
            return self.channel(moved.host)

        client = StoreClient(lambda: self.channel(host), patience_s=patience_s, follow=follow if follows else None)
        self._clients.append(client)
        return client

    def record(self) -> Record:
        """Return the highest claim."""
        directory = Path(f"{self.store}.owner")

        def read() -> Record | None:
            with contextlib.suppress(FileNotFoundError, StoreError):  # one that is being made has no words yet
                return parse((directory / str(highest(str(directory)))).read_bytes())
            return None

        found = wait_until(read)
        assert found is not None
        return found

    def owner(self) -> tuple[str, int]:
        """Return the host and the process that serve."""
        record = self.record()
        return record.host.name, record.pid

    def serving(self) -> bool:
        """Return whether a process has, or is about to have, the store."""
        record = self.record()
        return record.state != "released" and is_alive(record.pid, record.started)

    def log(self, host: str) -> str:
        return "".join(path.read_text() for path in (self._runtime / host / "pilotmtc").glob("*.log"))

    def stop(self, pid: int) -> None:
        """Let a process sleep."""
        self._stopped.add(pid)
        os.kill(pid, signal.SIGSTOP)

    def wake(self, pid: int) -> None:
        """Let it go on."""
        self._stopped.discard(pid)
        os.kill(pid, signal.SIGCONT)

    def wake_all(self) -> None:
        """Let all go on that sleep."""
        for pid in list(self._stopped):
            with contextlib.suppress(ProcessLookupError):
                self.wake(pid)

    def close(self) -> None:
        self.wake_all()
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def shared_store(directory: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Give hosts with a store in network mode, whose lease is renewed so often that no test waits long."""
    monkeypatch.setenv("PILOTMTC_SERVER_RENEW_S", str(RENEW_S))
    store = directory / "shared" / "store.db"
    store.parent.mkdir()
    set_mode(str(store), NETWORK)
    hosts = Hosts(store, runtime)
    try:
        yield hosts
    finally:
        hosts.close()
