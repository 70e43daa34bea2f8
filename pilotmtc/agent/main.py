"""Builds an agent and runs it."""

import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pilotmtc.agent import guard
from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.core import Core
from pilotmtc.agent.crews.local import LocalCrew
from pilotmtc.agent.functions.pool import FunctionPool
from pilotmtc.agent.leftovers import send_spool, take_in
from pilotmtc.agent.loop import Loop
from pilotmtc.agent.node import allowance, core_claims, memory_groups
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.outputs import Outputs
from pilotmtc.agent.node.process import ProcessLauncher
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.agent.spool import Spool
from pilotmtc.agent.value_files import ValueFiles, memory_directory
from pilotmtc.boot import program
from pilotmtc.errors import ConfigError, PilotMTCError
from pilotmtc.model import Pilot, PilotId
from pilotmtc.protocol.agent import EndPilot
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.resources.slots import Node
from pilotmtc.states import PilotState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.system import open_files, processes
from pilotmtc.system.command_words import read_words
from pilotmtc.system.private_files import make_directory

if TYPE_CHECKING:
    from pilotmtc.agent.crews.start_workers import Allocation

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
        pilot = PilotId(asked.pilot) if asked.pilot is not None else _told(asked.pilot_fd, asked.directory)
        if pilot is None:
            return 0
        if asked.post_mortem is not None:
            return post_mortem(asked.store, pilot, asked.directory, asked.post_mortem)
        if not asked.allocation:
            return run(asked.store, pilot, asked.directory, asked.guard_fd)
        from pilotmtc.agent import multi_node  # it imports zmq, which a pilot on this machine does not need
        from pilotmtc.agent.crews import start_workers

        if asked.guard_fd is None and not asked.hosts and (node := start_workers.joined(os.environ)):
            multi_node.join(node, asked.directory.absolute())
        if asked.guard_fd is None:
            multi_node.guarded(program("pilotmtc.agent", *argv))
        return run(
            asked.store, pilot, asked.directory.absolute(), asked.guard_fd, start_workers.find(os.environ, asked.hosts)
        )
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


def run(url: str, pilot: PilotId, directory: Path, guard_fd: int | None, allocation: "Allocation | None" = None) -> int:
    """Run the agent of `pilot` on this machine or the nodes of an allocation; return 0 if it ended properly."""
    processes.become_subreaper()
    try:
        make_directory(directory)
    except OSError as error:
        raise ConfigError(f"the pilot's directory {directory} cannot be used: {error.strerror}") from error
    os.chdir(directory)
    environ = dict(os.environ)
    take_in(url, directory)
    client = connect_store(url, patience_s=None, pilot=pilot)
    try:
        record = _record(client, pilot)
        if allocation is not None:
            from pilotmtc.agent import multi_node

            _allow_files(len(allocation.nodes), "nodes", 2)  # a node that was started again may be listed twice
            return multi_node.run(client, record, url, directory, guard_fd, allocation)
        node, own = _node(record)
        _allow_files(node.cores, "cores", 9)  # 3 of a command that runs, 6 of a function worker that rests meanwhile
        started = time.monotonic()
        core = Core(Cluster([node]), started, record.description.walltime_s, record.description.idle_s)
        captures = Captures(directory / "outputs")
        launcher = ProcessLauncher(
            pilot, url, directory, captures, gpu_count=node.gpus, pin=own.pin, environ=environ, node=node.name
        )
        supervisor = Supervisor(node.name, directory, launcher, Outputs(captures))
        functions = FunctionPool(node.name, directory, launcher, supervisor, captures, cores=node.cores)
        crew = LocalCrew(supervisor, node, environ, functions)
        in_memory = None if guard_fd is None else memory_directory(pilot)
        values = ValueFiles(directory, memory=in_memory, memory_bytes=node.memory)
        return Loop(client, pilot, core, crew, Spool(directory), values=values, guard_fd=guard_fd, note=own.note).run()
    finally:
        client.close()


def _allow_files(count: int, what: str, each: int) -> None:
    """Let this process open at least `each` files for each of `count` cores or nodes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = each * count + 300
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ConfigError(
            f"{count} {what} need {wanted} open files, and this machine allows {hard}: ask for at most "
            f"{(hard - 300) // each} {what}, or raise the limit (ulimit -Hn)"
        )
    open_files.raise_limit()


def post_mortem(url: str, pilot: PilotId, directory: Path, reason: str) -> int:
    """Send the results in the spool of a killed agent, and end its pilot."""
    client = connect_store(url, patience_s=50.0, pilot=pilot)
    try:
        sent = send_spool(client, pilot, directory)
        client.call(EndPilot(pilot, PilotState.FAILED, reason))
    finally:
        client.close()
        memory_groups.give_back(resource.getrlimit(guard.MARK)[0])
    _log.info("pilot %s: %s; %d results were in the spool", pilot, reason, sent)
    return 0


def _record(client: StoreClient, pilot: PilotId) -> Pilot:
    found = client.call(GetPilots(id=pilot)).pilots
    if not found:
        raise PilotMTCError(f"the store knows no pilot {pilot}")
    return found[0]


def _node(record: Pilot) -> tuple[Node, core_claims.OwnCores]:
    """Return the part of this machine that the pilot may use, and its claim on cores."""
    asked = record.description
    allowed = allowance.cores(len(os.sched_getaffinity(0)), os.environ)
    own = core_claims.own_cores(asked.cores, allowed, pin=asked.pin, part=True)
    if own.note:
        _log.warning("%s", own.note)
    memory = asked.memory_bytes or allowance.memory(processes.machine_memory(), os.environ)
    return Node(own.cores, asked.gpus, memory, asked.named, socket.gethostname()), own
