"""Starting a pilot on this machine."""

import contextlib
import os
import select
import sys
import time
from pathlib import Path

from pilotmtc.agent import guard
from pilotmtc.agent.node.capture import tail
from pilotmtc.boot import program
from pilotmtc.errors import ConfigError
from pilotmtc.model import Pilot, PilotDescription, PilotId
from pilotmtc.protocol.agent import EndPilot
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilots
from pilotmtc.states import PilotState
from pilotmtc.store.interface import Store
from pilotmtc.store.location import locate
from pilotmtc.store.serve import out_of_the_way, shared_environment
from pilotmtc.system import private_files
from pilotmtc.system.locale import as_utf8

_LOG_BYTES = 2000
_SETTINGS = ("PILOTMTC_LAUNCHER",)  # other PILOTMTC_ variables may describe a task in which this pilot is started
_LOOK_S = 0.01
_PROGRAM_FD = 9
_ALIVE_FD = 8
_PILOT_FD = 7


class AgentAhead:
    """An agent on this machine whose pilot is not in the store yet: it imports what it needs meanwhile.

    Whoever starts it lets it have a pilot with `start_local`, or closes it: then it leaves, as it does if this process
    ends before. It outlives this process once it has a pilot.

    Parameters
    ----------
    url
        The store's URL, for the agent.

    Attributes
    ----------
    key, directory, log
        The key and directory of its pilot, and where it writes to.
    used
        Whether it has had its chance.

    Raises
    ------
    ConfigError
        If its directory cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.key = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        self.used = False
        place = locate(url)
        self.directory = Path(place.directory) / "pilots" / self.key
        self.log = self.directory / "agent.log"
        try:
            private_files.make_below(place.directory, self.directory)
        except OSError as error:
            raise ConfigError(f"cannot make the pilot's directory {self.directory}: {error.strerror}") from error
        self._guard, self._alive, self._telling = _spawn(place.url, self.directory, self.log)

    def become(self, pilot: PilotId) -> None:
        """Let it be the agent of a pilot that is in the store."""
        with contextlib.suppress(BrokenPipeError):  # it has died, which `is_dead` tells
            os.write(self._telling, b"%d\n" % pilot)
        os.close(self._telling)
        self._telling = -1

    def is_dead(self, wait_s: float) -> bool:
        """Return whether it has ended, or ends within that time."""
        return bool(select.select([self._alive], [], [], max(wait_s, 0.0))[0])

    def close(self) -> None:
        """Let it be; without a pilot, it leaves. Safe to repeat."""
        self.used = True
        for fd in (self._alive, self._telling):
            if fd >= 0:
                os.close(fd)
        self._alive = self._telling = -1
        if self._guard:
            with contextlib.suppress(ChildProcessError):  # somebody else waits for all children of this process
                os.waitpid(self._guard, 0)  # it has forked at once
            self._guard = 0


def start_local(
    store: Store, url: str, description: PilotDescription, wait_s: float = 10.0, ahead: AgentAhead | None = None
) -> Pilot:
    """Start a pilot on this machine, in the background, and return its record.

    The pilot outlives this process, and its terminal.

    Parameters
    ----------
    store
        A connection to the store.
    url
        The URL of that store, for the agent.
    description
        The pilot to start.
    wait_s
        How long to wait for it to become active or die before returning anyway; 0: do not wait.
    ahead
        An agent for it, which is there already unless it was used.

    Raises
    ------
    ConfigError
        If its directory cannot be made, or if it dies at once; the text quotes its log.
    """
    agent = AgentAhead(url) if ahead is None or ahead.used else ahead
    try:
        pilot = store.call(CreatePilot(agent.key, description, str(agent.directory))).pilots[0]
        agent.become(pilot.id)
        until = time.monotonic() + wait_s
        while True:
            found = store.call(GetPilots(id=pilot.id)).pilots[0]
            if found.state in (PilotState.ACTIVE, PilotState.DRAINING, PilotState.DONE, PilotState.CANCELED):
                return found
            if agent.is_dead(min(_LOOK_S, until - time.monotonic())):
                reason = found.reason or "its agent died at once"
                store.call(EndPilot(pilot.id, PilotState.FAILED, reason))
                raise ConfigError(f"pilot {pilot.id}: {reason}; {agent.log} says:\n{_end_of(agent.log)}")
            if time.monotonic() >= until:
                return found
    finally:
        agent.close()


def _spawn(url: str, directory: Path, log: Path) -> tuple[int, int, int]:
    """Start the guard in a session of its own; it starts the agent.

    Returns
    -------
    The process, which forks at once; a pipe that closes when the guard ends; one to write the pilot's number to.
    """
    agent = program("pilotmtc.agent", "--store", url, "--directory", str(directory))
    environment = shared_environment() | {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    environment["MTC_GUARD"] = guard.instructions(
        [as_utf8(word) for word in agent], alive_fd=_ALIVE_FD, pilot_fd=_PILOT_FD
    )
    with contextlib.ExitStack() as stack:

        def moved(fd: int) -> int:
            there = out_of_the_way(fd)
            os.close(fd)
            stack.callback(os.close, there)
            return there

        text = moved(os.open(guard.__file__, os.O_RDONLY | os.O_CLOEXEC))
        output = moved(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        alive, writing = os.pipe()
        theirs = moved(writing)
        reading, telling = os.pipe()
        number = moved(reading)
        # Through a descriptor, because the guard's command line must not name the program: see guard.py.
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", f"/dev/fd/{_PROGRAM_FD}"],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                (os.POSIX_SPAWN_DUP2, text, _PROGRAM_FD),
                (os.POSIX_SPAWN_DUP2, theirs, _ALIVE_FD),
                (os.POSIX_SPAWN_DUP2, number, _PILOT_FD),
            ],
            setsid=True,
        )
        return pid, alive, telling


def _end_of(log: Path) -> str:
    data, _ = tail(str(log), _LOG_BYTES)
    return data.decode("utf-8", "replace").strip() or "(nothing)"
