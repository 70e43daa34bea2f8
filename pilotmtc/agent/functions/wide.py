"""Calls on several ranks: each rank is a process of its own, and all together are a wide task like others."""

import contextlib
import glob
import os
import sys
from pathlib import Path

from msgspec import structs

from pilotmtc.agent.core.events import Start
from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.process import frame_of
from pilotmtc.agent.functions.results import SETUP_DEATHS, how_ended
from pilotmtc.agent.functions.starter import PROGRAM, cloudpickle_place
from pilotmtc.agent.node import mpi
from pilotmtc.model import Result, TaskId, Template, Value
from pilotmtc.states import Cause
from pilotmtc.template import literal

_OUTCOMES = {frames.RETURNED: 0, frames.RAISED: 1}


class WideCalls:
    """The calls on several ranks of which some are this node's.

    Parameters
    ----------
    name
        The node's.
    values
        The directory of values.
    """

    def __init__(self, name: str, values: Path) -> None:
        self._name = name
        self._values = str(values)
        self._first: dict[tuple[TaskId, int], bool] = {}  # whether the first rank is here
        self._setups: dict[tuple[TaskId, int], str] = {}  # the initializers of these calls
        self._deaths: dict[str, int] = {}  # in initializers, one after the other

    def as_command(self, start: Start) -> Start:
        """Return what starts the ranks of a call. Raises `OSError` if the call cannot be written to its file."""
        claimed, template, function, wide = start.claimed, start.template, start.template.function, start.wide
        assert function is not None
        assert wide is not None
        frame = self._frame(claimed.task, claimed.attempt)
        frames.write_new(frame, frame_of(claimed, function))
        self._first[claimed.task, claimed.attempt] = wide.first == 0
        if function.setup:
            self._setups[claimed.task, claimed.attempt] = function.setup
        command = [
            os.path.expanduser(function.python) or sys.executable, PROGRAM, "rank", cloudpickle_place(), frame,
            self._end(claimed.task, claimed.attempt), self._values, function.setup, "{}.{}".format(*function.version),
            "" if wide.way == mpi.RANKS else "mpi", "gather" if function.gather else "",
        ]  # fmt: skip
        made = Template(
            tuple([literal(word, template.fields) for word in command]), fields=template.fields, env=template.env,
            cwd=template.cwd, max_output_bytes=template.max_output_bytes,
        )  # fmt: skip
        return structs.replace(start, template=made)

    def result(self, result: Result) -> Result:
        """Return the result of a task; of a call, with what its ranks have left."""
        first = self._first.pop((result.task, result.attempt), None)
        if first is None:
            return result
        end = None
        path = self._end(result.task, result.attempt)
        dead = self._died_in_setup(result, path)
        with contextlib.suppress(FileNotFoundError):
            if first or result.exit_code:
                end = frames.End(Path(path).read_bytes())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._frame(result.task, result.attempt))
        if first:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if dead is not None and (end is None or end.outcome == frames.RETURNED):
            return dead
        if result.cause is not Cause.EXIT:
            return result
        if end is None:
            if not first or result.exit_code:
                return result
            words = "the first rank ended in the middle of the call, with exit code 0"
            return structs.replace(result, exit_code=1, message=words)
        value = Value(end.value, end.digest, end.size) if end.size else None
        if end.outcome not in _OUTCOMES:
            cause = Cause.LAUNCH_ERROR if end.outcome == frames.UNLOADED else Cause.NODE_LOST
            return structs.replace(result, cause=cause, exit_code=None, message=end.text, value=value)
        code = _OUTCOMES[end.outcome]
        if code != bool(result.exit_code):  # a rank has ended badly after the others had returned
            return result
        return structs.replace(result, exit_code=code, value=value, value_text=end.text, message=None)

    def _died_in_setup(self, result: Result, path: str) -> Result | None:
        """Return the result of a call of which a rank has died in the initializer; None of any other."""
        setup = self._setups.pop((result.task, result.attempt), "")
        if not setup:
            return None
        marks = glob.glob(f"{glob.escape(path)}{frames.IN_SETUP}*")
        for mark in marks:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(mark)
        if result.cause not in (Cause.EXIT, Cause.SIGNAL):
            return None
        if not marks:
            self._deaths.pop(setup, None)
            return None
        deaths = self._deaths[setup] = self._deaths.get(setup, 0) + 1
        rank = min([mark.rpartition(".")[2] for mark in marks], key=int)
        how = how_ended(-result.signal if result.signal else result.exit_code or 0)
        if deaths < SETUP_DEATHS:  # it may be chance, such as a full memory
            cause, words = Cause.NODE_LOST, f"rank {rank} died in the initializer, and the call {how}"
        else:
            cause = Cause.LAUNCH_ERROR
            words = (
                f"{frames.SETUP_FAILED}: a rank died in it {SETUP_DEATHS} times in a row; the last time rank {rank}, "
                f"and the call {how}"
            )
        return structs.replace(result, cause=cause, exit_code=None, signal=None, message=words)

    def drop(self, task: TaskId, attempt: int) -> None:
        """Forget a call that could not be started."""
        self._setups.pop((task, attempt), None)
        if self._first.pop((task, attempt), None) is not None:
            os.unlink(self._frame(task, attempt))

    def _frame(self, task: TaskId, attempt: int) -> str:
        return os.path.join(self._values, f".call-{task}-{attempt}-{self._name}")

    def _end(self, task: TaskId, attempt: int) -> str:
        return os.path.join(self._values, f".end-{task}-{attempt}")
