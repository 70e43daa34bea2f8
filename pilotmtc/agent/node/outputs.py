"""The outputs of tasks: from their pipes, or in the files that they name."""

import os

from pilotmtc.agent.node.capture import Captures, Harvest, tail
from pilotmtc.agent.node.interface import Process
from pilotmtc.model import TaskId
from pilotmtc.protocol.records import TAIL_BYTES, OutputTail


class Outputs:
    """The outputs of a node's tasks.

    Parameters
    ----------
    captures
        Reads the pipes.
    """

    def __init__(self, captures: Captures) -> None:
        self._captures = captures

    def started(self, process: Process) -> None:
        """Note a new task: if tasks write much, its pipes are read from the start."""
        if self._captures.large:
            self.read_on(process)

    def read_on(self, process: Process) -> None:
        """Read its pipes from now on, while it runs."""
        for kind, fd in (("out", process.out), ("err", process.err)):
            if fd >= 0:
                self._captures.watch(fd, _name(process, kind), process.keep_bytes)

    def so_far(self, process: Process) -> OutputTail:
        """Return the output so far."""
        out, out_bytes = self._end(process, "out", process.out, process.out_path)
        err, err_bytes = self._end(process, "err", process.err, process.err_path)
        return OutputTail(
            TaskId(process.task), process.attempt, out, err, out_bytes, err_bytes, process.out_path, process.err_path
        )

    def collect(self, process: Process) -> tuple[Harvest, Harvest]:
        """Return the whole output of each stream, and close the pipes."""
        out = self._collect(process, "out", process.out, process.out_path)
        return out, self._collect(process, "err", process.err, process.err_path)

    def drop(self, process: Process) -> None:
        """Close the pipes of a task that could not be started."""
        for kind, fd in (("out", process.out), ("err", process.err)):
            if fd >= 0:
                self._captures.harvest(fd, _name(process, kind), process.keep_bytes)

    def close(self) -> None:
        """Close everything. All tasks must have ended."""
        self._captures.close()

    def _end(self, process: Process, kind: str, fd: int, path: str | None) -> tuple[bytes, int]:
        if path is not None:
            return (b"", 0) if process.append else tail(path, TAIL_BYTES)
        return self._captures.watch(fd, _name(process, kind), process.keep_bytes).end(TAIL_BYTES)

    def _collect(self, process: Process, kind: str, fd: int, path: str | None) -> Harvest:
        if path is None:
            return self._captures.harvest(fd, _name(process, kind), process.keep_bytes)
        if process.append:  # the file is shared, so its own part is not known
            return b"", 0, path, "", None
        try:
            return b"", os.stat(path).st_size, path, "", None
        except OSError:  # the task has moved the file
            return b"", 0, path, "", None


def _name(process: Process, kind: str) -> str:
    return f"{process.task}.{process.attempt}.{kind}"
