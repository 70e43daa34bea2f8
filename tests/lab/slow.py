"""A small TCP proxy on the loopback interface that can delay, stop passing anything on, or hang up in mid-word."""

import contextlib
import select
import socket
import threading
import time
from types import TracebackType

_POLL_S = 0.05
_FEW_BYTES = 4096
_MANY_BYTES = 1 << 20


class Proxy:
    """Passes connections to `port` on, from its own `port`, each piece `delay_s` late.

    With a `rate`, no more bytes a second pass on a connection each way, and only a few are taken in before.
    """

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self._to = port
        self.delay_s = delay_s
        self.rate = 0.0
        self.cuts = 0  # how many times `cut_after` has cut
        self.passed_bytes = 0
        self._fuse: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._threads[0].start()

    def stall(self) -> None:
        """Pass nothing on any more; connections stay."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what has come meanwhile, and what comes."""
        self._flowing.set()

    def cut_after(self, size: int) -> None:
        """End all connections when `size` bytes more have passed, in whatever words they are then."""
        with self._lock:
            self._fuse = size

    def connections(self) -> int:
        """Return how many connections there have been since the last cut."""
        with self._lock:
            return len(self._pairs)

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for each in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._flowing.set()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            if not select.select([self._listener], [], [], _POLL_S)[0]:
                continue
            ours, _ = self._listener.accept()
            if self.rate:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _FEW_BYTES)
            try:
                theirs = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                ours.close()
                continue
            with self._lock:
                self._pairs.append((ours, theirs))
            thread = threading.Thread(target=self._carry_both, args=(ours, theirs), name="proxy")
            self._threads.append(thread)
            thread.start()

    def _carry_both(self, ours: socket.socket, theirs: socket.socket) -> None:
        with ours, theirs:
            back = threading.Thread(target=self._carry, args=(theirs, ours), name="proxy")
            back.start()
            self._carry(ours, theirs)
            back.join()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        """Pass on what comes from `one`, as far as it may pass; then end both."""
        free_at = 0.0  # when the link may take more
        try:
            while not self._over.is_set():
                if not select.select([one], [], [], _POLL_S)[0]:
                    continue
                while not self._flowing.wait(_POLL_S):
                    if self._over.is_set():
                        return
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _FEW_BYTES if self.rate else _MANY_BYTES)
                if not (data := one.recv(_FEW_BYTES if self.rate else 65536)):
                    return
                if self.rate:
                    now = time.monotonic()
                    free_at = max(free_at, now) + len(data) / self.rate
                    self._over.wait(free_at - now)
                data, last = self._allowed(data)
                with self._lock:
                    self.passed_bytes += len(data)
                if self.delay_s:
                    time.sleep(self.delay_s)
                other.sendall(data)
                if last:
                    self.cut()
        except OSError:  # one of them has gone
            return
        finally:
            for each in (one, other):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _allowed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what of `data` may still pass, and whether it is the last."""
        with self._lock:
            if self._fuse is None:
                return data, False
            self._fuse -= len(data)
            if self._fuse > 0:
                return data, False
            left, self._fuse = self._fuse, None
            self.cuts += 1
            return data[: len(data) + left], True
