"""Starting pilots: on this machine (`local`), or through a scheduler (`batch`), which the store's server asks."""

import os

from msgspec import structs

from pilotmtc.model import Pilot, PilotDescription
from pilotmtc.pilots.local import AgentAhead, start_local
from pilotmtc.store.interface import Store
from pilotmtc.store.location import locate

__all__ = ["AgentAhead", "start", "start_local"]

_LOCAL_WAIT_S = 10.0
_QUEUED_WAIT_S = 30.0


def start(
    store: Store, url: str, description: PilotDescription, wait_s: float | None = None, ahead: AgentAhead | None = None
) -> Pilot:
    """Start a pilot from its description; see `start_local` and `start_queued`."""
    if description.scheduler:
        from pilotmtc.pilots.batch import scheduler_environ, start_queued  # a pilot on this machine needs none

        if locate(url).target is None:
            description = structs.replace(description, environ=scheduler_environ(os.environ))
        return start_queued(store, description, _QUEUED_WAIT_S if wait_s is None else wait_s)
    return start_local(store, url, description, _LOCAL_WAIT_S if wait_s is None else wait_s, ahead)
