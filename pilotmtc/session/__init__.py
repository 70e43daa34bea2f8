"""The Python API: `Session`, and what it takes and gives."""

from pilotmtc.session.api import Session, read_campaign
from pilotmtc.session.describe import PilotOptions, describe
from pilotmtc.session.fitting import never_starts
from pilotmtc.session.follow import Step
from pilotmtc.session.pilots import Pilots
from pilotmtc.session.results import TaskResult, describe_end, output_blocks, output_text
from pilotmtc.session.run import Advanced, Begun, Ended, PilotLost, PilotMoved, Run, RunEvent, StoreTroubled
from pilotmtc.session.select import NewValues, Selection
from pilotmtc.session.tasks import Params, TaskOptions, TaskStream, as_source, command_line, make_tasks

__all__ = [
    "Advanced", "Begun", "Ended", "NewValues", "Params", "PilotLost", "PilotMoved", "PilotOptions", "Pilots", "Run",
    "RunEvent", "Selection", "Session", "Step", "StoreTroubled", "TaskOptions", "TaskResult", "TaskStream", "as_source",
    "command_line", "describe", "describe_end", "make_tasks", "never_starts", "output_blocks", "output_text",
    "read_campaign",
]  # fmt: skip
