"""Starting a pilot on this machine."""

import contextlib
import json
import os
import secrets
import select
import sys
import time
from pathlib import Path

from pilotmtc.agent import guard
from pilotmtc.agent.node.capture import tail
from pilotmtc.boot import program
from pilotmtc.errors import ConfigError
from pilotmtc.model import Pilot, PilotDescription
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
_LOOK_S = 0.03
_PROGRAM_FD = 9
_ALIVE_FD = 8


def start_local(store: Store, url: str, description: PilotDescription, wait_s: float = 10.0) -> Pilot:
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

    Raises
    ------
    ConfigError
        If its directory cannot be made, or if it dies at once; the text quotes its log.
    """
    key = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    directory = Path(locate(url).directory) / "pilots" / key
    try:
        private_files.make_below(locate(url).directory, directory)
    except OSError as error:
        raise ConfigError(f"cannot make the pilot's directory {directory}: {error.strerror}") from error
    pilot = store.call(CreatePilot(key, description, str(directory))).pilots[0]
    log = directory / "agent.log"
    alive = _spawn(locate(url).url, pilot, directory, log)
    try:
        until = time.monotonic() + wait_s
        while True:
            found = store.call(GetPilots(id=pilot.id)).pilots[0]
            if found.state in (PilotState.ACTIVE, PilotState.DRAINING, PilotState.DONE, PilotState.CANCELED):
                return found
            if select.select([alive], [], [], max(min(_LOOK_S, until - time.monotonic()), 0.0))[0]:
                reason = found.reason or "its agent died at once"
                store.call(EndPilot(pilot.id, PilotState.FAILED, reason))
                raise ConfigError(f"pilot {pilot.id}: {reason}; {log} says:\n{_end_of(log)}")
            if time.monotonic() >= until:
                return found
    finally:
        os.close(alive)


def _spawn(url: str, pilot: Pilot, directory: Path, log: Path) -> int:
    """Start the guard in a session of its own; it starts the agent. Return a pipe that closes when the guard ends."""
    agent = program("pilotmtc.agent", "--store", url, "--pilot", str(pilot.id), "--directory", str(directory))
    environment = shared_environment() | {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    environment["MTC_GUARD"] = json.dumps({"agent": [as_utf8(word) for word in agent], "alive_fd": _ALIVE_FD})
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
            ],
            setsid=True,
        )
        os.waitpid(pid, 0)  # it forks at once
        return alive


def _end_of(log: Path) -> str:
    data, _ = tail(str(log), _LOG_BYTES)
    return data.decode("utf-8", "replace").strip() or "(nothing)"
