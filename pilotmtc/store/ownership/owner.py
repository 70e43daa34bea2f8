"""The owner of a store on a network file system holds a lease, kept in the directory ``store.db.owner``.

A claim is a file there whose name is a number; the highest one counts. A host claims the store by creating the next
number, which the file system lets only one host do. From then on, only that host writes the file: every `RENEW_S` it
replaces the file (by rename) with one that has a higher sequence number. So no host can overwrite another's claim.

The owner trusts its claim for three periods after the start of the last renewal, by a clock that includes suspension,
and only while it sees no higher number. Other hosts wait for six periods without a change, by their own clocks. Clocks
of different hosts are never compared.
"""

import contextlib
import enum
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, StoreError
from pilotmtc.store.ownership.filesystem import owner_directory

log = logging.getLogger("pilotmtc.store.server")

RENEW_S = 10.0
RENEW_VARIABLE = "PILOTMTC_SERVER_RENEW_S"
BELIEVED = 3  # periods
SILENT = 6
MAX_RECORD_BYTES = 4096
EXIT_MOVED = 9
_JOIN_S = 10.0
_SHORT = Annotated[str, Meta(min_length=1, max_length=255)]


class Host(Struct, frozen=True):
    """A host since its last boot: its name, its boot id, and the namespace of its process ids."""

    name: _SHORT
    boot: _SHORT
    space: _SHORT


class Record(Struct, frozen=True):
    """The content of a claim's file.

    Attributes
    ----------
    host, pid, started
        The process, and when it was started (in the kernel's ticks, so that a reused process id is noticed).
    token
        A random value for this claim.
    sequence
        Grows with each renewal.
    renew_s
        How often it is renewed.
    state
        ``claimed``: the store's file is being made safe; ``serving``; ``released``: the claim has ended.
    socket
        The server's socket, for ``serve`` on the same host.
    """

    host: Host
    pid: Annotated[int, Meta(ge=1, le=1 << 31)]
    started: Annotated[int, Meta(ge=0, le=1 << 62)]
    token: _SHORT
    renew_s: Annotated[float, Meta(gt=0, le=3600)]
    sequence: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    state: Literal["claimed", "serving", "released"] = "claimed"
    socket: Annotated[str, Meta(max_length=1000)] = ""


class Seen(Struct, frozen=True):
    """The highest claim, as it was read; number 0: there is none."""

    number: int = 0
    data: bytes = b""


class Verdict(enum.Enum):
    """What a claim means for a host that needs the store."""

    FREE = "released, or nobody's"
    DEAD = "of a process of this host that is no more"
    HERE = "of a process of this host"
    ELSEWHERE = "of another host"
    SILENT = "of another host that has not been heard of for long"


_decoder = msgspec.json.Decoder(Record)


def parse(data: bytes) -> Record:
    """Parse the record in `data`, which may be followed by blanks.

    Raises
    ------
    StoreError
        If it is invalid.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise StoreError(f"an owner's record of more than {MAX_RECORD_BYTES} bytes is none of pilotmtc's")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"not an owner's record: {error}") from error


def judge(seen: Seen, here: Host, alive: Callable[[int, int], bool], unchanged_s: float, renew_s: float) -> Verdict:
    """Return what the highest claim means for `here`.

    Parameters
    ----------
    alive
        Returns whether the process with this id and start is alive on this host.
    unchanged_s
        How long this process has seen `seen` without a change.
    renew_s
        This process's own period; the longer of this and the record's is used.
    """
    if seen.number == 0:
        return Verdict.FREE
    try:
        record = parse(seen.data)
    except StoreError:  # incomplete or invalid, so its owner is unknown: it is valid as long as any other
        return Verdict.SILENT if unchanged_s > SILENT * renew_s else Verdict.ELSEWHERE
    if record.state == "released":
        return Verdict.FREE
    if record.host == here:
        return Verdict.HERE if alive(record.pid, record.started) else Verdict.DEAD
    return Verdict.SILENT if unchanged_s > SILENT * max(renew_s, record.renew_s) else Verdict.ELSEWHERE


# -- the edge ---------------------------------------------------------------------------------------------------


def period_s() -> float:
    """Return the period of renewals.

    Raises
    ------
    ConfigError
        If the environment variable for it is invalid.
    """
    word = os.environ.get(RENEW_VARIABLE, str(RENEW_S))
    try:
        period = float(word)
    except ValueError:
        period = 0.0
    if not 0.01 <= period <= 3600:
        raise ConfigError(f"{RENEW_VARIABLE}={word}: give seconds between 0.01 and 3600, the same on all hosts")
    return period


def this_host() -> Host:
    """Return the host that this process runs on."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError as error:
        raise ConfigError(f"a store on a network file system needs /proc: {error}") from error
    return Host(os.uname().nodename, boot, space)


def started_at(pid: int) -> int:
    """Return when a process was started, in ticks; -1 if it does not exist."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Return whether the process with this id and start exists."""
    return started_at(pid) == started


def look(directory: str) -> Seen:
    """Return the highest claim.

    First, a file is created and removed, so that the client of the network file system drops its cached listing.

    Raises
    ------
    OSError
        If the file system fails.
    """
    scratch = os.path.join(directory, f"look-{os.urandom(8).hex()}")
    os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(scratch)
    number = highest(directory)
    return Seen(number, _read(directory, number)) if number else Seen()


def highest(directory: str) -> int:
    """Return the highest claimed number; 0 if there is none."""
    return max((int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit()), default=0)


def _read(directory: str, number: int) -> bytes:
    try:
        with open(os.path.join(directory, str(number)), "rb") as file:
            return file.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError:
        return b""


def _write(path: str, flags: int, record: Record) -> None:
    fd = os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Always of the same length, because a host may use the file size from its cache.
        os.write(fd, msgspec.json.encode(record).ljust(MAX_RECORD_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _stop_at_once() -> None:
    # Exit at once: closing SQLite would remove a file by name that belongs to the new owner now.
    os._exit(EXIT_MOVED)


class Lease:
    """The claim of this process, which a thread renews."""

    def __init__(
        self, directory: str, number: int, record: Record, believed_from: float, stop: Callable[[], None]
    ) -> None:
        self.number = number
        self._directory = directory
        self._path = os.path.join(directory, str(number))
        self._next = os.path.join(directory, str(number + 1))
        self._record = record
        self._until = believed_from + BELIEVED * record.renew_s
        self._stop = stop
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """The name under which other hosts send clients here."""
        return self._record.host.name

    def prove(self) -> None:
        """Check that no other host can own the store now; otherwise exit at once.

        Raises
        ------
        StoreError
            If this cannot be checked at present: nothing may be written then.
        """
        try:
            # If the whole machine was paused, so was its clock. Where all hosts see the same directory, this check is
            # enough; some file systems show an old listing for a while.
            if os.path.exists(self._next) or not os.path.exists(self._path):
                self._stop_if_lost()
            if _boot_time() >= self._until:
                self._renew(anyhow=False)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be renewed, so nothing may be written: {error.strerror}; look at disk and quota"
            ) from error

    def advertise(self, socket: str) -> None:
        """Record that the store is being served, and on which socket."""
        self._renew(state="serving", socket=socket)

    def held(self) -> bool:
        """Return whether no other owner is known; if the lease is lost, the process ends anyway."""
        return not self._ended.is_set()

    def abandon(self) -> None:
        """Stop renewing it; the next owner will make the file safe."""
        self._ended.set()
        self._thread.join(_JOIN_S)

    def release(self) -> None:
        """Let the next host claim it at once."""
        self.abandon()
        try:
            self._renew(state="released", socket="")
        except OSError as error:  # the next host will wait until the lease has expired
            log.error("%s cannot be released: %s", self._path, error)

    def forget_older(self) -> None:
        """Remove the claims before this one."""
        for name in os.listdir(self._directory):
            if name.partition(".")[0].isdigit() and int(name.partition(".")[0]) < self.number:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._directory, name))

    def _keep(self) -> None:
        while not self._ended.wait(self._record.renew_s):
            try:
                self._renew()
            except OSError as error:
                log.error("%s cannot be renewed: %s", self._path, error)

    def _renew(self, anyhow: bool = True, **changes: str) -> None:
        with self._lock:
            if not anyhow and _boot_time() < self._until:
                return  # the renewing thread was faster
            began = _boot_time()
            record = replace(self._record, sequence=self._record.sequence + 1, **changes)
            self._stop_if_lost()
            _write(f"{self._path}.part", os.O_TRUNC, record)
            try:
                os.rename(f"{self._path}.part", self._path)
            except FileNotFoundError:  # removed by a later owner
                self._stop_if_lost()
                raise
            # Only now, because a host that claims after this will see the change and step back.
            self._stop_if_lost()
            self._record = record
            self._until = began + BELIEVED * record.renew_s

    def _stop_if_lost(self) -> None:
        try:
            found = highest(self._directory)
        except FileNotFoundError:
            found = 0
        if found != self.number:
            log.error("claim %d of %s is no longer the highest: leaving at once", self.number, self._directory)
            self._stop()


def claim(store: str, seen: Seen, here: Host, renew_s: float, stop: Callable[[], None] = _stop_at_once) -> Lease | None:
    """Claim the store, whose highest claim `seen` has ended.

    Returns None if another host was faster, or if that claim was renewed after all.

    Raises
    ------
    OSError
        If the file system fails.
    """
    directory = owner_directory(store)
    began = _boot_time()
    record = Record(here, os.getpid(), started_at(os.getpid()), os.urandom(16).hex(), renew_s)
    number = seen.number + 1
    path = os.path.join(directory, str(number))
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        if os.path.exists(path):  # SFTP has no specific error for an existing file
            return None
        raise
    try:
        _write(path, 0, record)
    except OSError:
        os.unlink(path)
        raise
    # A living owner sees this number before it trusts its own claim again; a renewal before that is seen here.
    if highest(directory) != number or (seen.number and _read(directory, seen.number) != seen.data):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return None
    return Lease(directory, number, record, began, stop)
