"""What befalls a field. Each returns whether it has hit something."""

import contextlib
import itertools
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.errors import StoreError
from pilotmtc.model import Pilot, TaskId
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.states import PILOT_FINAL, Cause, PilotState
from tests.faults.campaign.field import LEASE_S, Field, pilots_place
from tests.support import parent, processes_with, wait_until

_WAIT_S = 30.0
_CAUGHT_S = 5.0
DISK_BYTES = 8 << 20


def _kill(pid: int, number: int = signal.SIGKILL) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


# -- on the pilot's side ------------------------------------------------------------------------------------------


def agent(field: Field) -> bool:
    """Kill an agent."""
    for pilot in field.pilots(PilotState.ACTIVE):
        if _kill(pilot.pid):
            field.expect_none_of(pilot)
            return True
    return False


def guard(field: Field) -> bool:
    """Kill the process that watches over an agent."""
    for pilot in field.pilots(PilotState.ACTIVE):
        if (its_parent := parent(pilot.pid)) > 1 and _kill(its_parent):
            field.expect_none_of(pilot)
            return True
    return False


def guard_of_daemon(field: Field) -> bool:
    """Kill the process that watches over an agent while a task has a daemon with an environment of its own."""
    for pilot in field.pilots(PilotState.ACTIVE):
        with contextlib.suppress(TimeoutError):
            wait_until(lambda pilot=pilot: field.daemons_of(pilot), 2.0)  # type: ignore[misc]
            return guard(field)
    return False


def sessions(field: Field) -> bool:
    """Kill agent and guard in one moment, as batch systems do; tasks are in sessions of their own."""
    for pilot in field.pilots(PilotState.ACTIVE):
        both = [parent(pilot.pid), pilot.pid]
        if both[0] > 1 and all(_kill(pid, signal.SIGSTOP) for pid in both):
            for pid in both:
                _kill(pid)
            field.expect_none_of(pilot)
            return True
    return False


def machine(field: Field) -> bool:
    """Kill agent, guard and all tasks of a pilot in one moment, as when a machine dies."""
    for pilot in field.pilots(PilotState.ACTIVE):
        both = [parent(pilot.pid), pilot.pid]
        if both[0] > 1 and all(_kill(pid, signal.SIGSTOP) for pid in both):
            while tasks := field.tasks_of(pilot):
                for pid in (*both, *tasks):
                    _kill(pid)
                time.sleep(0.001)
            for pid in both:
                _kill(pid)
            return True
    return False


def directory(field: Field) -> bool:
    """Take a pilot's directory away, as a user or a purge of old files does: the pilot has to notice, and to leave."""
    for pilot in field.pilots(PilotState.ACTIVE):
        place = Path(pilot.directory)
        if field.dice.random() < 0.5:
            place.rename(place.with_name(f"{place.name}.away"))
        else:
            shutil.rmtree(place, ignore_errors=True)
            if place.exists():  # the agent has put something there meanwhile
                return False
        field.work.let_end()  # the pilot leaves when its tasks have ended
        return "directory" in _reason(field, pilot)
    return False


def pilots_disk(field: Field) -> bool:
    """Leave no room, or no inodes, on the pilots' disk for a while in which the store takes no results."""
    if not field.pilots(PilotState.ACTIVE):
        return False
    with _no_room(inodes=field.dice.random() < 0.5):
        server_sleeps(field)
    return True


def agent_on_full_disk(field: Field) -> bool:
    """Kill an agent while there is no room on the pilots' disk."""
    for pilot in field.pilots(PilotState.ACTIVE):
        with _no_room(inodes=False):
            if not _kill(pilot.pid):
                return False
            field.expect_none_of(pilot)
            return bool(_reason(field, pilot))
    return False


def pilots_disk_dies(field: Field) -> bool:
    """Let every use of the pilots' disk fail while the store takes no results; then its machine is restarted."""
    for pilot in field.pilots(PilotState.ACTIVE):
        both = [parent(pilot.pid), pilot.pid]
        with field.disks["pilots"].dead():
            server_sleeps(field)
            for pid in both:
                _kill(pid)
            field.expect_none_of(pilot)
        return True
    return False


def _reason(field: Field, pilot: Pilot) -> str:
    """Return why a pilot has ended, once it has."""
    wait_until(lambda: pilot.id not in {each.id for each in field.pilots()}, _WAIT_S)
    return next(each.reason for each in field.pilots(*PILOT_FINAL) if each.id == pilot.id)


@contextlib.contextmanager
def _no_room(*, inodes: bool) -> Iterator[None]:
    """Fill the pilots' disk."""
    ballast = pilots_place() / "ballast"
    ballast.mkdir()
    try:
        with contextlib.suppress(OSError):
            if inodes:
                for number in itertools.count():
                    (ballast / str(number)).touch()
            with (ballast / "bytes").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        yield
    finally:
        shutil.rmtree(ballast)


def tree(field: Field) -> bool:
    """Kill all processes of a task."""
    found = sorted(field.tasks())
    field.dice.shuffle(found)
    for pid in found:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            own = next((os.fsdecode(word) for word in words if word.startswith(b"PILOTMTC_TASK_ID=")), "")
            if not own:  # it has just ended: a zombie has an empty environment
                continue
            for each in field.tasks() & processes_with(f"{own}\0").keys():
                _kill(each)
            return _ended_by_signal(field, TaskId(int(own.partition("=")[2])))
    return False


def _ended_by_signal(field: Field, task: TaskId) -> bool:
    """Return whether an attempt of a task has; it may have been over already, but for what it had left behind."""
    with contextlib.suppress(TimeoutError):
        return wait_until(
            lambda: any(one.cause is Cause.SIGNAL for one in field.store.call(GetTask(task)).attempts), _CAUGHT_S
        )
    return False


# -- on the store's side ------------------------------------------------------------------------------------------


def server(field: Field) -> bool:
    """Kill the store's server."""
    return _kill(field.server())


def server_sleeps(field: Field) -> bool:
    """Stop the store's server for longer than a pilot's lease, or nearly; that is no pilot's fault."""
    well = field.pilots(PilotState.ACTIVE)
    pid = field.server()
    if not _kill(pid, signal.SIGSTOP):
        return False
    time.sleep(field.dice.uniform(0.5, 1.3) * LEASE_S)
    there = _kill(pid, signal.SIGCONT)
    field.expect_none_dropped(well)
    return there


def store_moved(field: Field) -> bool:
    """Move the store away under its server and, soon or when that has noticed, back."""
    store, away = field.home / "store.db", field.home / "away.db"
    well = field.pilots(PilotState.ACTIVE)
    pid = field.server()
    store.rename(away)
    try:
        if field.dice.random() < 0.8:
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), _WAIT_S)
            time.sleep(field.dice.uniform(0.0, 1.0))
        made = store.exists()  # by somebody who should have waited
    finally:
        away.rename(store)
    field.expect_none_dropped(well)
    field.dropped += made
    return True


def serve(field: Field) -> bool:
    """Kill a serve that waits while the server talks with its client."""
    server = field.server()
    waiting = [pid for pid, words in processes_with("SSH_CONNECTION=").items()
               if str(field.home) in words and "serve" in words and pid != server]  # fmt: skip
    return bool(waiting) and _kill(field.dice.choice(waiting))


def disk(field: Field) -> bool:
    """Leave no room on the store's disk for a while."""
    ballast = field.home / "ballast"
    full = False
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        until = time.monotonic() + field.dice.uniform(0.3, 1.5)
        while time.monotonic() < until:
            try:
                field.store.call(Submit(f"probe-{time.monotonic_ns()}", name="x" * 20_000, last=True))
            except StoreError:
                full = True
            time.sleep(0.02)
    finally:
        ballast.unlink()
    return full


def store_disk_dies(field: Field) -> bool:
    """Let every use of the store's disk fail for a while, then the machine; what was acknowledged is there again."""
    pid = field.server()
    with field.disks["store"].dead():
        time.sleep(field.dice.uniform(0.0, 1.0))
        _kill(pid)
        field.sshd.cut()
    return True


def clock(field: Field) -> bool:
    """Set the clock of the store's host, as its server sees it, on or back by a day or so."""
    file = field.home / "clock"
    jump = field.dice.choice((-1, 1)) * field.dice.randint(3600, 100_000)
    file.write_text(f"{jump:+d}\n")

    def jumped() -> bool:
        campaign = field.store.call(Submit(f"clock-{time.monotonic_ns()}", last=True)).campaign
        created = field.store.call(GetCampaigns(id=campaign)).campaigns[0].created_at
        return abs(created - time.time() - jump) < 600

    with contextlib.suppress(TimeoutError):
        return wait_until(jumped, 5.0)
    return False


# -- between them -------------------------------------------------------------------------------------------------


def connection(field: Field) -> bool:
    """Kill what serves the SSH connections."""
    there = bool(field.sshd.connections())
    field.sshd.cut()
    return there


def sshd(field: Field) -> bool:
    """Kill sshd with all its connections, and start it after a while."""
    there = bool(field.sshd.connections())
    field.sshd.stop()
    time.sleep(field.dice.uniform(0.1, 1.5))
    field.sshd.restart()
    return there


def link(field: Field) -> bool:
    """Let nothing pass between agents and store for longer than the lease; perhaps another pilot comes meanwhile."""
    away = {pilot.id for pilot in field.pilots(PilotState.ACTIVE)}
    if not away:
        return False
    field.proxy.stall()
    try:
        wait_until(lambda: away - {pilot.id for pilot in field.pilots(PilotState.ACTIVE)}, _WAIT_S)
        if field.dice.random() < 0.5:
            field.start(field.url)
        time.sleep(field.dice.uniform(0.0, 1.0))
        if field.dice.random() < 0.5:
            field.proxy.cut()
    except TimeoutError:
        return False
    finally:
        field.proxy.resume()
    return True


def slow(field: Field) -> bool:
    """Let little pass between agents and store, for some leases: as long as it flows nobody is lost.

    Leases are short here. A packet of SSH has up to 32 kB, and the server sees it when it is whole: a link that needs a
    lease for a packet is down.
    """
    well = field.pilots(PilotState.ACTIVE)
    field.proxy.rate = 150_000.0 / LEASE_S
    try:
        passed = field.proxy.passed_bytes
        time.sleep(field.dice.uniform(2.0, 3.0) * LEASE_S)
        field.expect_none_dropped(well)
        return field.proxy.passed_bytes > passed
    finally:
        field.proxy.rate = 0.0


def cuts(field: Field) -> bool:
    """Cut all connections in the middle of a word."""
    before = field.proxy.cuts
    field.proxy.delay_s = field.dice.choice((0.0, 0.005))
    field.proxy.cut_after(int(20_000 ** field.dice.random()))  # when there is little to do, little passes
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: field.proxy.cuts > before, 5.0)
    return field.proxy.cuts > before


def several(field: Field) -> bool:
    """Do one thing or another, as life does."""
    choice = (
        agent,
        guard,
        guard_of_daemon,
        sessions,
        machine,
        server,
        server_sleeps,
        store_moved,
        serve,
        connection,
        sshd,
        link,
        cuts,
    )
    return field.dice.choice(choice)(field)
