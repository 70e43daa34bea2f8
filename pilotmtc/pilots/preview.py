"""What a scheduler would be given for a pilot, without asking it."""

from pathlib import Path

from msgspec import Struct

from pilotmtc.boot import program
from pilotmtc.model import PilotDescription
from pilotmtc.pilots.batch import refuse_unmapped
from pilotmtc.pilots.scheduler import Scheduler
from pilotmtc.pilots.script import job_script

# What is known only when there is a pilot.
_STORE, _PILOT, _DIRECTORY = "STORE", "PILOT", "/DIRECTORY"


class JobPreview(Struct, frozen=True):
    """A pilot's job before it is submitted; words in capital letters are known when it is.

    Attributes
    ----------
    command, input
        The scheduler's command, and what it reads; empty if they depend on a scheduler that is not on this host.
    script
        The script that the job runs.
    """

    command: tuple[str, ...]
    input: str
    script: str


def preview(description: PilotDescription) -> JobPreview:
    """Return what would be submitted for a pilot of a scheduler.

    Raises
    ------
    UsageError
        If the scheduler has no option for a field.
    SubmitRejected
        If it could not have such a job.
    """
    refuse_unmapped(description)
    agent = program(
        "pilotmtc.agent", "--store", _STORE, "--pilot", _PILOT, "--directory", _DIRECTORY, "--allocation"
    )  # fmt: skip
    directory = Path(_DIRECTORY)
    with Scheduler(description.scheduler) as scheduler:
        command, text = scheduler.preview("pilotmtc-KEY", directory / "job.sh", directory, description)
    return JobPreview(command, text, job_script(agent, setup=description.setup))
