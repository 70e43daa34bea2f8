"""A thread for slow requests, which it performs one after the other."""

import collections
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from pilotmtc.errors import PilotMTCError, StoreError
from pilotmtc.protocol.base import Reply
from pilotmtc.store.server.long_poll import Ticket
from pilotmtc.store.server.peer import Peer

log = logging.getLogger("pilotmtc.store.server")

_JOIN_S = 60.0


class BackgroundThread:
    """Performs slow requests in a thread. Its descriptor becomes readable when some are done."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[tuple[Ticket[Peer], Callable[[], Reply | None]] | None] = queue.SimpleQueue()
        self._done: collections.deque[tuple[Ticket[Peer], Reply | PilotMTCError | None]] = collections.deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._doing: tuple[Ticket[Peer], float] | None = None  # and its start

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._event

    def submit(self, ticket: Ticket[Peer], do: Callable[[], Reply | None]) -> None:
        """Have `do` called, which performs a request.

        Raises
        ------
        StoreError
            If no thread can be started now.
        """
        self._todo.put((ticket, do))
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="offload", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise StoreError(f"the store's host has no room for this now: {error}; try again") from error
            self._thread = thread

    def expire(self, now: float) -> None:
        """Give up a request that takes too long, for example on a hanging file system, and continue with others."""
        if (doing := self._doing) is None or now - doing[1] < doing[0].request.handling.time_limit_s:
            return
        name = type(doing[0].request).__name__
        log.error("%s has taken more than %g s and is given up", name, now - doing[1])
        self._thread = self._doing = None
        self._done.append((doing[0], StoreError(f"{name} has taken too long: look whether a disk hangs")))
        os.eventfd_write(self._event, 1)
        if not self._todo.empty():
            self._begin()

    def done(self) -> list[tuple[Ticket[Peer], Reply | PilotMTCError | None]]:
        """Return the requests that were done since the last call."""
        os.eventfd_read(self._event)
        done = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def close(self) -> None:
        """Finish the present request, and drop the others."""
        if self._thread is not None:
            while not self._todo.empty():
                self._todo.get_nowait()
            self._todo.put(None)
            self._thread.join(_JOIN_S)
        os.close(self._event)

    def _work(self) -> None:
        while (todo := self._todo.get()) is not None:  # a daemon, in case `close` is never called
            ticket, do = todo
            reply: Reply | PilotMTCError | None
            doing = self._doing = (ticket, time.monotonic())
            try:
                reply = do()
            except PilotMTCError as error:
                reply = error
            except Exception as error:
                # As in the server's loop: without an answer, the client would wait forever.
                log.exception("a request cannot be done: %.1000r", ticket.request)
                reply = StoreError(f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it")
            if self._doing is not doing:  # the request was given up, and this thread with it
                return
            self._doing = None
            self._done.append((ticket, reply))
            os.eventfd_write(self._event, 1)
