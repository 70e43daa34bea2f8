"""The interface of a store. `sqlite.SqliteStore` performs requests, `client.StoreClient` sends them to a server.

One suite of contract tests runs on both.
"""

from typing import Protocol

from pilotmtc.protocol.base import R, Request


class Store(Protocol):
    """A store."""

    def call(self, request: Request[R]) -> R:
        """Perform `request`, whose class documents it.

        Raises
        ------
        UsageError, StateError, StoreError
            If the request is invalid, not possible in the present state, or the store fails.
        """
        ...
