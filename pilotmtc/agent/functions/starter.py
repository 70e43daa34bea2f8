"""Starting function workers."""

import errno
import fcntl
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pilotmtc.agent.core.events import Start
from pilotmtc.agent.functions.process import FunctionWorker, Kind
from pilotmtc.agent.node.interface import Launcher, LaunchError, Over, ProgramError
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.errors import UsageError
from pilotmtc.system.private_files import make_directory
from pilotmtc.template import expand

PROGRAM = str(Path(__file__).with_name("worker.py"))
_ABOVE = 10  # descriptors that a new worker gets have lower numbers


class WorkerStarter:
    """Starts the function workers of a node.

    Parameters
    ----------
    values
        The directory of values.
    launcher, supervisor
        Of the node.

    Attributes
    ----------
    bell
        The descriptor on which workers ring; -1 before the first was started.
    """

    def __init__(self, values: Path, launcher: Launcher, supervisor: Supervisor) -> None:
        self._values = values
        self._launcher = launcher
        self._supervisor = supervisor
        self.bell = self._rope = -1
        self._number = 0

    def start(
        self, kind: Kind, start: Start, watch: Callable[[int], None], over: Callable[[FunctionWorker], Over]
    ) -> FunctionWorker:
        """Start a worker for the calls of `start`.

        Parameters
        ----------
        watch
            Has a descriptor polled. It may raise `OSError`.
        over
            Returns what is called when the worker has ended.

        Raises
        ------
        LaunchError
            If that is impossible. An `OSError` is not the calls' fault.
        """
        if self.bell < 0:
            self._prepare(watch)
        claimed = start.claimed
        try:
            todo = expand(
                start.template, claimed.params, task=claimed.task, attempt=claimed.attempt, campaign=claimed.campaign
            )
        except (UsageError, ValueError) as error:
            raise LaunchError(f"the call cannot be put together: {error}") from error
        self._number += 1
        python = os.path.expanduser(kind.python) or sys.executable
        argv = [
            python, PROGRAM, "worker", cloudpickle_place(), str(self._number), str(self._values), kind.setup,
            "{}.{}".format(*kind.version),
        ]  # fmt: skip
        worker = FunctionWorker(self._number, kind, start.slots[0], self._values)
        try:
            worker.process = self._launcher.launch_worker(
                argv, worker.slot, env=todo.env, cwd=todo.cwd, files=worker.files(self._rope)
            )
            worker.process.over = over(worker)
            self._supervisor.adopt(worker.process)
            if not self._supervisor.watch(worker.process, watch):
                raise OSError(errno.EMFILE, "no descriptor is left to watch it")
        except BaseException as error:
            worker.close()
            if isinstance(error, ProgramError) and kind.python:
                raise LaunchError(f"{error}; choose another Python for the function's workers (python=)") from error
            raise
        return worker

    def _prepare(self, watch: Callable[[int], None]) -> None:
        """Make what all workers need."""
        make_directory(self._values)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            watch(reading)
            self._rope = fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        self.bell = reading

    def close(self) -> None:
        """Close what is open."""
        if self.bell >= 0:
            os.close(self.bell)
            os.close(self._rope)


@cache
def cloudpickle_place() -> str:
    """Return the directory of the cloudpickle that travels with us."""
    spec = importlib.util.find_spec("cloudpickle")
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(os.path.dirname(spec.origin))
