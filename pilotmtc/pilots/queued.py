"""Starting a pilot through a scheduler, which the store's server asks."""

import secrets
import time

from pilotmtc.errors import SubmitRejected
from pilotmtc.model import Pilot, PilotDescription
from pilotmtc.states import PilotState
from pilotmtc.store.interface import Store
from pilotmtc.wire.messages import CreatePilot, GetPilots

_LOOK_S = 0.1


def start_queued(store: Store, description: PilotDescription, wait_s: float = 30.0) -> Pilot:
    """Have the scheduler of the store's host asked for a pilot, and return its record.

    Parameters
    ----------
    store
        A connection to the store.
    description
        What it is to be.
    wait_s
        How long to look whether the scheduler takes it, before returning all the same; 0 does not wait.

    Raises
    ------
    SubmitRejected
        If the scheduler says no.
    """
    key = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    pilot = store.call(CreatePilot(key, description)).pilots[0]
    until = time.monotonic() + wait_s
    while pilot.state is PilotState.NEW and not pilot.trouble and time.monotonic() < until:
        time.sleep(_LOOK_S)
        pilot = store.call(GetPilots(id=pilot.id)).pilots[0]
    if pilot.state is PilotState.FAILED:
        raise SubmitRejected(f"pilot {pilot.id}: {pilot.reason}")
    return pilot
