"""RADICAL-Pilot: a pilot on this machine, and tasks that are programs."""

import importlib
from typing import Any

from ..workload import Job, Ran, command, read


def run(job: Job) -> list[Ran]:
    rp: Any = importlib.import_module("radical.pilot")
    session = rp.Session()
    try:
        manager = rp.TaskManager(session)
        place = {"resource": "local.localhost", "cores": job.cores, "runtime": 60}
        manager.add_pilots(rp.PilotManager(session).submit_pilots(rp.PilotDescription(place)))
        tasks = manager.submit_tasks([
            rp.TaskDescription({
                "executable": command(task)[0], "arguments": command(task)[1:], "cores_per_rank": task.cores,
            })
            for task in job.tasks
        ])  # fmt: skip
        states = manager.wait_tasks()
        if wrong := sum(state != rp.DONE for state in states):
            raise RuntimeError(f"{wrong} tasks did not end well")
        return [ran for task in tasks for ran in read(task.stdout)]
    finally:
        session.close(download=False)
