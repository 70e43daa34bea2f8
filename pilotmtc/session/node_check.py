"""Check a site with a pilot: can an agent on a compute node reach the store?"""

import time

from pilotmtc.deploy.finding import Finding
from pilotmtc.errors import PilotMTCError
from pilotmtc.session.api import Session
from pilotmtc.states import PILOT_FINAL, PilotState

NAME = "node"
_WALLTIME_S = 180.0
_LOOK_S = 0.5


def check_node(site: str, wait_s: float) -> Finding:
    """Submit a pilot of one node, check whether its agent reaches the store within `wait_s`, and cancel it."""
    try:
        with Session(site=site) as session:
            pilot = session.pilots.submit(site=site, nodes=1, walltime=_WALLTIME_S)
            try:
                until = time.monotonic() + wait_s
                while pilot.state is not PilotState.ACTIVE and pilot.state not in PILOT_FINAL:
                    if time.monotonic() >= until:
                        seen = f"{pilot.state.name} {pilot.native_state} {pilot.reason}".strip()
                        return Finding(NAME, None, f"its job has not started within {wait_s:g} s: {seen}")
                    time.sleep(_LOOK_S)
                    pilot = session.pilots.get(pilot.id)
            finally:
                session.pilots.cancel(pilot.id)
    except PilotMTCError as error:
        return Finding(NAME, False, str(error), error.exit_code)
    if pilot.started_at is None:
        return Finding(NAME, False, f"job {pilot.batch} did not reach the store: {pilot.reason}", 5)
    return Finding(NAME, True, f"{pilot.host or 'a node'} has reached the store in job {pilot.batch}")
