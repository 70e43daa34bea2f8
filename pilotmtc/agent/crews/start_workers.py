"""Finds the allocation of this process, and starts a node worker on each of its nodes.

`find` is pure: it makes an `Allocation` from the environment. A `WorkerStarter` runs the `commands`: one program that
starts all workers if the scheduler has one (``srun``, ``pbsdsh``), otherwise an ``ssh`` for each node, a few at a time.
"""

import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

import pilotmtc
from pilotmtc.agent import guard
from pilotmtc.errors import ConfigError
from pilotmtc.host_lists import counts, expand
from pilotmtc.system.open_files import limit_as_found

_log = logging.getLogger("pilotmtc.agent")
_AT_ONCE = 16  # number of ssh connections at the same time
_STAGGER_S = 0.5
HOSTS_VARIABLE = "PILOTMTC_HOSTS"
BEGAN_VARIABLE = "MTC_JOB_BEGAN"  # seconds since the epoch, set by the job's script
_PBS_BINS = ("/opt/pbs/bin", "/usr/pbs/bin", "/usr/local/bin", "/opt/torque/bin", "/usr/bin")
_AGAIN = 3  # how often a killed worker is started again


class Allocation(Struct, frozen=True):
    """The nodes that a scheduler has given to the job.

    Attributes
    ----------
    way
        How workers are started: ``srun``, ``pbsdsh``, ``ssh``, ``local`` or ``condor``.
    nodes
        Their names.
    cores
        Number of cores by node, if the scheduler says so.
    job
        The scheduler's id of the job.
    ends_at
        When it ends, in seconds since the epoch, if the scheduler says so; otherwise 0.
    address
        Address of this host on the nodes' network, if the scheduler says so.
    """

    way: str
    nodes: tuple[str, ...]
    cores: dict[str, int] = {}
    job: str = ""
    ends_at: float = 0.0
    address: str = ""


def find(env: Mapping[str, str], hosts: str = "") -> Allocation:
    """Return the allocation in `env`; `hosts` (names, a file of names, ``local:N``) overrides it.

    ``PILOTMTC_HOSTS`` means the same as `hosts`, for dialects of schedulers that are not known here.

    Raises
    ------
    ConfigError
        If there is none, or if it cannot be read.
    """
    hosts = hosts or env.get(HOSTS_VARIABLE, "")
    if hosts.startswith("local:"):
        if not hosts[6:].isdecimal() or not int(hosts[6:]):
            raise ConfigError(f"--hosts {hosts}: write local:4 for four node workers on this machine")
        return Allocation("local", tuple(f"n{number}" for number in range(1, int(hosts[6:]) + 1)))
    if hosts:
        names = _nodefile(Path(hosts)) if "/" in hosts else expand(hosts)
        return Allocation("ssh", tuple(dict.fromkeys(names)), _counted(names))
    if "SLURM_JOB_ID" in env:
        names = expand(env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST", ""))
        cpus = counts(env["SLURM_JOB_CPUS_PER_NODE"]) if env.get("SLURM_JOB_CPUS_PER_NODE") else []
        cores = dict(zip(names, cpus, strict=True)) if len(cpus) == len(names) else {}
        return Allocation("srun", tuple(names), cores, env["SLURM_JOB_ID"], float(env.get("SLURM_JOB_END_TIME") or 0.0))
    if "PBS_NODEFILE" in env:
        names = _nodefile(Path(env["PBS_NODEFILE"]))
        # In OpenPBS, the number of lines is the number of MPI processes, not of cores.
        cores = _counted(names) if _is_torque(env) else {}
        return Allocation("pbsdsh", tuple(dict.fromkeys(names)), cores, env.get("PBS_JOBID", ""), _torque_end(env))
    if "_CONDOR_SCRATCH_DIR" in env:
        names = [_condor_name(number) for number in range(int(env.get("_CONDOR_NPROCS") or 1))]
        return Allocation("condor", tuple(names), address=_condor_address(env) if len(names) > 1 else "")
    raise ConfigError(
        "this is not a batch job: neither SLURM_JOB_ID, PBS_NODEFILE nor _CONDOR_SCRATCH_DIR is set; "
        f"name the nodes with --hosts or {HOSTS_VARIABLE}"
    )


def _nodefile(path: Path) -> list[str]:
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(f"cannot read the nodes' names: {path}: {error.strerror}") from error


def _counted(names: list[str]) -> dict[str, int]:
    """Return how often each node is named: this is its number of cores, unless all are named only once."""
    found = {name: names.count(name) for name in dict.fromkeys(names)}
    return found if any(number > 1 for number in found.values()) else {}


def _is_torque(env: Mapping[str, str]) -> bool:
    return "PBS_VNODENUM" in env or "PBS_NUM_NODES" in env


def _torque_end(env: Mapping[str, str]) -> float:
    """Return when a job of Torque ends: Torque gives its walltime, and the job's script its start. 0: not known."""
    began, walltime = env.get(BEGAN_VARIABLE, ""), env.get("PBS_WALLTIME", "")
    return float(began) + float(walltime) if began.isdecimal() and walltime.isdecimal() and int(walltime) else 0.0


def joined(env: Mapping[str, str]) -> str:
    """Return this node's name if it must join an agent on another one: HTCondor starts the same program on all."""
    number = int(env.get("_CONDOR_PROCNO") or 0) if "_CONDOR_SCRATCH_DIR" in env else 0
    return _condor_name(number) if number else ""


def _condor_name(number: int) -> str:
    """Return a unique name for the node of a job in a cluster, because several may be on one host."""
    return f"{socket.gethostname().partition('.')[0]}-{number}"


def _condor_address(env: Mapping[str, str]) -> str:
    """Return the address of HTCondor itself on this host."""
    try:
        ad = Path(env.get("_CONDOR_MACHINE_AD", "")).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'^MyAddress = "<([0-9.]+):', ad, re.MULTILINE)
    return found[1] if found else ""


def worker_command(contact: Path, name: str = "") -> list[str]:
    """Return the command that runs a node worker under its guard.

    Python is isolated, without site, and has only the directories that are needed: every other directory on the path
    would cost a file operation per module and node.
    """
    import zmq  # the guard of a batch job's agent can do without

    where = list(dict.fromkeys(str(Path(str(module.__file__)).parents[1]) for module in (pilotmtc, msgspec, zmq)))
    start = "from pilotmtc.agent.crews.worker import main; sys.exit(main(sys.argv[1:]))"
    program = f"import sys; sys.path += {where!r}; {start}"
    worker = [sys.executable, "-I", "-S", "-c", program, str(contact), *(["--name", name] if name else [])]
    return [sys.executable, "-I", "-S", guard.__file__, guard.instructions(worker, again=_AGAIN)]


def commands(found: Allocation, contact: Path, env: Mapping[str, str]) -> list[list[str]]:
    """Return the commands to run; each of them starts one worker or all.

    Raises
    ------
    ConfigError
        If there is no way to start workers.
    """
    if found.way == "srun":
        return [[
            "srun", f"--jobid={found.job}", "--overlap", f"--nodes={len(found.nodes)}", f"--ntasks={len(found.nodes)}",
            "--ntasks-per-node=1", "--cpu-bind=none", "--mem=0", "--kill-on-bad-exit=0", "--no-kill", "--wait=0",
            "--input=none", "--mpi=none", "--export=ALL", "--quiet", *worker_command(contact),
        ]]  # fmt: skip
    # pbsdsh and ssh do not pass on the job's variables; without this one, Python may not even start.
    libraries = [f"LD_LIBRARY_PATH={env['LD_LIBRARY_PATH']}"] if env.get("LD_LIBRARY_PATH") else []
    before = ["/usr/bin/env", *libraries] if libraries else []
    if found.way == "pbsdsh":
        return [[_pbsdsh(env), *options, "--", *before, *worker_command(contact)] for options in _pbsdsh_options(env)]
    if found.way == "ssh":
        return [_ssh(name, [*before, *worker_command(contact, name)]) for name in found.nodes]
    names = found.nodes[:1] if found.way == "condor" else found.nodes  # HTCondor starts the others
    return [worker_command(contact, name) for name in names]


def _pbsdsh(env: Mapping[str, str]) -> str:
    """Return the full path of pbsdsh, which is not on a job's PATH."""
    bins = [env.get("PBS_O_PATH", ""), env.get("PATH", ""), *_PBS_BINS]
    if env.get("PBS_EXEC"):
        bins.insert(0, f"{env['PBS_EXEC']}/bin")
    for directory in ":".join(bins).split(":"):
        candidate = os.path.join(directory, "pbsdsh")
        if directory and os.access(candidate, os.X_OK):
            return candidate
    raise ConfigError(
        f"there is no pbsdsh in PATH or {', '.join(_PBS_BINS)}: set PBS_EXEC, or name the nodes with --hosts"
    )


def _pbsdsh_options(env: Mapping[str, str]) -> list[list[str]]:
    """Return the options of each pbsdsh command, so that one worker starts on each node.

    Torque has -u for that. OpenPBS starts a process for each line of the node file, and a node may have several lines.
    """
    if _is_torque(env):
        return [["-u"]]
    lines = _nodefile(Path(env["PBS_NODEFILE"]))
    nodes = list(dict.fromkeys(lines))
    return [[]] if len(nodes) == len(lines) else [["-n", str(lines.index(node))] for node in nodes]


def _ssh(name: str, command: list[str]) -> list[str]:
    return [
        "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-x", "-n", name,
        shlex.join(command),
    ]  # fmt: skip


class WorkerStarter:
    """Starts the workers, and ends those that remain."""

    def __init__(self, found: Allocation, env: Mapping[str, str], log: Path) -> None:
        self._found = found
        self._env = env
        self._log = log
        self._todo: list[list[str]] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self._next_at = 0.0
        self._last = "all node workers have left"

    def start(self, contact: Path) -> None:
        """Start the first workers; `poll` continues."""
        self._todo = commands(self._found, contact, self._env)
        self.poll(time.monotonic())

    def poll(self, now: float) -> str:
        """Start more workers; return why there are none and will be none, or nothing if there may be some."""
        if self._todo and now >= self._next_at:
            self._next_at = now + _STAGGER_S
            some, self._todo = self._todo[:_AT_ONCE], self._todo[_AT_ONCE:]
            for command in some:
                self._spawn(command)
        for process in [process for process in self._running if process.poll() is not None]:
            self._running.remove(process)
            if process.returncode:
                self._last = (
                    f"{Path(str(process.args[0])).name} ended with exit code {process.returncode}, see {self._log}"  # type: ignore[index]
                )
                _log.warning("%s", self._last)
        return "" if self._todo or self._running else self._last

    def _spawn(self, command: list[str]) -> None:
        try:
            output = self._log.open("ab")
        except OSError as error:
            _log.warning("the messages of node workers are lost: %s: %s", self._log, error.strerror)
            output = open(os.devnull, "ab")  # noqa: SIM115 -- closed below
        with output as log:
            try:
                with limit_as_found():  # srun passes the signal on to other nodes
                    self._running.append(subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        env=self._env,
                    ))  # fmt: skip
            except OSError as error:
                raise ConfigError(f"cannot start node workers with {command[0]}: {error.strerror}") from error

    def wait(self, timeout_s: float) -> None:
        """Wait until all workers have exited."""
        self._todo.clear()
        until = time.monotonic() + timeout_s
        while self._running and time.monotonic() < until:
            self.poll(time.monotonic())
            time.sleep(0.02)

    def stop(self) -> None:
        """End the remaining workers."""
        self._todo.clear()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._running:
                process.send_signal(number)
            self.wait(3.0)


def first_other(found: Allocation) -> str | None:
    """Return the name of another node; None if there is none."""
    if found.way in ("local", "condor"):
        return None
    own = {socket.gethostname(), socket.gethostname().split(".")[0], os.environ.get("SLURMD_NODENAME", "")}
    return next((name for name in found.nodes if name not in own and name.split(".")[0] not in own), None)
