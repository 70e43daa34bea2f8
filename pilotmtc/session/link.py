"""A session's connection to its store."""

import concurrent.futures
import threading
import time
from collections.abc import Sequence

from pilotmtc.errors import PilotMTCError
from pilotmtc.protocol.base import R, Request
from pilotmtc.protocol.client.watch import Changes, GetChanges
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.interface import Store

_BEAT_S = 0.1  # how often a waiting thread wakes up, so that signal handlers run
_ASK_AGAIN_S = 0.02


class StoreLink:
    """A store and its URL. A `StoreClient` answers many requests at once; any other `Store` one by one."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        self.url = url
        self._lock = threading.Lock()  # for a store in this process, because threads may share a session

    def call(self, request: Request[R]) -> R:
        """Return the store's answer."""
        return self.send(request).result()

    def call_many(self, requests: Sequence[Request[R]]) -> list[R]:
        """Return the answers to all `requests`, in order."""
        futures = [self.send(request) for request in requests]
        return [future.result() for future in futures]

    def send(self, request: Request[R]) -> "concurrent.futures.Future[R]":
        """Return a future for the store's answer."""
        if isinstance(self.store, StoreClient):
            return self.store.send(request)
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        try:
            with self._lock:
                future.set_result(self.store.call(request))
        except PilotMTCError as error:
            future.set_exception(error)
        return future

    def changes(self, request: GetChanges) -> Changes:
        """Return what has changed; wait up to the request's `wait_s` for a change."""
        if isinstance(self.store, StoreClient):
            future = self.store.send(request)
            while not future.done():
                concurrent.futures.wait((future,), _BEAT_S)
            return future.result()
        until = time.monotonic() + request.wait_s
        while True:
            answer = self.call(request)
            if answer.changes or answer.reset or time.monotonic() >= until:
                return answer
            time.sleep(_ASK_AGAIN_S)
