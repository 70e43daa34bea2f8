"""A real SLURM of several nodes on this machine, from Debian's packages, with ports, keys and files of its own.

All nodes are this machine: they share its name, files and processes, and tell themselves apart by ``SLURMD_NODENAME``.
Their CPUs are pretended. Everything that belongs to a lab has its ``SLURM_CONF`` in the environment, by which it is
found and ended, also when the tests were killed: the next start looks for labs that nobody owns any more.
"""

import contextlib
import getpass
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import pytest

from tests.lab.machine import LAB, ROOT, Account, accounts, alone, install
from tests.support import kill, processes_with, wait_until

_PACKAGES = {
    "/usr/sbin/slurmctld": "slurmctld",
    "/usr/sbin/slurmd": "slurmd",
    "/usr/bin/sbatch": "slurm-client",
    "/usr/sbin/munged": "munge",
}
_ACCOUNTING_PACKAGES = {"/usr/sbin/slurmdbd": "slurmdbd", "/usr/sbin/mariadbd": "mariadb-server"}
_COMMANDS = ("sbatch", "squeue", "scontrol", "sacct", "scancel", "sinfo", "srun")
_LABS = LAB / "slurm"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 15.0

_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={lab}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={lab}/state
SlurmdSpoolDir={lab}/spool/%n
SlurmctldPidFile={lab}/pid/slurmctld
SlurmdPidFile={lab}/pid/slurmd.%n
SlurmctldLogFile={lab}/log/slurmctld
SlurmdLogFile={lab}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=10000
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
InactiveLimit=0
KillWait=2
OverTimeLimit=0
MinJobAge={min_job_age_s}
SlurmctldTimeout=30
SlurmdTimeout=30
MessageTimeout=10
MailProg=/bin/true
PropagateResourceLimits=NONE
{accounting}
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs={cpus} Boards=1 \
SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=4000 Feature=lab State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=10 State=UP
PartitionName=short Nodes=ALL MaxTime=5 DefaultTime=1 State=UP
PartitionName=closed Nodes=ALL State=DOWN
"""
_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database_port}
AccountingStoragePass={lab}/munge/socket
JobAcctGatherType=jobacct_gather/linux
"""
_SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={lab}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={database_port}
SlurmUser=root
PidFile={lab}/pid/slurmdbd
LogFile={lab}/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=lab
StorageLoc=slurm_acct_db
"""
_SQL = (
    "create database slurm_acct_db; create user slurm@localhost identified by 'lab'; "
    "create user slurm@'127.0.0.1' identified by 'lab'; grant all on slurm_acct_db.* to slurm@localhost; "
    "grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
)


class Slurm:
    """A running cluster: partitions ``debug`` (default), ``short`` (5 min at most) and ``closed`` (down).

    Parameters
    ----------
    nodes, cpus
        How many nodes, ``n1`` and so on, each with how many CPUs, and the feature ``lab``.
    accounting
        Whether there is a database, so that ``sacct`` works. Takes some ten seconds more.
    min_job_age_s
        How long the controller remembers a job that is over.

    Attributes
    ----------
    account
        The normal user whose jobs run here.
    environment
        What the commands need: SLURM_CONF, and a PATH with ``bin`` first.
    bin
        The commands again, run as `account` whoever calls them.
    """

    def __init__(self, *, nodes: int = 4, cpus: int = 12, accounting: bool = False, min_job_age_s: int = 300) -> None:
        self.account: Account = accounts()["mtc-store"]
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        with alone():
            install(_PACKAGES | (_ACCOUNTING_PACKAGES if accounting else {}))
            _sweep()
            self.directory = _LABS / f"{os.getpid()}-{secrets.token_hex(3)}"
            self.directory.mkdir(mode=0o755, parents=True)
            (self.directory / "owner").write_text(_identity(os.getpid()))
        self.conf = self.directory / "slurm.conf"
        self.bin = self.directory / "bin"
        self._own_environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_CONF": str(self.conf)}
        self.environment = {**self._own_environment, "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin"}
        try:
            self._write(nodes, cpus, min_job_age_s, accounting)
            self._start_munge()
            if accounting:
                self._start_accounting()
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            wait_until(self.is_idle, _START_TIMEOUT_S, on_timeout=self.logs)
        except BaseException:
            self.close()
            raise

    # -- what tests use ---------------------------------------------------------------------------------------

    def admin(self, *argv: str, timeout_s: float = 30.0) -> str:
        """Run one of SLURM's commands as its administrator, again if it is not done for now; return what it printed."""

        deadline = time.monotonic() + timeout_s
        while True:
            done = subprocess.run(
                argv, env=self._own_environment, cwd="/", capture_output=True, text=True, timeout=timeout_s, check=False
            )
            if not done.returncode:
                return done.stdout.strip()
            if "temporarily unavailable" not in done.stderr or time.monotonic() > deadline:
                raise RuntimeError(f"{argv} failed: {done.stderr}")
            time.sleep(0.2)

    def is_idle(self) -> bool:
        """Return whether all nodes are up and have nothing to do."""
        with contextlib.suppress(RuntimeError):  # the controller is not there yet
            return self.admin("sinfo", "-h", "-N", "-p", "debug", "-t", "idle", "-o", "%N").split() == [*self.nodes]
        return False

    def cancel_all(self) -> None:
        """Cancel every job, and wait until the nodes are free."""
        self.admin("scancel", f"--user={self.account.name}")
        wait_until(self.is_idle, 60, on_timeout=lambda: self.admin("squeue", "--states=all"))

    def start_controller(self) -> None:
        """Start slurmctld, with the jobs that it knew."""
        self._daemon("slurmctld", "/usr/sbin/slurmctld")

    def stop_controller(self) -> None:
        """Stop slurmctld, once it has saved what it knows: nothing can be asked any more, while jobs run on."""
        pid = int(self._pid_file("slurmctld").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), _STOP_TIMEOUT_S)

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._daemon(f"slurmd.{name}", "/usr/sbin/slurmd", "-N", name)

    def fail_node(self, name: str) -> None:
        """Kill a node's slurmd and all that runs on it, and tell the controller that it is down."""
        self._end(f"slurmd.{name}")
        for pid in self._processes(f"SLURMD_NODENAME={name}"):
            kill(pid)
        self.admin("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def repair_node(self, name: str) -> None:
        """Undo `fail_node`: a node that registers is up again (ReturnToService)."""
        self.start_node(name)
        wait_until(lambda: self.admin("sinfo", "-h", "-n", name, "-p", "debug", "-o", "%T") == "idle", 60, self.logs)

    def logs(self) -> str:
        """Return the ends of all logs."""
        files = sorted((self.directory / "log").iterdir())
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def close(self) -> None:
        """Stop everything, and remove every trace."""
        _stop(self.directory)

    def __enter__(self) -> "Slurm":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how it is made ---------------------------------------------------------------------------------------

    def _write(self, nodes: int, cpus: int, min_job_age_s: int, accounting: bool) -> None:
        for name in ("bin", "log", "pid", "state", "munge", "spool"):
            (self.directory / name).mkdir(mode=0o755)
        for node in self.nodes:
            (self.directory / "spool" / node).mkdir(mode=0o755)
        first = _free_ports(nodes + 3)
        values: dict[str, object] = {
            "lab": self.directory,
            "host": socket.gethostname().partition(".")[0],
            "controller_port": first,
            "database_port": first + 1,
            "sql_port": first + 2,
            "first_port": first + 3,
            "last_port": first + 2 + nodes,
            "nodes": nodes,
            "cpus": cpus,
            "min_job_age_s": min_job_age_s,
        }
        self._sql_port = first + 2
        values["accounting"] = _ACCOUNTING.format(**values) if accounting else ""
        self.conf.write_text(_CONF.format(**values))
        # slurmd wants a cgroup file system, be it used or not, unless it is told otherwise: since SLURM 23.11.
        (self.directory / "cgroup.conf").write_text("CgroupPlugin=disabled\n" if _version() >= (23, 11) else "")
        if accounting:
            secret = self.directory / "slurmdbd.conf"
            secret.touch(0o600)
            secret.write_text(_SLURMDBD.format(**values))
        home = f"HOME='{self.account.home}' USER='{self.account.name}' LOGNAME='{self.account.name}'"
        user = f"--reuid='{self.account.name}' --regid='{self.account.name}' --init-groups"
        for command in _COMMANDS:
            file = self.bin / command
            file.write_text(f'#!/bin/sh\n{home} exec setpriv {user} -- /usr/bin/{command} "$@"\n')
            file.chmod(0o755)

    def _start_munge(self) -> None:
        directory = self.directory / "munge"
        (directory / "key").touch(0o600)
        (directory / "key").write_bytes(secrets.token_bytes(128))
        for path in (directory, directory / "key"):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}-file={directory}/{name}" for name in ("key", "pid", "log", "seed")]
        munged = ["/usr/sbin/munged", "--force", f"--socket={directory}/socket", *files]
        self.admin("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "--", *munged)
        wait_until((directory / "socket").exists, _START_TIMEOUT_S)

    def _start_accounting(self) -> None:
        directory = self.directory / "mysql"
        directory.mkdir(mode=0o755)
        shutil.chown(directory, "mysql", "mysql")
        common = ("--no-defaults", "--user=mysql", f"--datadir={directory}")
        self.admin(
            "mysql_install_db", *common, "--force", "--skip-test-db", "--auth-root-authentication-method=socket",
            timeout_s=_START_TIMEOUT_S,
        )  # fmt: skip
        self.admin(
            "setsid", "--fork", "sh", "-c", f'exec "$@" </dev/null >{self.directory}/log/mysql 2>&1', "sh",
            "/usr/sbin/mariadbd", *common, f"--socket={directory}/socket", f"--pid-file={directory}/pid",
            "--bind-address=127.0.0.1", "--skip-name-resolve", f"--port={self._sql_port}",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip

        def said(*argv: str) -> bool:
            with contextlib.suppress(RuntimeError):
                self.admin(*argv)
                return True
            return False

        sql = ("mariadb", "--no-defaults", "-S", f"{directory}/socket", "-e")
        wait_until(lambda: said(*sql, "select 1"), _START_TIMEOUT_S, on_timeout=self.logs)
        self.admin(*sql, _SQL)
        self.admin("/usr/sbin/slurmdbd")
        wait_until(lambda: said("sacctmgr", "-n", "list", "cluster"), _START_TIMEOUT_S, on_timeout=self.logs)
        said("sacctmgr", "-i", "add", "cluster", "lab")  # the controller may have been quicker

    def _daemon(self, name: str, *argv: str) -> None:
        self._pid_file(name).unlink(missing_ok=True)
        self.admin("sh", "-c", f'exec "$@" </dev/null >>{self.directory}/log/{name}.out 2>&1', "sh", *argv)
        wait_until(self._pid_file(name).exists, _START_TIMEOUT_S, on_timeout=self.logs)

    def _end(self, name: str) -> None:
        """Kill a daemon, and wait until it is gone."""
        pid = int(self._pid_file(name).read_text())
        kill(pid)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), _STOP_TIMEOUT_S)

    def _pid_file(self, name: str) -> Path:
        return self.directory / "pid" / name

    def _processes(self, mark: str) -> list[int]:
        own = processes_with(f"SLURM_CONF={self.conf}")
        return [pid for pid in processes_with(mark) if pid in own]


def _sweep() -> None:
    """End the labs whose tests were killed."""
    if _LABS.is_dir():
        for lab in _LABS.iterdir():
            owner = lab / "owner"
            pid, _, _ = (owner.read_text() if owner.exists() else "0 ").partition(" ")
            if _identity(int(pid)) != (owner.read_text() if owner.exists() else ""):
                _stop(lab)


def _stop(lab: Path) -> None:
    """End every process of a lab, its jobs' too, and remove its files."""
    mark = f"SLURM_CONF={lab}/slurm.conf"
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_with(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not processes_with(mark), 5.0)
    wait_until(lambda: not processes_with(mark), _STOP_TIMEOUT_S, on_timeout=lambda: processes_with(mark))
    shutil.rmtree(lab)


def _version() -> tuple[int, ...]:
    done = subprocess.run(["/usr/sbin/slurmd", "-V"], capture_output=True, text=True, timeout=20, check=True)
    return tuple(int(number) for number in done.stdout.split()[1].split(".")[:2])


def _identity(pid: int) -> str:
    """Return what tells a process from all others that had or will have its number; "" if there is none."""
    try:
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def _free_ports(count: int) -> int:
    """Return the first of so many ports in a row."""
    while True:
        # Below those that the kernel gives to whoever connects.
        first = random.randrange(20_000, 32_000 - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def needs_slurm() -> None:
    """Skip the test where no SLURM can be set up."""
    if not ROOT:
        pytest.skip(f"needs root to set up SLURM (tests run as {getpass.getuser()})")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster without accounting, one for each process that runs tests; jobs may be waiting in it."""
    needs_slurm()
    with Slurm() as cluster:
        yield cluster


@pytest.fixture
def slurm_commands(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Let this process use the commands of `slurm`, as its account."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return slurm.environment
