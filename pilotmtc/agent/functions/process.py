"""A function worker as its node sees it: a process, the calls that it was sent, and what it writes."""

import contextlib
import fcntl
import os
import socket
from collections import deque
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.agent.core.events import Start
from pilotmtc.agent.functions import frames
from pilotmtc.agent.node.interface import Process
from pilotmtc.model import Call, Claimed, Function, TaskId, Value
from pilotmtc.protocol.records import TAIL_BYTES, OutputTail
from pilotmtc.resources.slots import Slot

_PROGRAM_FDS = (3, 4, 5)  # as in `worker`: its socket, the bell, the counter
_ABOVE = 10
_SPARE_BYTES = 64 << 20
_NOTHING = Call()


class Kind(Struct, frozen=True):
    """What a worker is started with: it runs all calls that want the same, and no others.

    Attributes
    ----------
    task
        Of the only task that it is for, if its variables hold values of that; else 0.
    """

    python: str
    setup: str
    version: tuple[int, int]
    cores: int
    gpus: tuple[int, ...]
    cwd: str | None
    env: tuple[tuple[str, str], ...]
    task: int

    @classmethod
    def of(cls, start: Start, function: Function) -> "Kind":
        """Return what the calls of `start` want."""
        template, slot = start.template, start.slots[0]
        env = tuple(sorted(template.env.items()))
        own = any("{" in text for text in (template.cwd or "", *template.env.values()))
        return cls(
            function.python, function.setup, function.version, len(slot.cores), tuple([gpu for gpu, _ in slot.gpus]),
            template.cwd, env, start.claimed.task if own else 0,
        )  # fmt: skip

    def same_but_for_cores(self, other: "Kind") -> bool:
        """Return whether the other wants the same, or as much of it as another number of cores leaves."""
        return replace(self, cores=other.cores) == other


class FunctionWorker:
    """A worker.

    Parameters
    ----------
    number
        What it rings with.
    kind, slot
        What it was started with, and where it runs.
    values
        The directory of values.

    Attributes
    ----------
    process
        Once it has been started.
    out, err
        The files that it writes to.
    flight
        Calls that it was sent, and that are not over: the first one runs, if there is one.
    waiting
        Calls that are to be sent when its socket has room.
    since
        When the first call began, or the worker was started.
    looked
        Whether it was looked for results since then.
    initializing
        Whether it runs the initializer.
    ready
        Whether it has said so.
    served
        How many calls it has ended.
    leave_by
        When it is killed if it does not end by itself, as it was told or has said; 0 before.
    dead
        Whether it has ended.
    trouble
        Why it was killed, if that is its own fault.
    time_limit_s
        How long each of its calls may take; 0 is no limit.
    idle_at
        When it had nothing to do any more.
    cpu_s
        What its calls have used.
    dropped
        How much was left out of the files that the running call writes to: of stdout, of stderr. What it writes at that
        very moment is not counted.
    """

    def __init__(self, number: int, kind: Kind, slot: Slot, values: Path) -> None:
        self.number = number
        self.kind = kind
        self.slot = slot
        self._values = values
        self.process = Process(0, 0, "")
        self.start: Start | None = None
        self.flight: deque[Claimed] = deque()
        self.waiting: deque[Claimed] = deque()
        self.since = 0.0
        self.looked = False
        self.initializing = False
        self.ready = False
        self.served = 0
        self.leave_by = 0.0
        self.dead = False
        self.trouble = ""
        self.time_limit_s = 0.0
        self.idle_at = 0.0
        self.cpu_s = 0.0
        self.dropped = [0, 0]
        self._in_files: dict[tuple[TaskId, int], str] = {}  # calls whose frames were too large
        with contextlib.ExitStack() as opened:
            self._ours, self._theirs = _pair()
            opened.callback(os.close, self._ours)
            opened.callback(os.close, self._theirs)
            self.out = _file()
            opened.callback(os.close, self.out)
            self.err = _file()
            opened.callback(os.close, self.err)
            self._harvested = _raised(os.eventfd(0, os.EFD_CLOEXEC))
            opened.callback(os.close, self._harvested)
            opened.pop_all()

    def files(self, bell: int) -> list[tuple[int, int]]:
        """Return the descriptors that its process gets, and their numbers there."""
        calls, ring, harvested = _PROGRAM_FDS
        return [(self.out, 1), (self.err, 2), (self._theirs, calls), (bell, ring), (self._harvested, harvested)]

    @property
    def busy(self) -> bool:
        """Whether it has calls that are not over."""
        return bool(self.flight or self.waiting)

    def send(self) -> None:
        """Send what waits, as long as there is room. Raises `OSError` if a large call cannot be written to its file."""
        waiting, flight = self.waiting, self.flight
        while waiting:
            try:
                os.write(self._ours, self._frame(waiting[0]))
            except BlockingIOError:
                return
            flight.append(waiting.popleft())

    def move(self, slot: Slot, names: str) -> None:
        """Let an idle worker know that it has other cores, which `names` lists."""
        self.slot = slot
        os.write(self._ours, frames.cores_frame(names))

    def quit(self) -> None:
        """Tell an idle worker to end."""
        os.write(self._ours, bytes([frames.QUIT]))

    def receive(self) -> list[bytes]:
        """Return the frames that it has sent."""
        return _all_of(self._ours)

    def take_back(self, *, all_but_first: bool = False) -> list[Claimed]:
        """Take back the calls that it has not begun, so that it never will; return them.

        `all_but_first`: it keeps the first, begun or not.
        """
        calls: set[tuple[int, int]] = set()
        for frame in _all_of(self._theirs):
            if frame[0] in (frames.CALL, frames.IN_FILE):
                calls.add(frames.attempt_of(frame))
            else:
                os.write(self._ours, frame)
        # The worker may have taken any of them in between.
        back = [claimed for claimed in self.flight if (claimed.task, claimed.attempt) in calls]
        self.flight = deque(claimed for claimed in self.flight if (claimed.task, claimed.attempt) not in calls)
        back += self.waiting
        self.waiting.clear()
        for claimed in back:
            self.over(claimed)
        if all_but_first and back and not self.flight:
            self.waiting.append(back.pop(0))
            self.send()
        return back

    def over(self, claimed: Claimed) -> None:
        """Remove what was left for a call that is over, or was taken back."""
        if self._in_files:
            path = self._in_files.pop((claimed.task, claimed.attempt), None)
            if path is not None:
                with contextlib.suppress(FileNotFoundError):  # the worker has read it
                    os.unlink(path)

    def have_harvested(self) -> None:
        """Let it go on: what the last call has written was taken out of the files."""
        self.empty_files()
        os.eventfd_write(self._harvested, 1)

    def empty_files(self) -> None:
        """Forget what was written."""
        for fd in (self.out, self.err):
            os.ftruncate(fd, 0)
        self.dropped = [0, 0]

    def trim(self) -> None:
        """Drop output of the running call that is far more than is to be kept."""
        keep = self.process.keep_bytes + 1  # so that it is seen to be more
        for number, fd in enumerate((self.out, self.err)):
            size = os.fstat(fd).st_size
            if size > keep + _SPARE_BYTES:
                os.ftruncate(fd, keep)
                self.dropped[number] += size - keep

    def so_far(self) -> OutputTail | None:
        """Return what the call that runs has written so far."""
        if not self.flight:
            return None
        claimed = self.flight[0]
        (out, out_bytes), (err, err_bytes) = _tail(self.out), _tail(self.err)
        return OutputTail(
            claimed.task, claimed.attempt, out, err, out_bytes + self.dropped[0], err_bytes + self.dropped[1]
        )

    def close(self) -> None:
        """Close what is open. Its process must have ended."""
        for fd in (self._ours, self._theirs, self.out, self.err, self._harvested):
            os.close(fd)

    def _frame(self, claimed: Claimed) -> bytes:
        assert self.start is not None
        function = self.start.template.function
        assert function is not None
        frame = frame_of(claimed, function)
        if len(frame) <= frames.FRAME_BYTES:
            return frame
        path = os.path.join(self._values, f".call-{claimed.task}-{claimed.attempt}")
        self._in_files[claimed.task, claimed.attempt] = path
        frames.write_new(path, frame)
        return frames.file_frame(path)


def frame_of(claimed: Claimed, function: Function) -> bytes:
    """Return a call as it is sent to those who make it."""
    call = claimed.call or _NOTHING
    args = call.args
    return frames.call_frame(
        claimed.task, claimed.attempt, function.version, function.code.encode(),
        args.digest.encode() if args.digest else args.data, args_kept=bool(args.digest),
        refers=bool(call.inputs or call.values), given=[_given(value) for value in call.given],
    )  # fmt: skip


def _given(value: Value) -> tuple[int, bytes]:
    return (1, value.digest.encode()) if value.digest else (0, value.data)


def _file() -> int:
    """Return a file without a name; each write goes to its end, wherever that is by then."""
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        fd = fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def _pair() -> tuple[int, int]:
    """Return the two ends of a socket that keeps datagrams in order."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    return _raised(ours.detach()), _raised(theirs.detach())


def _all_of(fd: int) -> list[bytes]:
    """Return the datagrams that are there."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(os.read(fd, frames.FRAME_BYTES))
    return found


def _raised(fd: int) -> int:
    """Return a descriptor for the same with a number that a new process does not need for another."""
    if fd >= _ABOVE:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    finally:
        os.close(fd)


def _tail(fd: int) -> tuple[bytes, int]:
    size = os.fstat(fd).st_size
    return os.pread(fd, TAIL_BYTES, max(size - TAIL_BYTES, 0)), size
