"""A node's function workers in this process, and what calls need."""

import contextlib
import ctypes
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from pilotmtc import pickled
from pilotmtc.agent.core.events import Start, Stop
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.functions.pool import FunctionPool
from pilotmtc.agent.guard import put_off_mark
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.outputs import Outputs
from pilotmtc.agent.node.process import ProcessLauncher
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.model import Call, Claimed, Function, PilotId, Resources, Result, TaskId, Template, Value
from pilotmtc.protocol.records import OutputTail
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause
from pilotmtc.system.processes import SUBREAPER
from tests.support import wait_until

HERE = (sys.version_info[0], sys.version_info[1])


class Argument:
    """Stands in arguments for what the worker is to put there."""

    def __init__(self, *key: object) -> None:
        self.key = key


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def persistent_id(self, found: object) -> object:
        return found.key if isinstance(found, Argument) else None


def dump_args(*args: object, **kwargs: object) -> bytes:
    """Pickle arguments as the executor does."""
    import io

    file = io.BytesIO()
    _Pickler(file, protocol=5).dump((args, kwargs))
    return file.getvalue()


class Node:
    """A node that runs calls."""

    def __init__(self, directory: Path, *, pin: bool = False, cores: int = 2) -> None:
        self.directory = directory
        (directory / VALUES).mkdir(mode=0o700)
        captures = Captures(directory / "outputs")
        launcher = ProcessLauncher(
            PilotId(1), "store", directory, captures, gpu_count=0, pin=pin, environ=dict(os.environ), node="n1"
        )
        self.supervisor = Supervisor("n1", directory, launcher, Outputs(captures))
        self.functions = FunctionPool("n1", directory, launcher, self.supervisor, captures, cores=cores)
        self._epoll = select.epoll()
        self.functions.open(lambda fd: self._epoll.register(fd, select.EPOLLIN), self._epoll.unregister)
        self.results: dict[TaskId, Result] = {}
        self.order: list[TaskId] = []
        self.unbegun: list[TaskId] = []
        self.begun: list[TaskId] = []
        self._count = 0

    def keep(self, parts: list[Any]) -> str:
        """Put a value where the agent puts it; return its digest."""
        digest = pickled.digest_of(parts)
        (self.directory / VALUES / digest).write_bytes(b"".join(parts))
        return digest

    def function(self, function: Callable[..., object], **more: Any) -> Function:
        """Return a function as a template has it."""
        code = self.keep([cloudpickle.dumps(function)])
        if "initializer" in more:
            more["setup"] = self.keep([cloudpickle.dumps((more.pop("initializer"), more.pop("initargs", ())))])
        return Function(function.__name__, code, **({"version": HERE} | more))

    def claim(self, *args: object, **kwargs: object) -> Claimed:
        """Return a call of the arguments."""
        return self.claim_call(Call(Value(dump_args(*args, **kwargs))))

    def claim_call(self, call: Call) -> Claimed:
        """Return the next task."""
        self._count += 1
        return Claimed(TaskId(self._count), 1, 0, 0, ("...",), call=call)

    def start(
        self, function: Callable[..., object] | Function, *calls: Claimed, resources: Resources = Resources(),  # noqa: B008
        cores: tuple[int, ...] = (0,), **template: Any,
    ) -> list[TaskId]:  # fmt: skip
        """Start calls, one after the other; return their tasks."""
        if not isinstance(function, Function):
            function = self.function(function)
        made = Template((f"{function.name}({{args}})",), fields=("args",), function=function, **template)
        first, *mates = calls
        slot = Slot(cores, node="n1")
        started = self.functions.start(Start(first, made, resources, (slot,), mates=tuple(mates)), time.monotonic())
        assert started
        self._take()
        return [call.task for call in calls]

    def run(self, function: Callable[..., object] | Function, *args: object, **more: Any) -> Result:
        """Run one call; return its result."""
        (task,) = self.start(function, self.claim(*args), **more)
        return self.result(task)

    def value(self, result: Result) -> Any:
        """Return what a call has returned, or the exception that it has raised."""
        assert result.value is not None, result
        data: Any = result.value.data
        if result.value.digest:
            data = bytearray((self.directory / VALUES / result.value.digest).read_bytes())
            assert len(data) == result.value.size
            assert pickled.digest_of([data]) == result.value.digest
        return pickled.load_value(data) if result.exit_code == 0 else pickled.load_exception(data)

    def stop(self, task: TaskId, grace_s: float = 5.0, cause: Cause = Cause.CANCELED) -> None:
        """Stop a call."""
        self.functions.stop(Stop(task, 1, cause, grace_s), time.monotonic())
        self._take()

    def turn(self, wait_s: float = 0.02) -> None:
        """Do what there is to do."""
        due = min(self.supervisor.due(), self.functions.due()) - time.monotonic()
        for fd, _ in self._epoll.poll(max(min(due, wait_s), 0.0)):
            if not self.functions.ready(fd, time.monotonic()):
                self._epoll.unregister(fd)
                assert self.supervisor.reap(self.supervisor.ended(fd), time.monotonic()) is None
        now = time.monotonic()
        assert self.supervisor.poll(now) == []
        self.functions.poll(now)
        self._take()

    def wait(self, pred: Callable[[], object]) -> None:
        """Go on until something is so."""

        def so() -> bool:
            self.turn()
            return bool(pred())

        wait_until(so, 60.0, on_timeout=lambda: (self.results, self.begun, self.unbegun, self.functions._workers))

    def result(self, task: TaskId) -> Result:
        """Return how a call has ended, once it has."""
        self.wait(lambda: task in self.results)
        return self.results[task]

    def written(self, task: TaskId) -> OutputTail:
        """Return what a running call has written so far."""
        (tail,) = self.functions.peek([(task, 1)])
        return tail

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.process.pid for worker in self.functions._workers.values()]

    def _take(self) -> None:
        outcome = self.functions.take()
        if outcome is not None:
            for result in outcome.results:
                assert result.task not in self.results
                self.results[result.task] = result
                self.order.append(result.task)
            self.unbegun += [task for task, _ in outcome.unbegun]
            self.begun += [task for task, _, _ in outcome.begun]

    def close(self) -> None:
        """End all."""
        self.functions.close()
        self.supervisor.close()
        self._epoll.close()


@contextlib.contextmanager
def running_node(directory: Path, *, pin: bool = False, cores: int = 2) -> Iterator[Node]:
    """Give one in this process, which is for that time what a node's worker is."""
    libc = ctypes.CDLL(None)
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    made = Node(directory, pin=pin, cores=cores)
    here = Path.cwd()
    os.chdir(directory)
    try:
        yield made
    finally:
        made.close()
        os.chdir(here)
        put_off_mark()
        libc.prctl(SUBREAPER, 0, 0, 0, 0)
