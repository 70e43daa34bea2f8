"""A store with its server, a pilot on this machine, and the usual questions about them."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotmtc.model import (
    Attempt,
    CampaignId,
    Pilot,
    PilotDescription,
    PilotId,
    Resources,
    TaskId,
    TaskRow,
    Template,
)
from pilotmtc.pilots import start_local
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.client.pilots import CancelPilot, GetPilots
from pilotmtc.protocol.client.tasks import GetOutput, GetTail, GetTask, GetTasks, Output
from pilotmtc.protocol.records import Filter, OutputTail
from pilotmtc.states import PILOT_FINAL, TASK_FINAL, TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from tests.support import parent, wait_until


class Site:
    """What a test works with."""

    def __init__(self, directory: Path) -> None:
        self.url = str(directory / "store.db")
        self.client: StoreClient = connect_store(self.url)
        self.pilots: list[Pilot] = []

    def submit(self, *templates: Template, resources: Resources | None = None, copies: int = 1) -> list[TaskId]:
        """Submit each template `copies` times; return the tasks."""
        rows = tuple(TaskRow(index, 0) for index in range(len(templates)) for _ in range(copies))
        key = secrets.token_hex(8)
        done = self.client.call(Submit(key, 0, "test", templates, (resources or Resources(),), rows, True))
        return self.tasks_of(done.campaign)

    def tasks_of(self, campaign: CampaignId) -> list[TaskId]:
        """Return the ids of a campaign's tasks."""
        found: list[TaskId] = []
        after = 0
        while True:
            page = self.client.call(GetTasks(Filter(campaign=campaign), after, 1000))
            found.extend(task.id for task in page.tasks)
            if not page.next:
                return found
            after = page.next

    def start(self, description: PilotDescription | None = None) -> Pilot:
        """Start a pilot with two cores and wait until it is active."""
        pilot = start_local(self.client, self.url, description or PilotDescription(cores=2, pin=False))
        self.pilots.append(pilot)
        return pilot

    def counts(self) -> dict[TaskState, int]:
        """Return the tasks of all campaigns by state."""
        total: dict[TaskState, int] = {}
        for campaign in self.client.call(GetCampaigns()).campaigns:
            for state, count in campaign.counts.items():
                total[state] = total.get(state, 0) + count
        return total

    def wait(self, timeout_s: float = 40.0) -> dict[TaskState, int]:
        """Wait until all tasks are over; return the counts."""
        wait_until(lambda: set(self.counts()) <= TASK_FINAL, timeout_s)
        return self.counts()

    def wait_done(self, count: int) -> None:
        """Wait until `count` tasks are done."""
        wait_until(lambda: self.counts().get(TaskState.DONE, 0) >= count, 60.0)

    def wait_running(self, task: TaskId) -> None:
        """Wait until the store knows that `task` runs."""
        wait_until(lambda: self.state(task) is TaskState.RUNNING, 60.0)

    def state(self, task: TaskId) -> TaskState:
        """Return a task's state."""
        found = self.client.call(GetTask(task)).task
        assert found is not None
        return found.state

    def attempts(self, task: TaskId) -> tuple[Attempt, ...]:
        """Return a task's recorded attempts."""
        return self.client.call(GetTask(task)).attempts

    def last(self, task: TaskId) -> Attempt:
        """Return a task's newest recorded attempt."""
        found = self.client.call(GetTask(task)).task
        assert found is not None
        assert found.last is not None
        return found.last

    def output(self, task: TaskId) -> Output:
        """Return what a task's newest attempt wrote."""
        return self.client.call(GetOutput(task))

    def wait_written(self, task: TaskId, pred: Callable[[OutputTail], bool]) -> OutputTail:
        """Wait until what a running task has written is as it should be; return it."""
        found: list[OutputTail] = []

        def is_so() -> bool:
            tail = self.client.call(GetTail(task))
            found[:] = [tail.written] if tail.written is not None else []
            if not found or not pred(found[0]):
                self.client.call(GetTail(task, tail.at, 5.0))
                return False
            return True

        wait_until(is_so, 60.0, on_timeout=lambda: found)
        return found[0]

    def failures(self) -> list[Output]:
        """Return what the tasks wrote that have failed."""
        failed = self.client.call(GetTasks(Filter(states=(TaskState.FAILED,)), 0, 10)).tasks
        return [self.output(task.id) for task in failed]

    def pilot(self, pilot: PilotId) -> Pilot:
        """Return a pilot's record as it is now."""
        return self.client.call(GetPilots(id=pilot)).pilots[0]

    def wait_over(self, pilot: PilotId, timeout_s: float = 30.0) -> Pilot:
        """Wait until a pilot is over; return its record."""
        wait_until(lambda: self.pilot(pilot).state in PILOT_FINAL, timeout_s)
        return self.pilot(pilot)

    def agent(self, pilot: PilotId) -> int:
        """Return the process id of a pilot's agent."""
        return self.pilot(pilot).pid

    def guard(self, pilot: PilotId) -> int:
        """Return the process id of a pilot's guard."""
        return parent(self.agent(pilot))

    def server(self) -> int:
        """Return the process id of the store's server."""
        return self.client.call(GetStore()).pid

    def close(self) -> None:
        """End all."""
        for pilot in self.pilots:
            self.close_pilot(pilot)
        directories = {pilot.directory for pilot in self.pilots}
        wait_until(lambda: not any(_processes_in(directory) for directory in directories), 15.0)
        self.client.close()

    def close_pilot(self, pilot: Pilot) -> None:
        """End a pilot that is not over."""
        if self.pilot(pilot.id).state not in PILOT_FINAL:
            self.client.call(CancelPilot(pilot.id))


def _processes_in(directory: str) -> list[int]:
    """Return the processes that work in a pilot's directory."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/cwd") == directory:
                    found.append(int(name))
            except OSError:
                continue
    return found


def shell(line: str, **more: object) -> Template:
    """Return a template of a shell line."""
    return Template((line,), shell=True, **more)  # type: ignore[arg-type]


def until(path: Path) -> str:
    """Return a shell line that ends when `path` is there."""
    return f"while ! test -e {path}; do sleep 0.05; done"


def kill(pid: int) -> None:
    """Kill one process with -9."""
    os.kill(pid, signal.SIGKILL)


@contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    """Give a `Site` and end it."""
    site = Site(directory)
    try:
        yield site
    finally:
        site.close()
