"""A rank of a call that has several: each is a process of its own, started by MPI's launcher or by the node.

It runs in the user's Python, which needs the standard library of Python 3.9, and mpi4py if MPI starts it.
"""

from __future__ import annotations  # for Python 3.9

import faulthandler
import os
import signal
import time

from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.calls import Calls, Values, bounded, dumps, flush, renew, say_python, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CANNOT = 1


class Rank(Calls):
    """Makes one rank's part of a call.

    Parameters
    ----------
    values
        Values by digest.
    world
        MPI's communicator of all ranks; None if they are not started by MPI.
    gather
        Whether the result is the list of all ranks' results.
    """

    def __init__(self, values: Values, world: Any, gather: bool) -> None:
        super().__init__(values)
        self.first = os.environ.get("PILOTMTC_RANK", "0") == "0"
        self._world = world
        self._gather = gather

    def whole(self, found: object) -> object:
        """Return the result of the call when all ranks have theirs; it matters in the first only."""
        parts = self._world.gather(dumps(found, 5)) if self._gather else None
        if self._world is not None:
            self._world.Barrier()
        if not self.first:
            return None
        return found if parts is None else [self.values.read(part) for part in parts]


def run(frame: str, end: str, directory: str, setup: str, version: str, mpi: str, gather: str) -> None:  # noqa: PLR0917
    """Make one rank's part of a call, which is in the file `frame`; what came of it is to be in the file `end`.

    The first rank says what they have returned when all have, or without MPI, when it has. One that fails says so at
    once, and ends the others, which may wait for it. The first that has failed is believed.

    Parameters
    ----------
    mpi, gather
        Whether MPI has started the ranks, and whether the results of all are wanted; empty is not.
    """
    renew("stdout")
    faulthandler.enable(2)
    with open(frame, "rb") as file:
        call = frames.Call(file.read())
    world, trouble = _world() if mpi else (None, "")
    if gather and not mpi:
        trouble = "gather=True needs MPI, and the ranks are started without it: give pilots mpiexec or srun"
    rank = Rank(Values(directory), world, bool(gather))
    refused = (trouble, b"") if trouble else _set_up(rank, end, setup, version) if setup else None
    if setup and refused is None and world is not None:
        world.Barrier()  # so that no rank dies in the call while another one is set up: the node tells them apart
    began = time.monotonic()
    kept = None
    if refused is not None:
        outcome = frames.UNLOADED
        text, value = refused
    else:
        outcome, value, kept, text = rank.make(call)
    if rank.first or outcome != frames.RETURNED:
        times = began, time.monotonic() - began, time.process_time()
        said = frames.ended_frame(outcome, call.task, call.attempt, times, 0, value, bounded(text), kept=kept)
        _say(end, said, failed=outcome != frames.RETURNED)
    flush()
    if outcome != frames.RETURNED:
        if world is not None:
            world.Abort(_CANNOT)
        os._exit(_CANNOT)


def _set_up(rank: Rank, end: str, setup: str, version: str) -> tuple[str, bytes] | None:
    """Run the initializer; a mark beside the file `end` says to the node that this rank has died in it."""
    mark = f"{end}{frames.IN_SETUP}{os.environ.get('PILOTMTC_RANK', '0')}"

    def leave(number: int, _frame: object) -> None:  # another rank has ended, which ends this one
        os.unlink(mark)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, leave)
    open(mark, "wb").close()
    refused = rank.set_up(setup, version_of(version))
    os.unlink(mark)
    if signal.getsignal(signal.SIGTERM) is leave:
        signal.signal(signal.SIGTERM, before)
    return refused


def _world() -> tuple[Any, str]:
    """Return MPI's communicator of all ranks; or None, and why."""
    try:
        from mpi4py import MPI  # type: ignore[import-not-found]
    except ImportError as error:
        return None, (
            f"calls on several ranks need mpi4py in {say_python()}: {error}; install it there, or choose another "
            "Python (python=)"
        )
    world, wanted = MPI.COMM_WORLD, os.environ.get("PILOTMTC_RANKS", "")
    if wanted and world.Get_size() != int(wanted):
        return None, (
            f"mpi4py in {say_python()} finds {world.Get_size()} of {wanted} ranks: it was built for another MPI than "
            "that of mpiexec or srun; build it with this one"
        )
    return world, ""


def _say(path: str, frame: bytes, *, failed: bool) -> None:
    """Write a file, all at once, unless it is there; a failure takes the place of what another rank has returned."""
    new = f"{path}.{os.environ.get('PILOTMTC_RANK', '0')}"
    with open(new, "wb") as file:
        file.write(frame)
    try:
        os.link(new, path)
    except OSError:  # it is there, or this is a file system without links
        if _outcome(path) in ((None, frames.RETURNED) if failed else (None,)):
            os.rename(new, path)
            return
    os.unlink(new)


def _outcome(path: str) -> int | None:
    """Return how a call has ended, as a rank has said; None if none has."""
    try:
        with open(path, "rb") as file:
            return int(frames.End(file.read()).outcome)
    except FileNotFoundError:
        return None
