"""How programs of this host reach a store's server: through `serve`, in a process of its own."""

import os
import sys
from collections.abc import Sequence

from pilotmtc.errors import UsageError
from pilotmtc.store import serve
from pilotmtc.store.location import StoreLocation
from pilotmtc.transport.process import ProcessChannel, open_process


def serve_words(path: str, *options: str) -> list[str]:
    """Return the command that connects its stdin and stdout to the server of the store at `path`, or starts one."""
    if not sys.executable:
        raise UsageError("pilotmtc needs sys.executable to start its server")
    return [sys.executable, "-I", "-S", os.path.abspath(serve.__file__), path, *options]


class ServerAhead:
    """A connection to a store of this host, whose server starts while this program still imports what it needs.

    A client takes it as its first one; whoever made it closes it.
    """

    def __init__(self, location: StoreLocation) -> None:
        local = location.target is None
        self._channel: ProcessChannel | None = open_process(serve_words(location.path)) if local else None

    def open(self, words: Sequence[str]) -> ProcessChannel:
        """Return the connection; after the first time, a new one."""
        channel, self._channel = self._channel, None
        return channel or open_process(words)

    def close(self) -> None:
        """Let it go if nobody has taken it. Safe to repeat."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
