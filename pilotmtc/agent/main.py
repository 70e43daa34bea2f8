"""The agent's entry: reads its words, and becomes the guard of an agent or builds the agent."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from pilotmtc.agent import guard
from pilotmtc.boot import program
from pilotmtc.errors import ConfigError, PilotMTCError
from pilotmtc.model import PilotId
from pilotmtc.system.command_words import read_words

_log = logging.getLogger("pilotmtc.agent")


class _Asked(Struct, frozen=True):
    """The words of the agent.

    Attributes
    ----------
    pilot, pilot_fd
        Its number, or where that comes from.
    guard_fd, alive_fd
        What its guard passes to it.
    post_mortem
        Why the agent has died that it reports for.
    allocation
        Run in the foreground of a batch job, on all its nodes.
    hosts
        Names of nodes, a file of them, or ``local:N``, instead of a batch job's.
    """

    store: str
    directory: Path
    pilot: int | None = None
    pilot_fd: int | None = None
    guard_fd: int | None = None
    alive_fd: int | None = None
    post_mortem: str | None = None
    allocation: bool = False
    hosts: str = ""


def main(argv: Sequence[str]) -> int:
    """Run an agent, or (``--post-mortem``) report for one that was killed; return the exit code."""
    asked = read_words(argv, _Asked)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%FT%T"
    )
    guard.keep(asked.guard_fd, asked.alive_fd, asked.pilot_fd)
    try:
        if asked.allocation and asked.guard_fd is None and asked.post_mortem is None:
            _become_guard(asked, argv)
        from pilotmtc.agent import build  # what an agent needs and its guard does not; before it waits for its number

        pilot = PilotId(asked.pilot) if asked.pilot is not None else _told(asked.pilot_fd, asked.directory)
        if pilot is None:
            return 0
        if asked.post_mortem is not None:
            return build.post_mortem(asked.store, pilot, asked.directory, asked.post_mortem)
        if not asked.allocation:
            return build.run(asked.store, pilot, asked.directory, asked.guard_fd)
        from pilotmtc.agent.crews import start_workers

        found = start_workers.find(os.environ, asked.hosts)
        return build.run(asked.store, pilot, asked.directory.absolute(), asked.guard_fd, found)
    except PilotMTCError as error:
        _log.error("%s", error)
        return error.exit_code


def _told(fd: int | None, directory: Path) -> PilotId | None:
    """Return which pilot this is: what comes through a pipe, or came before; None if it is not wanted after all."""
    note = directory / "pilot"
    try:
        if fd is None:  # the agent was killed, and this is what reports it
            return PilotId(int(note.read_text()))
        with open(fd, "rb") as pipe:
            number = pipe.readline()  # not to its end: a process that its writer has forked may hold it open
        if number:
            note.write_bytes(number)
            return PilotId(int(number))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the pilot's directory {directory} cannot be used: {error.strerror}") from error
    import shutil

    shutil.rmtree(directory, ignore_errors=True)  # which holds an empty log
    return None


def _become_guard(asked: _Asked, argv: Sequence[str]) -> NoReturn:
    """Become the guard of a job's agent, in the foreground, because a batch job ends with its first process.

    Where the agent is in another job, become the guard of a node worker.
    """
    from pilotmtc.agent.crews import start_workers

    if not asked.hosts and (node := start_workers.joined(os.environ)):
        from pilotmtc.agent.crews.contact import NAME

        command = start_workers.worker_command(asked.directory.absolute() / NAME, node)
        os.execv(command[0], command)
    for name in ("stdout", "stderr"):
        getattr(sys, name).flush()
    environment = os.environ | {"MTC_GUARD": guard.instructions(program("pilotmtc.agent", *argv))}
    os.execve(sys.executable, [sys.executable, "-I", "-S", guard.__file__], environment)
