"""pilotmtc: functions through its pool, and commands through its session. Both record each task in a store."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..workload import SCRIPT, Job, Ran, read, work
from . import Pool, all_of, by_futures, dynamic, growing, of_executor

if TYPE_CHECKING:
    from pilotmtc.campaign.submit import TaskSpec


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    from pilotmtc import PilotExecutor

    with PilotExecutor(
        pilot_cores=job.cores, pin=_pin(job), store=job.directory / "store.db", progress=False,
        name="study", resume=job.again, retries=job.retries,
    ) as executor:  # fmt: skip
        yield of_executor(
            executor,
            wide=all_of(lambda task: executor.options(cores=task.cores).submit(work, task)),
            graph=by_futures(executor.submit),
            grow=lambda cores: executor.add_pilots(cores=cores, pin=False),
        )


functions = dynamic(pool)


def commands(job: Job) -> list[Ran]:
    from pilotmtc.model import PilotDescription
    from pilotmtc.session import Ended, Session, TaskStream

    with Session(job.directory / "store.db") as session:
        before = session.campaigns()[0].id if job.again else None
        tasks = None if job.again else TaskStream(partial(_specs, job), size=len(job.tasks))
        pilot = PilotDescription(cores=job.cores, pin=_pin(job))
        run = session.run(tasks, campaign=before, pilot=pilot, name="study")

        def grow(cores: int) -> None:
            session.pilots.submit(cores=cores, pin=False, campaign=session.campaigns()[0].id)

        with growing(job, grow):
            return [ran for event in run.events() if isinstance(event, Ended) for ran in read(event.result.text)]


def _specs(job: Job) -> "Iterator[TaskSpec]":
    """Yield the tasks, each with its cores and with the names of those that it waits for."""
    from msgspec.structs import replace

    from pilotmtc.model import After
    from pilotmtc.session import as_source, make_tasks

    for task in job.tasks:
        row: dict[str, str | float] = {
            "number": task.number, "seconds": task.seconds, "kind": task.kind, "place": task.place,
        }  # fmt: skip
        words = ["bash", str(SCRIPT), "{number}", "{seconds}", "", "{kind}", "{place}"]
        (spec,) = make_tasks(
            words, as_source([row]), {"cores": task.cores, "retries": job.retries, "task_name": "{number}"}
        )
        yield replace(spec, after=tuple(After(str(number)) for number in task.after))


def _pin(job: Job) -> bool:
    """Tell whether each worker can have a core of its own."""
    return job.cores <= len(os.sched_getaffinity(0))
