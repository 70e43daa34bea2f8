"""pilotmtc: functions through its pool, and commands through its session. Both record each task in a store."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..workload import SCRIPT, Job, Ran, read
from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from pilotmtc import PilotExecutor

    with PilotExecutor(cores, store=directory / "store.db", progress=False, pin=_pin(cores)) as executor:
        yield of_executor(executor)


functions = dynamic(pool)


def commands(job: Job) -> list[Ran]:
    from pilotmtc.model import PilotDescription
    from pilotmtc.session import Ended, Session, as_source, make_tasks

    rows = [{"number": task.number, "seconds": task.seconds} for task in job.tasks]
    tasks = make_tasks(["bash", str(SCRIPT), "{number}", "{seconds}", ""], as_source(rows), {"cores": 1})
    with Session(job.directory / "store.db") as session:
        run = session.run(tasks, pilot=PilotDescription(cores=job.cores, pin=_pin(job.cores)))
        return [ran for event in run.events() if isinstance(event, Ended) for ran in read(event.result.text)]


def _pin(cores: int) -> bool:
    """Tell whether each worker can have a core of its own."""
    return cores <= len(os.sched_getaffinity(0))
