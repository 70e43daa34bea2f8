"""Builds an agent and runs it."""

import logging
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
from pilotmtc.errors import ConfigError, PilotMTCError
from pilotmtc.model import Pilot, PilotId
from pilotmtc.protocol.agent import EndPilot
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.resources.slots import Node
from pilotmtc.states import PilotState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.system import open_files, processes
from pilotmtc.system.private_files import make_directory

if TYPE_CHECKING:
    from pilotmtc.agent.crews.start_workers import Allocation

_log = logging.getLogger("pilotmtc.agent")


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
