"""Builds an agent for many nodes."""

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.core import Core
from pilotmtc.agent.core.walltime_warning import warning_s
from pilotmtc.agent.crews.contact import NAME, Contact, own_address
from pilotmtc.agent.crews.pool import LOST_S, WorkerPool
from pilotmtc.agent.crews.start_workers import BEGAN_VARIABLE, Allocation, WorkerStarter, first_other
from pilotmtc.agent.loop import Loop
from pilotmtc.agent.node import mpi
from pilotmtc.agent.spool import Spool
from pilotmtc.agent.value_files import ValueFiles
from pilotmtc.errors import ConfigError, shown
from pilotmtc.model import Pilot
from pilotmtc.store.client.client import StoreClient

LOST = "PILOTMTC_NODE_TIMEOUT_S"  # how long a node may be silent
_log = logging.getLogger("pilotmtc.agent")


def node_timeout_s(env: Mapping[str, str]) -> float:
    """Return how long agent and node workers wait for each other's signs of life.

    Raises
    ------
    ConfigError
        If the variable is not such a time.
    """
    text = env.get(LOST, "")
    try:
        found = float(text or LOST_S)
    except ValueError:
        found = 0.0
    if not 1.0 <= found < math.inf:
        raise ConfigError(f"{LOST}={shown(text)} is not a time: give at least 1, in seconds")
    return found


def run(  # noqa: PLR0917 -- what `main.run` has
    client: StoreClient, record: Pilot, url: str, directory: Path, guard_fd: int | None, allocation: Allocation
) -> int:
    """Run the agent of the pilot `record` on the nodes of an allocation; return 0 if it ended properly."""
    asked = record.description
    _log.info("pilot %s: %d nodes through %s", record.id, len(allocation.nodes), allocation.way)
    walltime_s = asked.walltime_s
    if allocation.ends_at:  # the scheduler's number is better
        walltime_s = min(walltime_s or math.inf, max(allocation.ends_at - time.time(), 1.0))
    cluster = Cluster()
    core = Core(
        cluster, time.monotonic(), walltime_s, asked.idle_s, expected=len(allocation.nodes), warning_s=warning_s(asked)
    )
    environ = {key: value for key, value in os.environ.items() if key not in ("MTC_GUARD", BEGAN_VARIABLE)}
    if allocation.way == "condor" and len(allocation.nodes) > 1:  # mpiexec cannot reach other nodes
        environ.setdefault(mpi.WISH, mpi.RANKS)
    contact = Contact(
        "", b"", b"", b"", node_timeout_s(os.environ), record.id, url, str(directory),
        {"": asked.cores} if asked.cores else allocation.cores, asked.gpus, asked.memory_bytes, asked.pin, environ,
    )  # fmt: skip
    starter = WorkerStarter(allocation, environ, directory / "workers.log")
    address = own_address(first_other(allocation), allocation.address)
    crew = WorkerPool(
        cluster, contact, directory / NAME, starter, address=address, named=asked.named,
        expected=len(allocation.nodes), one_host=allocation.way == "local",
    )  # fmt: skip
    values = ValueFiles(directory, alone=False)
    return Loop(client, record.id, core, crew, Spool(directory), values=values, guard_fd=guard_fd).run()
