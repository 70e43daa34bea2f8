"""A store in a directory of its own, with its server, and pilots on it."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pilotmtc.campaign.submit import TaskSpec, chunks
from pilotmtc.errors import ChannelClosed
from pilotmtc.model import CampaignId, Pilot, PilotDescription, Resources, Template
from pilotmtc.pilots import start_local
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.pilots import CancelPilot, GetPilots
from pilotmtc.states import TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from tests.support import kill, processes_with, wait_until

_OVER = (TaskState.DONE, TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED)


class Place:
    """A store on disk, below the current user's cache of temporary files, not in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "store.db")
        self.mark = f"XDG_RUNTIME_DIR={directory}"
        self.client: StoreClient = connect_store(self.path)
        self._number = 0

    def pilot(self, cores: int, *, pin: bool = False) -> Pilot:
        """Start a pilot and wait until it is active."""
        return start_local(self.client, self.path, PilotDescription(cores=cores, pin=pin), 30.0)

    def submit(self, tasks: Iterable[TaskSpec]) -> CampaignId:
        """Submit `tasks` as a campaign, many messages under way at once."""
        self._number += 1
        return submit(self.client, tasks, f"bench-{self._number}")

    def wait(self, campaign: CampaignId, timeout_s: float, enough: int | None = None) -> int:
        """Wait until `enough` tasks of `campaign` (all of them) are over; return how many were DONE."""

        began = time.monotonic()
        while True:
            found = self.client.call(GetCampaigns(id=campaign)).campaigns[0]
            ended = sum(found.counts.get(state, 0) for state in _OVER)
            left = (found.received if enough is None else enough) - ended
            if left <= 0:
                return found.counts.get(TaskState.DONE, 0)
            passed = time.monotonic() - began
            if passed > timeout_s:
                raise TimeoutError(f"campaign {campaign} is not over after {timeout_s:g} s")
            # Seldom while much is left, since to look costs CPU time, too; often towards the end, which is measured.
            time.sleep(min(max(passed * left / max(ended, 1) / 4, 0.005), 0.25))

    def end_pilots(self) -> None:
        """Cancel the pilots that are there and wait until they have gone."""
        for pilot in self.client.call(GetPilots(live=True)).pilots:
            self.client.call(CancelPilot(pilot.id))
        wait_until(lambda: not self.processes("pilotmtc.agent"), 20.0)

    def processes(self, what: str) -> list[int]:
        """Return the processes of this place whose command line holds `what`."""
        return [pid for pid, command in processes_with(self.mark).items() if what in command]


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make a place, in ``$BENCH_DIR`` or the system's directory for temporary files, and remove it with all it runs."""
    directory = Path(tempfile.mkdtemp(prefix="mtcbench-", dir=os.environ.get("BENCH_DIR")))
    kept = dict(os.environ)
    os.environ.update(
        XDG_RUNTIME_DIR=str(directory), XDG_DATA_HOME=str(directory), HOME=str(directory), PILOTMTC_SERVER_LINGER_S="1"
    )
    made = None
    try:
        made = Place(directory)
        yield made
    finally:
        if made is not None:
            with contextlib.suppress(TimeoutError, ChannelClosed):  # a benchmark may have closed it itself
                made.end_pilots()
            made.client.close()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not processes_with(f"XDG_RUNTIME_DIR={directory}"), 10.0)
        for pid in processes_with(f"XDG_RUNTIME_DIR={directory}"):
            kill(pid)
        os.environ.clear()
        os.environ.update(kept)
        shutil.rmtree(directory, ignore_errors=True)


def submit(client: StoreClient, tasks: Iterable[TaskSpec], key: str) -> CampaignId:
    """Submit `tasks` as a campaign, many messages under way at once."""
    futures = [client.send(message) for message in chunks(tasks, key=key)]
    return [future.result(600.0) for future in futures][-1].campaign


def specs(command: Sequence[str], values: Iterable[str] | int) -> Iterator[TaskSpec]:
    """Yield tasks of one template: `command` with each of `values` for ``{x}``, or so many times without a value.

    Without a value it may be a shell line.
    """
    resources = Resources()
    if isinstance(values, int):
        template = Template((command,), shell=True) if isinstance(command, str) else Template(tuple(command))
        for _ in range(values):
            yield TaskSpec(template, resources)
    else:
        template = Template((*command, "{x}"), fields=("x",))
        for value in values:
            yield TaskSpec(template, resources, (value,))


def memory_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident memory, now and at its peak, in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return tuple(int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process itself has taken, without its children."""
    return sum(_times_s(pid)[:2])


def children_cpu_s(pid: int) -> float:
    """Return the CPU time that those children of a process have taken that it has waited for, and their children."""
    return sum(_times_s(pid)[2:])


def _times_s(pid: int) -> list[float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:15]]
