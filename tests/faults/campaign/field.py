"""A store behind a real sshd on this machine, with real pilots that work on it through a proxy."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from pilotmtc.errors import ConfigError
from pilotmtc.model import CampaignId, Pilot, PilotDescription
from pilotmtc.pilots import start_local
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import CancelPilot, GetPilots
from pilotmtc.states import TASK_FINAL, PilotState
from pilotmtc.store.client.connect import connect_store
from tests.faults.campaign.work import Count, Work
from tests.lab.dying_disk import DyingDisk
from tests.lab.machine import accounts
from tests.lab.slow import Proxy
from tests.lab.sshd import Sshd, make_client
from tests.support import patience_s, processes_with, wait_until

LEASE_S = patience_s(3.0)  # on a busy machine it takes longer to log in anew, which a slow link may ask for
NO_ORPHAN_S = 5.0
_OVER_S = 100.0
_CORES = 4


class Field:
    """What is struck.

    Attributes
    ----------
    orphans
        Processes of tasks that were there when they should have been gone.
    dropped
        Pilots that were given up although nothing had befallen them.
    disks
        Those that can die, of "store" and "pilots".
    """

    def __init__(self, directory: Path, home: Path, sshd: Sshd, proxy: Proxy, work: Work, dice: Random) -> None:
        self.directory = directory
        self.home = home
        self.sshd = sshd
        self.proxy = proxy
        self.work = work
        self.dice = dice
        self.orphans = 0
        self.dropped = 0
        self.disks: dict[str, DyingDisk] = {}
        client = make_client(directory / "client", sshd)
        words = sshd.known_hosts_line.split(" ", 1)[1]
        client.known_hosts.write_text(f"{sshd.known_hosts_line}[127.0.0.1]:{proxy.port} {words}")
        self.url = client.url(sshd, f"/~/{home.name}/store.db")
        self.store = connect_store(self.url, patience_s=60.0)

    @property
    def through(self) -> str:
        """The same store, by way of the proxy."""
        return self.url.replace(f":{self.sshd.port}/", f":{self.proxy.port}/")

    def start(self, url: str = "") -> Pilot:
        """Start a pilot."""
        with connect_store(url or self.url, patience_s=60.0) as store:
            return start_local(store, url or self.through, PilotDescription(cores=_CORES, pin=False), 0.0)

    def pilots(self, *states: PilotState) -> list[Pilot]:
        """Return the pilots in these states; without any those that are not over."""
        found = self.store.call(GetPilots(live=not states)).pilots
        return [pilot for pilot in found if not states or pilot.state in states]

    def over(self, campaign: CampaignId) -> int:
        """Return how many tasks are over."""
        counts = self.store.call(GetCampaigns(id=campaign)).campaigns[0].counts
        return sum(number for state, number in counts.items() if state in TASK_FINAL)

    def server(self) -> int:
        """Return the process that has the store."""
        return self.store.call(GetStore()).pid

    def tasks(self) -> set[int]:
        """Return the living processes of tasks."""
        return set(processes_with(f"MTC_FAULTS={self.work.mark}\0"))

    def tasks_of(self, pilot: Pilot) -> set[int]:
        """Return the living processes of tasks of a pilot."""
        return set(self._processes_of(pilot))

    def _processes_of(self, pilot: Pilot) -> dict[int, str]:
        found = processes_with(f"PILOTMTC_PILOT_ID={pilot.id}\0")
        return {pid: found[pid] for pid in self.tasks() & found.keys()}

    def daemons_of(self, pilot: Pilot) -> bool:
        """Whether a task of a pilot has a daemon."""
        return any("sleep 599" in words for words in self._processes_of(pilot).values())

    def expect_none_of(self, pilot: Pilot) -> None:
        """Count the processes of tasks of a pilot that died which are there when they should be gone."""
        self._expect_none(lambda: self.tasks_of(pilot))

    def expect_none_dropped(self, well: Sequence[Pilot]) -> None:
        """Count those of `well` pilots that the store has given up."""
        failed = {pilot.id for pilot in self.pilots(PilotState.FAILED)}
        self.dropped += len(failed & {pilot.id for pilot in well})

    def _expect_none(self, left: Callable[[], "set[int]"]) -> None:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not left(), NO_ORPHAN_S)
        found = left()
        self.orphans += len(found)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def play(self, strike: Callable[["Field"], bool]) -> int:
        """Have the work done while `strike` is, at random moments; return how often it has hit something.

        The last task waits for that, so that there is always something to hit.
        """
        hits = 0
        campaign = self.work.submit(self.store)
        self.start()
        moments = sorted(self.dice.sample(range(self.work.number * 8 // 10), self.dice.randint(1, 3)))
        until = time.monotonic() + patience_s(_OVER_S)
        while (over := self.over(campaign)) < self.work.number and time.monotonic() < until:
            if moments and over >= moments[0]:
                time.sleep(self.dice.uniform(0.0, 0.05))
                hits += strike(self)
                if hits or len(moments) > 1:  # the last one comes again until something was hit
                    del moments[0]
            if not moments:
                self.work.let_end()
            if not self.pilots():
                with contextlib.suppress(ConfigError):  # it was hit before it could say a word
                    self.start()
            time.sleep(0.02)
        return hits

    def end(self) -> None:
        """End the pilots, and expect all processes of tasks to go with them."""

        def ended() -> bool:
            for pilot in self.pilots():  # one that was given up may come back only now
                self.store.call(CancelPilot(pilot.id))
            here = processes_with(f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}\0")
            return not any("pilotmtc.agent" in words for words in here.values())

        wait_until(ended, 60.0)
        self._expect_none(self.tasks)

    def count(self) -> Count:
        """Return what became of the tasks."""
        copy = self.home.parent / f"{self.home.name}.copy"
        copy.unlink(missing_ok=True)
        self.store.call(SnapshotStore(str(copy)))
        try:
            return self.work.count(copy, self.store.call(CheckStore()).problems)
        finally:
            copy.unlink()


def pilots_place() -> Path:
    """Return the directory of the pilots of stores on other hosts."""
    return Path(os.environ["XDG_DATA_HOME"], "pilotmtc", "remote")


@contextlib.contextmanager
def a_field(
    directory: Path, work: Work, dice: Random, environment: Callable[[Path], Mapping[str, str]], disk_bytes: int = 0,
    *, disks: str = "",
) -> Iterator[Field]:  # fmt: skip
    """Make a field and clear it.

    Parameters
    ----------
    environment
        What its server finds in its environment, by the store's directory.
    disk_bytes
        How much fits on the store's disk, if that is not 0.
    disks
        "small": the pilots have a small disk of their own; "dying": store and pilots have disks that can die.
    """
    with contextlib.ExitStack() as stack:
        home = accounts()["mtc-store"].home / work.mark
        home.mkdir(mode=0o700)
        stack.callback(_run, "rm", "-rf", "--", home)
        if disk_bytes:
            _run("mount", "-t", "tmpfs", "-o", f"size={disk_bytes}", "faults", home)
            stack.callback(_run, "umount", "--lazy", home)
        settings = {"PILOTMTC_SERVER_LEASE_S": str(LEASE_S), **environment(home)}
        os.chown(home, home.parent.stat().st_uid, -1)
        place = pilots_place()
        if disks:
            place.mkdir(parents=True)
        if disks == "small":
            _run("mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=400,mode=700", "faults", place)
            stack.callback(_run, "umount", "--lazy", place)
        dying = {}
        if disks == "dying":
            dying["store"] = stack.enter_context(DyingDisk(directory / "store.disk", home))
            dying["pilots"] = stack.enter_context(DyingDisk(directory / "pilots.disk", place))
        sshd = stack.enter_context(Sshd(environment=settings))
        proxy = stack.enter_context(Proxy(sshd.port))
        field = Field(directory, home, sshd, proxy, work, dice)
        field.disks = dying
        stack.callback(_server_is_gone, home)
        stack.callback(field.store.close)
        yield field


def _server_is_gone(home: Path) -> None:
    def gone() -> bool:
        try:
            return not Path("/proc", (home / "store.db.lock").read_text().split()[0]).exists()
        except (OSError, IndexError):
            return True

    wait_until(gone, 20.0)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=60)
