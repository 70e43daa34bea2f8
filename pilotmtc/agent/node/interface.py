"""What the supervisor of a node's tasks and a launcher, which starts them, know of each other."""

import errno
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pilotmtc.agent.core.events import Start
from pilotmtc.agent.node.memory_groups import MemoryGroups
from pilotmtc.errors import TaskError
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause

# Temporary errors, for which the task is not to blame.
NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT})


class LaunchError(TaskError):
    """A task could not be started; the text says why."""


class ProgramError(LaunchError):
    """The program that was to be started cannot be."""


# Called with the exit code, the negative number of a signal, or None if it cannot be killed; CPU seconds; the time.
Over = Callable[[int | None, float, float], None]


class Process:
    """A running task: its process, and the notes of its supervisor.

    A function worker counts as one, of task 0: it is watched in the same way, but ends in its own way.
    """

    __slots__ = (
        "append", "attempt", "began", "cause", "cores", "err", "err_path", "fd", "first", "grace_s", "here",
        "keep_bytes", "kill_at", "kills", "mark", "memory_bytes", "memory_group", "out", "out_path", "over", "peak",
        "pid", "slot", "started_at", "task", "wide",
    )  # fmt: skip

    def __init__(self, task: int, attempt: int, slot: str) -> None:
        self.task = task
        self.attempt = attempt
        self.pid = 0
        self.slot = slot
        self.out = -1  # the pipe of its output, if the user has not named a file
        self.err = -1
        self.here = False  # whether it runs in the pilot's directory
        self.keep_bytes = 0  # how much to keep of each output
        self.fd = -1
        self.began = 0.0
        self.started_at = 0.0
        self.cores: tuple[int, ...] = ()  # cores to which it must still be bound
        self.cause: Cause | None = None  # why it was stopped, if it was
        self.first = signal.SIGTERM  # the first signal to stop it
        self.grace_s = 0.0
        self.kill_at = 0.0
        self.kills = 0  # how often SIGKILL was sent
        self.mark = 0  # the mark of the process and its descendants, see `guard`
        self.memory_bytes = 0
        self.memory_group: Path | None = None  # in which the kernel limits it
        self.peak = 0
        self.out_path: str | None = None
        self.err_path: str | None = None
        self.append = False  # whether it appends to files that may be shared
        self.wide = False
        self.over: Over | None = None  # called when a function worker has ended


class Launcher(Protocol):
    """Starts tasks."""

    @property
    def mark(self) -> int:
        """The mark of this process and its children except tasks, as in `guard`; 0: there are no marks."""
        ...

    @property
    def memory_groups(self) -> MemoryGroups | None:
        """Where the kernel limits the memory of tasks; None if it does not."""
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
            Bind it to its cores from the start; otherwise its supervisor binds it later to the `cores` of the process.
        stay
            Leave the calling thread bound to them as well, because it will wait for the task.

        Raises
        ------
        LaunchError
            If the task cannot be started. For an `OSError`, the task is not to blame.
        """
        ...

    def launch_worker(
        self, argv: list[str], slot: Slot, *, env: Mapping[str, str], cwd: str | None, files: Sequence[tuple[int, int]]
    ) -> Process:
        """Start a function worker on the cores of `slot`.

        Parameters
        ----------
        env
            Variables in addition to those of all tasks.
        cwd
            Its directory; None: the pilot's.
        files
            Descriptors that it gets, each with its number there; all of the former are higher than all of the latter.

        Raises
        ------
        LaunchError
            If the worker cannot be started. For an `OSError`, the worker is not to blame.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
