"""What a store can do. `sqlite.SqliteStore` does it, `client.StoreClient` asks a server to; one contract-test
suite runs against both."""

from typing import Protocol

from pilotmtc.protocol.base import R, Request


class Store(Protocol):
    """A store."""

    def call(self, request: Request[R]) -> R:
        """Do what `request` says; each request's class tells what it means.

        Raises
        ------
        UsageError, StateError, StoreError
            As the request deserves.
        """
        ...
