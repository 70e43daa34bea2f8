"""The Python API: `Session`, and what it takes and gives."""

from pilotmtc.pilots.capacity import never_starts
from pilotmtc.session.api import Session
from pilotmtc.session.look.follow import Step
from pilotmtc.session.look.results import TaskResult, output_blocks, output_text
from pilotmtc.session.look.select import NewValues, Selection
from pilotmtc.session.pilots import Pilots
from pilotmtc.session.run.events import Advanced, Begun, Ended, PilotLost, PilotMoved, RunEvent, StoreTroubled
from pilotmtc.session.run.runner import Run
from pilotmtc.session.submit.pilot import PilotOptions, describe
from pilotmtc.session.submit.tasks import (
    Params,
    TaskOptions,
    TaskStream,
    as_source,
    make_tasks,
    read_campaign,
)

__all__ = [
    "Advanced", "Begun", "Ended", "NewValues", "Params", "PilotLost", "PilotMoved", "PilotOptions", "Pilots", "Run",
    "RunEvent", "Selection", "Session", "Step", "StoreTroubled", "TaskOptions", "TaskResult", "TaskStream", "as_source",
    "describe", "make_tasks", "never_starts", "output_blocks", "output_text",
    "read_campaign",
]  # fmt: skip
