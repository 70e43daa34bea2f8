"""All faults by name, and how a round of each is played."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec import Struct

from tests.faults.campaign import calls, paper, strikes, submitter
from tests.faults.campaign.field import Field, a_field
from tests.faults.campaign.work import Count, Work
from tests.lab.machine import ROOT, alone, install

_FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"
_CALLS = 67  # of a call there are so many in the time of a process


class Fault(Struct, frozen=True):
    """One kind of misfortune.

    Attributes
    ----------
    strike
        What befalls a field; None for those that are played without one.
    round
        How a round without a field is played.
    root
        Whether only root can do it.
    heavy_bytes
        How much most of the tasks write.
    disks
        "small": the pilots have a small disk of their own; "dying": store and pilots have disks that can die.
    scale
        How many times more tasks it gets: where none is a process they are done in no time.
    """

    strike: Callable[[Field], bool] | None = None
    round: Callable[[Path, Path, Work, Random], Count] | None = None
    root: bool = False
    heavy_bytes: int = 0
    disks: str = ""
    scale: int = 1

    def missing(self) -> str:
        """Return what keeps it from being played here; "" if nothing does."""
        if self.root and not ROOT:
            return "only root may"
        if self.disks == "dying" and not (os.path.exists("/dev/loop-control") and shutil.which("mkfs.ext4")):
            return "there are no loop devices, or there is no mkfs.ext4"
        return "" if os.path.exists("/usr/sbin/sshd") or ROOT else "OpenSSH's server is not here"


FAULTS: dict[str, Fault] = {
    "agent killed": Fault(strikes.agent),
    "guard killed": Fault(strikes.guard),
    "guard killed, with a daemon": Fault(strikes.guard_of_daemon),
    "pilot's sessions killed": Fault(strikes.sessions),
    "pilot's machine dies": Fault(strikes.machine),
    "pilot's directory gone": Fault(strikes.directory),
    "pilot's disk full": Fault(strikes.pilots_disk, root=True, disks="small"),
    "agent killed on a full disk": Fault(strikes.agent_on_full_disk, root=True, disks="small"),
    "pilot's disk dies": Fault(strikes.pilots_disk_dies, root=True, disks="dying", heavy_bytes=60_000),
    "task's tree killed": Fault(strikes.tree),
    "server killed": Fault(strikes.server),
    "server stopped": Fault(strikes.server_sleeps),
    "store moved and back": Fault(strikes.store_moved),
    "serve killed": Fault(strikes.serve),
    "connection killed": Fault(strikes.connection),
    "connection cut in a word": Fault(strikes.cuts),
    "sshd killed": Fault(strikes.sshd),
    "link down past lease": Fault(strikes.link),
    "link slow": Fault(strikes.slow, heavy_bytes=60_000),
    "disk full": Fault(strikes.disk, root=True),
    "store's disk dies": Fault(strikes.store_disk_dies, root=True, disks="dying"),
    "clock jumps": Fault(strikes.clock, root=True),
    "one after the other": Fault(strikes.several),
    "submitter killed": Fault(scale=500),
    "two hosts, owner killed": Fault(round=paper.owner_killed, root=True, scale=5),
    "two hosts, owner stopped": Fault(round=paper.owner_sleeps, root=True, scale=5),
    "messages twice and late": Fault(round=paper.messages, scale=10),
    **{
        f"calls, {name} killed": Fault(round=calls.round_of(strike), scale=_CALLS)
        for name, strike in {
            "worker": calls.worker,
            "node worker": calls.node_worker,
            "agent": calls.agent,
            "server": calls.server,
            "client": calls.client,
            "any": calls.several,
        }.items()
    },
}


def play(name: str, directory: Path, runtime: Path, size: int, seed: str) -> Count:
    """Play a round in the empty `directory` with so many tasks; return what became of them."""
    dice = Random(seed)
    fault = FAULTS[name]
    if name == "submitter killed":
        return submitter.submitter_killed(directory, size, dice)
    mark = f"faults-{os.getpid()}-{directory.name}"
    work = Work(dice, size, directory / "ran", mark, heavy_bytes=fault.heavy_bytes)
    if fault.round is not None:
        return fault.round(directory, runtime, work, dice)
    assert fault.strike is not None
    settings = _clock if fault.strike is strikes.clock else _nothing
    room = strikes.DISK_BYTES if fault.strike is strikes.disk else 0
    with a_field(directory, work, dice, settings, room, disks=fault.disks) as field:
        struck = field.play(fault.strike)
        field.end()
        found = field.count()
        found.struck = struck
        found.orphans += field.orphans
        found.dropped += field.dropped
    return found


def _nothing(home: Path) -> dict[str, str]:
    return {}


def _clock(home: Path) -> dict[str, str]:
    """Return an environment in which the clock goes by the file ``clock`` in `home`."""
    with alone():
        install({} if list(Path("/").glob(_FAKETIME[1:])) else {_FAKETIME: "libfaketime"})
    (library,) = Path("/").glob(_FAKETIME[1:])
    (home / "clock").write_text("+0\n")
    return {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(home / "clock"), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
