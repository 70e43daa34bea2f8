"""A pilot of several node workers on this machine, over real ZeroMQ."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pilotmtc.model import Pilot, PilotDescription
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.states import PilotState
from tests.integration.agent_support import Site
from tests.support import command_lines, parent, wait_until, without_children


class PoolPilot:
    """A pilot, its job's first process, and its files."""

    def __init__(self, site: Site, pilot: Pilot, job: "subprocess.Popen[bytes]") -> None:
        self.site = site
        self.pilot = pilot
        self.job = job
        self.batch = ""  # the scheduler's id of it
        self.directory = Path(pilot.directory)

    def workers(self) -> dict[str, int]:
        """Return the process ids of the node workers by name."""
        contact = str(self.directory / "contact")
        lines = {pid: line.split("\0") for pid, line in command_lines().items() if contact in line}
        found = without_children([pid for pid, words in lines.items() if "--guard-fd" in words])
        return {lines[pid][lines[pid].index("--name") + 1]: pid for pid in found}

    def guard_of(self, worker: int) -> int:
        """Return the guard of a worker, which is its parent."""
        return parent(worker)

    def agent(self) -> int:
        """Return the process id of the agent."""
        return self.site.pilot(self.pilot.id).pid

    def log(self) -> str:
        """Return what agent and workers have said."""
        logs = (self.directory / name for name in ("agent.log", "workers.log"))
        return "\n".join(log.read_text(errors="replace") for log in logs if log.exists())

    def wait_nodes(self, count: int) -> None:
        """Wait until so many nodes are there."""
        wait_until(lambda: self.site.pilot(self.pilot.id).nodes == count, 30.0, on_timeout=self.log)

    def wait_tasks(self, counts: Mapping[object, int], timeout_s: float = 60.0) -> None:
        """Wait until the tasks of the store have just these states."""

        def found() -> object:
            return self.site.counts(), self.log(), self.site.failures()

        wait_until(lambda: self.site.counts() == counts, timeout_s, on_timeout=found)


@contextmanager
def running_pool(
    site: Site, nodes: int = 4, cores: int = 3, env: Mapping[str, str] | None = None, hosts: str | None = "",
    before: Sequence[str] = (),
) -> Iterator[PoolPilot]:  # fmt: skip
    """Give a pilot of `nodes` node workers and end it; `hosts` None has it find them, `before` begins its command."""
    description = PilotDescription(cores=cores, nodes=nodes)
    directory = Path(site.url).parent / "pilots" / secrets.token_hex(4)
    directory.mkdir(parents=True)
    pilot = site.client.call(CreatePilot(secrets.token_hex(4), description, str(directory))).pilots[0]
    site.pilots.append(pilot)
    command = [
        *before, sys.executable, "-m", "pilotmtc", "--store", site.url, "agent", "--pilot", str(pilot.id),
        "--directory", str(directory), "--allocation",
        *([] if hosts is None else ["--hosts", hosts or f"local:{nodes}"]),
    ]  # fmt: skip
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **(env or {})}
    with (directory / "agent.log").open("wb") as log:
        job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    pool = PoolPilot(site, pilot, job)
    try:
        wait_until(lambda: site.pilot(pilot.id).state is not PilotState.NEW, 30.0, on_timeout=pool.log)
        yield pool
    finally:
        site.close_pilot(pilot)
        try:
            job.wait(20.0)
        finally:
            job.kill()
            job.wait(5.0)
