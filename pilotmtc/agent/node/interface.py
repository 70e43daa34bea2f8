"""What the supervisor of a node's tasks and a launcher, which starts them, know of each other."""

import errno
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pilotmtc.agent.core.events import Start
from pilotmtc.errors import TaskError
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause

# Errors that pass: nothing is wrong with the task.
NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT})


class LaunchError(TaskError):
    """A task could not be started; the text says why."""


# With the exit code, or the negative number of the signal, None if it cannot be killed; CPU seconds; and the time.
Over = Callable[[int | None, float, float], None]


class Process:
    """A task that runs: the process that was started for it, and what its supervisor notes of it.

    A function worker is one, too, of task 0: it is looked after in the same way, and ends in its own.
    """

    __slots__ = (
        "append", "attempt", "began", "cause", "cores", "err", "err_path", "fd", "first", "grace_s", "here",
        "keep_bytes", "kill_at", "kills", "mark", "memory_bytes", "out", "out_path", "over", "peak", "pid", "slot",
        "started_at", "task", "wide",
    )  # fmt: skip

    def __init__(self, task: int, attempt: int, slot: str) -> None:
        self.task = task
        self.attempt = attempt
        self.pid = 0
        self.slot = slot
        self.out = -1  # the pipe to read its output from, if the user has not named a file
        self.err = -1
        self.here = False  # it runs in the pilot's directory
        self.keep_bytes = 0  # how much of each to keep
        self.fd = -1
        self.began = 0.0
        self.started_at = 0.0
        self.cores: tuple[int, ...] = ()  # those that it is still to be bound to
        self.cause: Cause | None = None  # why it was stopped, if it was
        self.first = signal.SIGTERM  # what it is stopped with
        self.grace_s = 0.0
        self.kill_at = 0.0
        self.kills = 0  # how often KILL was sent
        self.mark = 0  # the mark of it and all that descends from it, see `guard`
        self.memory_bytes = 0
        self.peak = 0
        self.out_path: str | None = None
        self.err_path: str | None = None
        self.append = False  # it appends to files that may be shared
        self.wide = False
        self.over: Over | None = None  # what is called when a function worker has ended


class Launcher(Protocol):
    """Starts tasks."""

    @property
    def mark(self) -> int:
        """The mark, as `guard` has it, of this process and all that it starts but for tasks; 0 if there are none."""
        ...

    @property
    def pin(self) -> bool:
        """Whether tasks are bound to their cores."""
        ...

    def launch(self, start: Start, *, bind: bool, stay: bool) -> Process:
        """Start a task.

        Parameters
        ----------
        bind
            Bind it to its cores from the start; else its supervisor does so later, to the `cores` of the process.
        stay
            The calling thread stays bound to them, too: it will wait for the task.

        Raises
        ------
        LaunchError
            If the task cannot be started. An `OSError` is not the task's fault.
        """
        ...

    def launch_worker(
        self, argv: list[str], slot: Slot, *, env: Mapping[str, str], cwd: str | None, files: Sequence[tuple[int, int]]
    ) -> Process:
        """Start a function worker on the cores of `slot`.

        Parameters
        ----------
        env
            Variables beside those that all tasks have.
        cwd
            Where it runs; None is the pilot's directory.
        files
            Which descriptors it gets, and under which numbers; the former are all higher than the latter.

        Raises
        ------
        LaunchError
            If the worker cannot be started. An `OSError` is not its fault.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
