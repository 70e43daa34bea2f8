"""kill -9 of the agent in the middle: what is lost, what is recorded twice."""

import collections
import os
import signal
import sqlite3
import time

from pilotmtc.protocol.client.maintenance import CheckStore, SnapshotStore
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.states import PilotState
from tests.bench.measure import Measured, say
from tests.bench.place import place, specs
from tests.support import wait_until

_TASKS = 3000


def killed_agent(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Kill the agent when half of the tasks are done, start another pilot, and count."""
    number = max(int(_TASKS * scale), 100)
    with place() as here:
        ran = here.directory / "ran"
        pilot = here.pilot(slots)
        campaign = here.submit(specs(["/bin/sh", "-c", f'echo "$1" >> {ran}', "x"], map(str, range(number))))
        here.wait(campaign, 300.0, enough=number // 2)
        agent = here.client.call(GetPilots(id=pilot.id)).pilots[0].pid
        os.kill(agent, signal.SIGKILL)
        killed = time.monotonic()
        say(f"killed the agent, process {agent}")
        over = (PilotState.FAILED, PilotState.DONE, PilotState.CANCELED)
        wait_until(lambda: here.client.call(GetPilots(id=pilot.id)).pilots[0].state in over, 90.0)
        noticed = time.monotonic() - killed
        here.pilot(slots)
        done = here.wait(campaign, 300.0)
        problems = here.client.call(CheckStore()).problems
        copy = str(here.directory / "copy.db")
        here.client.call(SnapshotStore(copy))
        with sqlite3.connect(copy) as db:
            recorded = collections.Counter(
                row[0] for row in db.execute("SELECT task_id FROM attempts WHERE cause = 'EXIT' AND exit_code = 0")
            )
        db.close()
        runs = collections.Counter(ran.read_text().split())
    twice = sum(1 for times in recorded.values() if times > 1)
    lost = number - min(done, len(recorded))
    again = sum(1 for times in runs.values() if times > 1)
    return [
        Measured(f"kill -9 of the agent at half of {number} tasks: lost", lost, "tasks", 0),
        Measured("                                    recorded twice", twice, "tasks", 0),
        Measured(
            "                                    executed again", again, "tasks",
            note="ran to the end, but their results died with the agent: execution is at least once",
        ),
        Measured("                                    until the store knew", noticed, "s"),
        Measured("                                    problems that store check found", len(problems), "", 0),
    ]  # fmt: skip
