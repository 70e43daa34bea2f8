"""Opening a store by its URL."""

import functools
from collections.abc import Callable

from pilotmtc.model import PilotId
from pilotmtc.store.client.client import Connectors, StoreClient
from pilotmtc.store.client.local import ServerAhead, serve_words
from pilotmtc.store.client.moved import MovedStore
from pilotmtc.store.client.remote import RemoteStore
from pilotmtc.store.location import locate
from pilotmtc.store.serve import EXISTING
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.link import Ask
from pilotmtc.transport.process import open_process


def connect_store(
    url: str | None = None,
    *,
    patience_s: float | None = 60.0,
    ask: Ask | None = None,
    pilot: PilotId | None = None,
    ahead: ServerAhead | None = None,
) -> StoreClient:
    """Return a client of the store at `url` (default: the user's store); its server is started if necessary.

    On another host (``ssh://``), this logs in first; `ask` asks the user for passwords and codes (default: on the
    terminal). `ahead` is a connection that was made before. An agent passes its `pilot`. It does not create a store
    that does not exist, and neither does a client that was connected before.

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
    argv = serve_words(location.path)
    existing = serve_words(location.path, EXISTING)

    def connectors(words: list[str] = existing, ahead: ServerAhead | None = None) -> Connectors:
        followed = MovedStore(location, ask=ask)
        opened = open_process if ahead is None else ahead.open
        return Connectors(lambda: opened(words), followed.connect, followed.close)

    connect, follow, on_close = connectors(argv if pilot is None else existing, ahead)
    return StoreClient(
        connect,
        lambda: open_process(existing),
        patience_s=patience_s,
        on_close=on_close,
        follow=follow,
        pilot=pilot,
        in_child=connectors,
    )
