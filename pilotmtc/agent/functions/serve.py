"""A function worker: makes calls, one after the other, until it is told to quit.

It is started with a socket for calls and results, a pipe on which all workers ring for the node, and a counter. The
socket brings a call a datagram, which nobody else has: what is not taken out of it yet, the node may take back. A
result is sent before the next call is taken. So the node always knows which call it is that runs. To be woken for each
result would cost the node more than the result does: it is rung for when no call waits, or when some time has passed.

It loads little: there may be one on each core, and each starts where the user waits for the first call.
"""

from __future__ import annotations  # for Python 3.9

import faulthandler
import fcntl
import os
import select
import sys
import time

from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.calls import Calls, Values, bounded, flush, renew, version_of

CALLS, BELL, HARVESTED = 3, 4, 5  # descriptors that the node hands over
RING_S = 0.001
_OUTPUT_BYTES = 8 * 1024  # of a stream, in a result's frame
_LOOK_S = 0.05  # how old the peak of memory may be
_CANNOT = 1


class Worker(Calls):
    """Runs calls that its node sends.

    Parameters
    ----------
    number
        What it rings with.
    values
        Values by digest.
    """

    def __init__(self, number: int, values: Values) -> None:
        super().__init__(values)
        self._name = number.to_bytes(4, "little")
        self._out = _own_copy(1)  # the user may close or redirect the others
        self._err = _own_copy(2)
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._reset = _open_reset()
        self._memory = 0
        self._looked_at = 0.0
        self._cpu = 0.0  # used until the last call ended
        os.register_at_fork(after_in_child=self._leave_to_parent)
        faulthandler.enable(self._err)

    def _leave_to_parent(self) -> None:
        """Keep a copy of this process from taking calls."""
        self.forked = True
        for fd in (CALLS, BELL, HARVESTED):
            os.close(fd)

    def initialize(self, digest: str, version: tuple[int, int]) -> None:
        """Run the initializer; exit if that is impossible."""
        self._send(bytes([frames.INITIALIZING]))  # so that the node knows what it is that has killed this process
        refused = self.set_up(digest, version)
        if refused is not None:
            self._refuse(*refused)
            os._exit(_CANNOT)

    def _refuse(self, why: str, error: bytes) -> None:
        """Tell the node that this worker will never be ready."""
        flush()
        self._send(frames.failed_frame(bounded(why), error))
        self._ring()

    def run(self) -> None:
        """Run calls until there is nobody who sends them."""
        read, monotonic = os.read, time.monotonic
        take, call = self._take, frames.CALL
        size = frames.FRAME_BYTES
        self._send(bytes([frames.READY]))
        self._cpu = time.process_time()
        unrung_at = 0.0  # when the first result was sent that was not rung for
        waiting = select.poll()
        waiting.register(CALLS, select.POLLIN)
        self._ring()
        while True:
            try:
                frame = read(CALLS, size)
            except BlockingIOError:
                if unrung_at:
                    unrung_at = 0.0
                    self._ring()
                waiting.poll()
                continue
            if frame and frame[0] == frames.IN_FILE:
                frame = self._from_file(frame)
            if not frame or frame[0] == frames.QUIT:
                return
            if frame[0] != call:
                os.environ["PILOTMTC_CORE_LIST"] = frame[1:].decode()
                continue
            began = monotonic()
            waits = take(frame, began)
            if self.forked:  # a copy of this process has come back from the function: it is not the worker
                flush()
                os._exit(0)
            ended = monotonic()
            if not unrung_at:
                unrung_at = ended
            if waits or ended - began > RING_S or ended - unrung_at > RING_S:
                unrung_at = 0.0
                self._ring()
            if waits:
                os.read(HARVESTED, 8)

    def _take(self, frame: bytes, began: float) -> bool:
        """Run a call and send what came of it; return whether its output waits in the files."""
        call = frames.Call(frame)
        outcome, value, kept, text = self.make(call)
        if self.forked:
            return False
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            fault = ""
        except Exception:  # noqa: BLE001 -- the user may have closed or replaced them
            fault = flush()
        if fault and outcome == frames.RETURNED:
            outcome, text = frames.FAULT, f"its output could not be kept: {fault}"
        out, err, waits = self._output()
        ended = time.monotonic()
        cpu = time.process_time()
        cpu_s, self._cpu = cpu - self._cpu, cpu  # what it took to get the call is its, too
        if ended - began > RING_S or ended - self._looked_at > _LOOK_S:
            self._look(ended)
        self._send(
            frames.ended_frame(
                outcome, call.task, call.attempt, (began, ended - began, cpu_s), self._memory, value, bounded(text),
                out, err, kept=kept, waits=waits,
            )
        )  # fmt: skip
        return waits

    # -- the node -----------------------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        try:
            os.write(CALLS, frame)
        except BlockingIOError:
            self._ring()
            room = select.poll()
            room.register(CALLS, select.POLLOUT)
            while True:
                room.poll()
                try:
                    os.write(CALLS, frame)
                except BlockingIOError:
                    continue
                return

    def _ring(self) -> None:
        os.write(BELL, self._name)

    def _from_file(self, frame: bytes) -> bytes:
        path = frames.read_file_frame(frame)
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        return data

    def _output(self) -> tuple[bytes, bytes, bool]:
        """Return what was written to each stream, and whether it is too much for a frame."""
        out_bytes, err_bytes = os.lseek(self._out, 0, 2), os.lseek(self._err, 0, 2)
        if not out_bytes and not err_bytes:
            return b"", b"", False
        if out_bytes > _OUTPUT_BYTES or err_bytes > _OUTPUT_BYTES:
            return b"", b"", True
        out, err = os.pread(self._out, out_bytes, 0), os.pread(self._err, err_bytes, 0)
        if out_bytes:
            os.ftruncate(self._out, 0)
        if err_bytes:
            os.ftruncate(self._err, 0)
        return out, err, False

    def _look(self, now: float) -> None:
        """Find out the peak of memory since the last look, and begin a new one."""
        self._looked_at = now
        status = os.pread(self._status, 8192, 0)
        begin = status.find(b"VmHWM:")
        if begin >= 0:
            self._memory = int(status[begin + 6 : status.index(b"kB", begin)]) * 1024
        if self._reset >= 0:
            os.write(self._reset, b"5")


def _own_copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


def _open_reset() -> int:
    """Return a descriptor that resets the peak of memory; -1 where the system has none."""
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def run(number: str, directory: str, setup: str, version: str) -> None:
    """Run a worker: its number, the directory of values, the digest of its setup, and the version of its functions."""
    for fd in (CALLS, BELL, HARVESTED):
        os.set_inheritable(fd, False)
    renew("stdout")  # line by line, so that what a call prints can be seen
    worker = Worker(int(number), Values(directory))
    if setup:
        worker.initialize(setup, version_of(version))
    worker.run()
