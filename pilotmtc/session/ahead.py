"""What a command lets start while it still imports what it needs itself: half of the time to a first result."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pilotmtc.session.stores import find_store
from pilotmtc.sites import LOCAL
from pilotmtc.store.client.local import ServerAhead

if TYPE_CHECKING:
    from pilotmtc.model import PilotDescription
    from pilotmtc.pilots import AgentAhead


class Ahead:
    """The server of a store on this host, and the agent for a pilot on this machine.

    Only what nothing can be wrong with any more may be started: the server makes the store.

    Parameters
    ----------
    store, site
        As for `Session`.
    pilot
        What will run there; None: nothing.

    Attributes
    ----------
    server
        For the session.
    agent
        For the run; None if its pilot is not on this machine.
    """

    def __init__(self, store: str | Path | None, site: str = LOCAL, pilot: "PilotDescription | None" = None) -> None:
        self._stack = contextlib.ExitStack()
        where = find_store(store, site)
        self.server = self._stack.enter_context(contextlib.closing(ServerAhead(where)))
        self.agent = None if pilot is None or pilot.scheduler else self._agent(where.url)

    def _agent(self, url: str) -> "AgentAhead":
        from pilotmtc.pilots.local import AgentAhead

        with contextlib.ExitStack() as on_error:
            on_error.callback(self._stack.close)
            agent = self._stack.enter_context(contextlib.closing(AgentAhead(url)))
            on_error.pop_all()
        return agent

    def __enter__(self) -> "Ahead":
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what has not been used."""
        self._stack.close()
