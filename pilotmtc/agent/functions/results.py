"""How calls have ended, as the store is told."""

import os
import sys
import time

from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.process import FunctionWorker
from pilotmtc.agent.node.capture import Captures, Harvest
from pilotmtc.agent.node.supervisor import WORDS, Supervisor, immortal
from pilotmtc.model import Claimed, Result, Value
from pilotmtc.states import Cause
from pilotmtc.text.endings import signal_name

_NOTHING: Harvest = (b"", 0, None, "", None)
_CAUSES = {
    frames.RETURNED: (Cause.EXIT, 0),
    frames.RAISED: (Cause.EXIT, 1),
    frames.UNLOADED: (Cause.LAUNCH_ERROR, None),
    frames.FAULT: (Cause.NODE_LOST, None),
}
SETUP_DEATHS = 3  # if so many workers die in the initializer, one after the other, it is no chance
_LAST_LINE_CHARS = 300


def how_ended(code: int) -> str:
    """Return how a worker has ended: with its exit code, or by a signal if that is negative."""
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal_name(-code)}"


class Results:
    """Makes the results of a node's calls.

    Parameters
    ----------
    name
        The node's.
    supervisor, captures
        Of the node.
    """

    def __init__(self, name: str, supervisor: Supervisor, captures: Captures) -> None:
        self._name = name
        self._supervisor = supervisor
        self._captures = captures

    def ended(self, worker: FunctionWorker, claimed: Claimed, end: frames.End) -> Result:
        """Return the result of a call that its worker has ended."""
        out: Harvest = (end.out, len(end.out), None, "", None)
        err: Harvest = (end.err, len(end.err), None, "", None)
        if end.waits:
            out, err = self._harvest(worker, claimed)
        cause, code = _CAUSES[end.outcome]
        text, message = (end.text, None) if code is not None else ("", end.text)
        value = Value(end.value, end.digest, end.size) if end.size else None
        lost = out[3] or err[3]
        if worker.process.cause is not None:  # it has ended because it was told to, if not at once
            cause, code, text, value = worker.process.cause, None, "", None
            message = WORDS.get(cause)
        elif lost and code == 0:
            cause, code, text, value = Cause.NODE_LOST, None, "", None
            message = f"its output could not be kept: {lost}"
        return Result(
            claimed.task, claimed.attempt, cause, code, None, self._name, worker.process.slot,
            time.time() - (time.monotonic() - end.began), end.elapsed_s, end.cpu_s, end.memory, out[0], err[0], out[1],
            err[1], out[2], err[2], message, out[4], err[4], value, text,
        )  # fmt: skip

    def died(self, worker: FunctionWorker, claimed: Claimed, code: int | None, cpu_s: float, now: float) -> Result:
        """Return the result of a call whose worker has ended.

        Parameters
        ----------
        code
            Its exit code, or the negative number of the signal that has killed it; None if it cannot be killed.
        cpu_s
            What it has used in its life.
        """
        out, err = self._harvest(worker, claimed)
        cause, exit_code, number, message = self._why(worker, code)
        if worker.initializing and cause in (Cause.EXIT, Cause.SIGNAL) and code is not None:
            message = (
                f"{frames.SETUP_FAILED}: {SETUP_DEATHS} workers in a row died in it; the last one {how_ended(code)}"
            )
            cause, exit_code, number = Cause.LAUNCH_ERROR, None, None
        elif not worker.ready and cause is Cause.EXIT:
            last = err[0].strip().rpartition(b"\n")[2].decode("utf-8", "replace")[:_LAST_LINE_CHARS]
            python = worker.kind.python or sys.executable
            message = (
                f"the function worker could not start: {python} ended with exit code {code}: {last or 'no message'}; "
                "it must be Python 3.9 or later (python=)"
            )
            cause, exit_code = Cause.LAUNCH_ERROR, None
        ran_s = now - worker.since
        return Result(
            claimed.task, claimed.attempt, cause, exit_code, number, self._name, worker.process.slot,
            time.time() - ran_s, ran_s, max(cpu_s - worker.cpu_s, 0.0), worker.process.peak, out[0], err[0], out[1],
            err[1], out[2], err[2], message, out[4], err[4],
        )  # fmt: skip

    def not_run(
        self, claimed: Claimed, slot: str, message: str, value: bytes = b"", worker: FunctionWorker | None = None
    ) -> Result:
        """Return the result of a call that cannot be run.

        Parameters
        ----------
        value
            The pickled exception that is why.
        worker
            What this has written belongs to it.
        """
        out, err = (_NOTHING, _NOTHING) if worker is None else self._harvest(worker, claimed)
        return Result(
            claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, node=self._name, slot=slot, started_at=time.time(),
            stdout=out[0], stderr=err[0], stdout_bytes=out[1], stderr_bytes=err[1], stdout_path=out[2],
            stderr_path=err[2], message=message, stdout_crc=out[4], stderr_crc=err[4],
            value=Value(value, "", len(value)) if value else None,
        )  # fmt: skip

    def _why(self, worker: FunctionWorker, code: int | None) -> tuple[Cause, int | None, int | None, str | None]:
        """Return cause, exit code, signal and message of the call that ends with its worker."""
        cause = worker.process.cause
        if code is None:
            return cause or Cause.NODE_LOST, None, None, immortal(worker.process.pid)
        exit_code, number = (code, None) if code >= 0 else (None, -code)
        if worker.trouble:
            return Cause.NODE_LOST, None, None, worker.trouble
        if cause is not None:
            return cause, exit_code, number, WORDS.get(cause)
        fault = self._supervisor.fault("", well=False) if worker.process.here else ""
        if fault:
            return Cause.NODE_LOST, None, None, fault
        if number is not None:
            words = "the function worker was killed in the middle of the call"
            return Cause.SIGNAL, None, number, words if worker.ready else "the function worker was killed as it started"
        # Exit code 0 would say that the call has returned.
        words = f"the function worker ended in the middle of the call, with exit code {code}"
        return Cause.EXIT, code or 1, None, words

    def _harvest(self, worker: FunctionWorker, claimed: Claimed) -> tuple[Harvest, Harvest]:
        """Take what a call has written out of the worker's files."""
        found = []
        for kind, fd, dropped in (("out", worker.out, worker.dropped[0]), ("err", worker.err, worker.dropped[1])):
            again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # at its beginning
            name = f"{claimed.task}.{claimed.attempt}.{kind}"
            content, size, path, trouble, crc = self._captures.harvest(again, name, worker.process.keep_bytes)
            found.append((content, size + dropped, path, trouble, crc))
        worker.empty_files()
        return found[0], found[1]
