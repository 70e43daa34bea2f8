"""A real HTCondor pool on this machine: four hosts of 12 cores and two for the parallel universe.

One pool serves all test processes: whoever needs it first starts it, the last one stops it, and what a killed run left
is stopped by the next. It is unpacked into a directory (`condor-unpack.sh`) and kept. The daemons run as root, so that
jobs run as whoever submits them; commands that tests give run as the account ``mtc-store``.
"""

import contextlib
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import pytest
from msgspec import Struct

from tests.lab.machine import LAB, ROOT, Account, account_python, accounts, alone
from tests.support import kill, processes_with, wait_until, without_children

_HOME = LAB / "condor"
_RELEASE = _HOME / "root" / "usr"
_LOCAL = _HOME / "local"
_CONFIG = _HOME / "condor_config"
_UNPACK = Path(__file__).with_name("condor-unpack.sh")
_DAEMON = "daemon"  # whom the daemons are when they need not be root
_HOSTS = 4
_DEDICATED = 2
_UP_WITHIN_S = 60.0
_DOWN_WITHIN_S = 20.0

_POOL_CONFIG = """
LOCAL_CONFIG_DIR =
REQUIRE_LOCAL_CONFIG_FILE = False
RELEASE_DIR = {release}
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
LOCAL_DIR = {local}
LOG = $(LOCAL_DIR)/log
RUN = $(LOCAL_DIR)/run
LOCK = $(LOCAL_DIR)/run
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
PROCD_ADDRESS = $(RUN)/procd
CONDOR_IDS = {ids}

# All on the loopback interface, behind one port.
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
USE_SHARED_PORT = True
SHARED_PORT_PORT = {port}
DAEMON_SOCKET_DIR = $(RUN)/sock

# Who somebody is, the file system tells.
UID_DOMAIN = localdomain
FILESYSTEM_DOMAIN = localdomain
TRUST_UID_DOMAIN = True
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/passwords/POOL
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = root@$(UID_DOMAIN) condor@$(UID_DOMAIN) {daemon}@$(UID_DOMAIN)
ALLOW_ADMINISTRATOR = $(ALLOW_DAEMON)
ALLOW_NEGOTIATOR = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_MASTER = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_SCHEDD = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_STARTD = $(ALLOW_DAEMON)

# Quick, for tests.
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
UPDATE_INTERVAL = 2
STARTER_INITIAL_UPDATE_INTERVAL = 1
STARTER_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 1
MASTER_BACKOFF_CONSTANT = 1
Q_QUERY_TIMEOUT = 3
CLAIM_WORKLIFE = 0
JOB_START_COUNT = 100

# This machine is not a host of a pool: nothing of it is tuned, measured, mounted or limited.
ENABLE_KERNEL_TUNING = False
LINUX_KERNEL_TUNING_SCRIPT =
DISCARD_SESSION_KEYRING_ON_STARTUP = False
RUNBENCHMARKS = 0
MOUNT_UNDER_SCRATCH =
USE_PID_NAMESPACES = False
BASE_CGROUP =
SINGULARITY =
DOCKER =
STARTD_DETECT_GPUS = False
STARTD_ENFORCE_DISK_LIMITS = False

RANK = 0
SUSPEND = False
PREEMPT = False
KILL = False
MEMORY = 8192
NUM_CPUS = 12
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
DEDICATED = "DedicatedScheduler@$(FULL_HOSTNAME)"
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD {startds}
"""
_STARTD_CONFIG = """
STARTD_{name} = $(STARTD)
STARTD_{name}_ARGS = -f -local-name {name}
STARTD_{name}_LOG = $(LOG)/StartLog.{name}
{name}.STARTD_NAME = {name}
{name}.STARTD_LOG = $(LOG)/StartLog.{name}
{name}.STARTER_LOG = $(LOG)/StarterLog.{name}
{name}.STARTD_ADDRESS_FILE = $(RUN)/startd.{name}.address
{name}.STARTD_CLAIM_ID_FILE = $(RUN)/startd.{name}.claim
{name}.EXECUTE = $(LOCAL_DIR)/execute/{name}
{name}.START = {start}
"""
_DEDICATED_CONFIG = """
{name}.SLOT_TYPE_1_PARTITIONABLE = False
{name}.NUM_CPUS = 2
{name}.MEMORY = 1024
{name}.DedicatedScheduler = $(DEDICATED)
{name}.STARTD_ATTRS = $(STARTD_ATTRS), DedicatedScheduler
"""
_COMMANDS = ("submit", "q", "history", "rm", "hold", "release", "status", "version", "config_val", "qedit")


class Pool(Struct, frozen=True):
    """The pool as a test sees it.

    Parameters
    ----------
    account
        Who submits.
    bin
        HTCondor's commands, for a PATH: whoever runs them, the pool's account gives them.
    directory
        A directory of the test's own, which the account may write.
    python
        A Python that has what is tested, for the account.
    """

    account: Account
    bin: Path
    directory: Path
    python: Path

    def run(self, *argv: str, timeout_s: float = 30.0) -> str:
        """Run one of the commands as the account; return what it prints."""
        command = [str(self.bin / argv[0]), *argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, verb: str, argument: object, *, universe: str = "vanilla", timeout_s: float = 60.0) -> object:
        """Ask the dialect, as the account, in a process of its own; see `asking`."""
        question = {"dialect": f"pilotmtc_adaptors.condor.dialect:{universe}", "verb": verb, "argument": argument}
        owner = pwd.getpwnam(self.account.name)
        done = subprocess.run(
            [str(self.python), "-P", "-m", "tests.lab.asking"],
            input=msgspec.json.encode(question),
            capture_output=True,
            cwd=self.directory,
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.account.home), "PYTHONDONTWRITEBYTECODE": "1"},
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=[],
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"asking failed: {done.stderr.decode()}")
        answer: object = msgspec.json.decode(done.stdout)
        return answer

    def make_directory(self, path: Path) -> None:
        """Make a directory that the account may write."""
        path.mkdir()
        shutil.chown(path, self.account.name, pwd.getpwnam(self.account.name).pw_gid)

    def jobs(self) -> list[str]:
        """Return the ids of the jobs in the queue that were submitted from the test's directory."""
        return self.run("condor_q", "-constraint", self._own, "-af:j", "JobStatus").split()[::2]

    def remove_jobs(self) -> None:
        """Take all jobs of the test out of the queue."""
        if self.jobs():
            with contextlib.suppress(RuntimeError):  # they may have left by themselves just now
                self.run("condor_rm", "-constraint", self._own)
        wait_until(lambda: not self.jobs(), 30, lambda: self.run("condor_q", "-nobatch"))

    def turn(self, on: bool) -> None:
        """Start or stop the daemon that has the queue."""
        word = "condor_on" if on else "condor_off"
        _as_root(word, *(() if on else ("-fast",)), "-daemon", "schedd")
        wait_until(lambda: self.answers() is on, 30, lambda: f"{word} has no effect")

    def answers(self) -> bool:
        """Return whether the queue can be asked."""
        done = subprocess.run([self.bin / "condor_q"], capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Keep the daemon that has the queue from answering."""
        (pid,) = without_children([pid for pid, line in _processes().items() if "condor_schedd" in line.split()[0]])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @property
    def _own(self) -> str:
        return f'Iwd == "{self.directory}"'


@pytest.fixture(scope="session")
def condor_pool() -> Iterator[Path]:
    """The running pool; its value is the directory of its commands."""
    if not ROOT:
        pytest.skip("needs root, to set up HTCondor")
    people = accounts()
    with open(LAB / "condor.users", "a", encoding="ascii") as users:
        with alone():
            _join(users, people["mtc-store"])
        yield _HOME / "bin"
        with alone():
            _leave(users)


@pytest.fixture
def condor(condor_pool: Path) -> Iterator[Pool]:
    """The pool, for a test that lets others use it, too."""
    yield from _use(condor_pool, fcntl.LOCK_SH)


@pytest.fixture
def condor_alone(condor_pool: Path) -> Iterator[Pool]:
    """The pool, for a test that disturbs others."""
    yield from _use(condor_pool, fcntl.LOCK_EX)


def _use(commands: Path, kind: int) -> Iterator[Pool]:
    account = accounts()["mtc-store"]
    with open(LAB / "condor.quiet", "a", encoding="ascii") as quiet:
        fcntl.flock(quiet, kind)
        directory = Path(tempfile.mkdtemp(prefix="mtc-condor-"))
        shutil.chown(directory, account.name, pwd.getpwnam(account.name).pw_gid)
        pool = Pool(account, commands, directory, account_python())
        yield pool
        pool.remove_jobs()
        shutil.rmtree(directory)


def _join(users: IO[str], account: Account) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # it is in use
        fcntl.flock(users, fcntl.LOCK_SH)
        return
    _stop()
    if not (_HOME / "complete").exists():
        _HOME.mkdir(mode=0o755, exist_ok=True)
        done = subprocess.run(["sh", _UNPACK, _HOME], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"HTCondor could not be unpacked: {done.stdout}{done.stderr}")
    _configure()
    _write_commands(account)
    _start()
    fcntl.flock(users, fcntl.LOCK_SH)


def _leave(users: IO[str]) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # others go on with it
        return
    _stop()


def _configure() -> None:
    shutil.rmtree(_LOCAL, ignore_errors=True)
    owner = pwd.getpwnam(_DAEMON)
    for name in ("log", "run", "spool", "execute"):
        (_LOCAL / name).mkdir(parents=True)
        os.chown(_LOCAL / name, owner.pw_uid, owner.pw_gid)
    for name in ("passwords", "tokens"):
        (_LOCAL / name).mkdir(mode=0o700)
    shared = {f"n{number}": False for number in range(1, _HOSTS + 1)}
    hosts = shared | {f"d{number}": True for number in range(1, _DEDICATED + 1)}
    text = _POOL_CONFIG.format(
        release=_RELEASE,
        local=_LOCAL,
        ids=f"{owner.pw_uid}.{owner.pw_gid}",
        port=_free_port(),
        daemon=_DAEMON,
        startds=" ".join(f"STARTD_{name}" for name in hosts),
    )
    for name, dedicated in hosts.items():
        (_LOCAL / "execute" / name).mkdir(mode=0o1777)
        (_LOCAL / "execute" / name).chmod(0o1777)
        start = "TARGET.JobUniverse == 11" if dedicated else "TARGET.JobUniverse != 11"
        text += _STARTD_CONFIG.format(name=name, start=start)
        text += _DEDICATED_CONFIG.format(name=name) if dedicated else ""
    _CONFIG.write_text(text)


def _write_commands(account: Account) -> None:
    commands = _HOME / "bin"
    commands.mkdir(mode=0o755, exist_ok=True)
    owner = pwd.getpwnam(account.name)
    become = f"setpriv --reuid={owner.pw_uid} --regid={owner.pw_gid} --init-groups"
    for name in _COMMANDS:
        file = commands / f"condor_{name}"
        file.write_text(
            f"#!/bin/sh\n"
            f"CONDOR_CONFIG={_CONFIG}\nexport CONDOR_CONFIG\n"
            f"if [ $(id -u) = 0 ]; then\n"
            f"    HOME={account.home} USER={account.name}\n    export HOME USER\n"
            f'    exec {become} {_RELEASE}/bin/{file.name} "$@"\n'
            f"fi\n"
            f'exec {_RELEASE}/bin/{file.name} "$@"\n'
        )
        file.chmod(0o755)


def _start() -> None:
    # Detached by itself, and with an environment of its own: it outlives the test process that happens to be first.
    master = [f"{_RELEASE}/sbin/condor_master", "-pidfile", str(_LOCAL / "run" / "master.pid")]
    with open(_LOCAL / "log" / "master.out", "wb") as out:
        subprocess.run(
            master, env=_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=30, check=True
        )
    names = _HOSTS + _DEDICATED
    wait_until(lambda: len(_as_root("condor_status", "-af", "Name").split()) >= names, _UP_WITHIN_S, _logs)
    wait_until(lambda: _as_root("condor_status", "-schedd", "-af", "Name"), _UP_WITHIN_S, _logs)


def _stop() -> None:
    """Stop what runs of the pool, jobs too."""
    pid_file = _LOCAL / "run" / "master.pid"
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int(pid_file.read_text())
        if pid in _processes():
            os.kill(pid, signal.SIGQUIT)  # which is its word for "at once"
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: pid not in _processes(), _DOWN_WITHIN_S)
    for left in _processes():
        kill(left)
    wait_until(lambda: not _processes(), _DOWN_WITHIN_S, lambda: str(_processes()))
    pid_file.unlink(missing_ok=True)


def _processes() -> dict[int, str]:
    # The daemons have the configuration in their environment, jobs the directory that they were given.
    return processes_with(f"CONDOR_CONFIG={_CONFIG}") | processes_with(f"_CONDOR_SCRATCH_DIR={_LOCAL}")


def _as_root(command: str, *arguments: str) -> str:
    folder = "bin" if (_RELEASE / "bin" / command).exists() else "sbin"
    argv: Sequence[str] = (str(_RELEASE / folder / command), *arguments)
    done = subprocess.run(argv, env=_environment(), capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/", "CONDOR_CONFIG": str(_CONFIG)}


def _logs() -> str:
    def tail(file: Path) -> str:
        return "\n".join(file.read_text("utf-8", "replace").splitlines()[-15:])

    return "\n".join(f"--- {file.name}\n{tail(file)}" for file in sorted((_LOCAL / "log").glob("*[Lg]og*")))


def _free_port() -> int:
    # Below those that the kernel gives to whoever connects.
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
