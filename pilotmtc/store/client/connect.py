"""Opening a store by its URL."""

import functools
import os
import sys
from collections.abc import Callable

from pilotmtc.errors import UsageError
from pilotmtc.model import PilotId
from pilotmtc.store import serve
from pilotmtc.store.client.client import Connectors, StoreClient
from pilotmtc.store.client.moved import MovedStore
from pilotmtc.store.client.remote import RemoteStore
from pilotmtc.store.location import locate
from pilotmtc.store.serve import EXISTING
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.link import Ask
from pilotmtc.transport.process import open_process


def connect_store(
    url: str | None = None, *, patience_s: float | None = 60.0, ask: Ask | None = None, pilot: PilotId | None = None
) -> StoreClient:
    """Return a client of the store at `url` (default: the user's store); its server is started if necessary.

    On another host (``ssh://``), this logs in first; `ask` asks the user for passwords and codes (default: on the
    terminal). An agent passes its `pilot`. It does not create a store that does not exist, and neither does a client
    that was connected before.

    Raises
    ------
    ConfigError
        If a store cannot be at `url`.
    LoginRefused
        If the other host refuses the login, or its identity is not known.
    """
    location = locate(url)
    again: Callable[[], Channel]
    if location.target is not None:
        remote = RemoteStore(location.target, ask)
        try:
            remote.prepare()
        except BaseException:
            remote.close()
            raise
        followed = MovedStore(location, remote, ask)

        def close() -> None:
            followed.close()
            remote.close()

        again = functools.partial(remote.connect, existing=True)
        return StoreClient(
            remote.connect if pilot is None else again,
            again,
            patience_s=patience_s,
            on_close=close,
            follow=followed.connect,
            pilot=pilot,
        )
    if not sys.executable:
        raise UsageError("pilotmtc needs sys.executable to start its server")
    argv = [sys.executable, "-I", "-S", os.path.abspath(serve.__file__), location.path]
    existing = [*argv, EXISTING]

    def connectors(words: list[str] = existing) -> Connectors:
        followed = MovedStore(location, ask=ask)
        return Connectors(lambda: open_process(words), followed.connect, followed.close)

    connect, follow, on_close = connectors(argv if pilot is None else existing)
    return StoreClient(
        connect,
        lambda: open_process(existing),
        patience_s=patience_s,
        on_close=on_close,
        follow=follow,
        pilot=pilot,
        in_child=connectors,
    )
