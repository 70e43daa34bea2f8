"""Control groups (version 2) in which the kernel limits the memory of tasks, where it lets this process make them.

    OWN/                     where the pilot was started; all processes in it must be the pilot's own
    OWN/pilotmtc-MARK/       of a pilot on this node, which locks it as long as it lives
    OWN/pilotmtc-MARK/agent  its own processes: those of OWN, which must have none when the groups in it have limits
    OWN/pilotmtc-MARK/N      a task

At the end all is as it was. What a killed agent leaves is removed when its guard reports that, or by the next pilot.
"""

import contextlib
import errno
import fcntl
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilotmtc.agent.guard import HALF, mark_of
from pilotmtc.agent.node.marks import is_server
from pilotmtc.system import control_groups, processes
from pilotmtc.system.open_files import limit_as_found

_PREFIX = "pilotmtc-"
_AGENT = "agent"
_PROCESSES = "cgroup.procs"
_CHILDREN_HAVE = "cgroup.subtree_control"
_END_S = 2.0
_log = logging.getLogger("pilotmtc.agent")


class NotEntered(Exception):
    """A process could not enter its control group, and was not started."""


class MemoryGroups:
    """The control groups of the tasks with a memory limit on this node.

    Parameters
    ----------
    mark
        Of this process, see `guard`.

    Attributes
    ----------
    base
        The directory of all of them.
    """

    def __init__(self, mark: int) -> None:
        self._name = f"{_PREFIX}{mark >> HALF:x}"
        self._lock = -1
        self._leaving: list[Path] = []  # groups of tasks that have ended, with processes that have not
        own = control_groups.own("")
        if own is None or str(os.getpid()) not in _pids(own):  # a container may show other groups, or none
            raise OSError(errno.ENOENT, "there is no control group of version 2")
        if own.name == _AGENT and own.parent.name == self._name:  # a worker was killed, or its agent; this one follows
            own = own.parent.parent
        self._own = own
        self.base = own / self._name
        self._agent = self.base / _AGENT

    def open(self) -> None:
        """Prepare for groups of tasks; raise `OSError`, with all as it was, if that is not possible."""
        if self._own.name == _AGENT and self._own.parent.name.startswith(_PREFIX):
            raise OSError(errno.EBUSY, "it is another pilot's")
        if "memory" not in control_groups.read(self._own / "cgroup.controllers").split():
            raise OSError(errno.ENODEV, "it cannot limit memory")
        self.base.mkdir(exist_ok=True)
        self._lock = _lock(self.base)
        try:
            try:
                _write(self._own / _CHILDREN_HAVE, "+memory")
            except OSError as error:
                if error.errno != errno.EBUSY:  # "no group may have both processes and children with limits"
                    raise
                self._make_way()
                _write(self._own / _CHILDREN_HAVE, "+memory")
            _write(self.base / _CHILDREN_HAVE, "+memory")
        except OSError:
            self.close()
            raise
        with contextlib.suppress(OSError):  # it cannot be killed
            _remove_tasks(self.base)
        for path in self._own.glob(f"{_PREFIX}*"):
            if path != self.base:
                with contextlib.suppress(OSError):  # its pilot lives, or its guard does
                    _remove_left(path)

    def make(self, number: int, memory_bytes: int) -> Path | None:
        """Return a new group with a limit for a task; None if there can be none now."""
        path = self.base / str(number)
        try:
            path.mkdir()
        except OSError as error:
            _log.warning("no control group for a task now: %s", error)
            return None
        try:
            _write(path / "memory.max", str(memory_bytes))
            for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with contextlib.suppress(FileNotFoundError):  # no swap, or an older kernel
                    _write(path / name, value)
        except OSError as error:
            _log.warning("no control group for a task now: %s", error)
            self._drop(path)
            return None
        return path

    def end(self, path: Path) -> tuple[int, bool]:
        """Kill all processes in a task's group and remove it.

        Returns
        -------
            Its peak memory in bytes, 0 if the kernel does not say, and whether the kernel has killed in it, out of
            memory.
        """
        peak = control_groups.read(path / "memory.peak")
        kills = control_groups.counter(path / "memory.events", "oom_kill")
        self._drop(path)
        return int(peak or 0), kills > 0

    def tidy(self) -> None:
        """Remove groups of ended tasks whose processes took time to end."""
        waiting, self._leaving = self._leaving, []
        for path in waiting:
            self._drop(path)

    def close(self) -> None:
        """Remove all groups, and leave the one of this process as it was found."""
        if not self.base.exists():
            return
        try:
            _remove_tasks(self.base)
            if self._agent.exists():
                for path in (self.base, self._own):
                    _write(path / _CHILDREN_HAVE, "-memory")
                for pid in _pids(self._agent):
                    _enter(self._own, pid)
                _remove(self._agent)
            self.base.rmdir()
        except OSError as error:
            _log.warning("the control group %s is left: %s", self.base, error)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _make_way(self) -> None:
        """Move the processes of the pilot down, if there are no others."""
        pids = _pids(self._own)
        family = _family()
        if not all(_is_of(int(pid), family) for pid in pids):
            raise OSError(errno.EBUSY, "there are other processes in it")
        self._agent.mkdir()
        for pid in pids:
            _enter(self._agent, pid)

    def _drop(self, path: Path) -> None:
        for pid in _pids(path):
            if is_server(int(pid), mark_of(int(pid))):  # a task has started it, and it serves others, too
                with contextlib.suppress(OSError):
                    _enter(self._agent if self._agent.exists() else self._own, pid)
        try:
            _kill(path)
            _remove(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                _log.warning("cannot remove the control group %s: %s", path, error.strerror)
            self._leaving.append(path)


def take(mark: int) -> MemoryGroups | None:
    """Return the control groups in which tasks can be limited here; None, and a line in the log, if there are none."""
    try:
        found = MemoryGroups(mark)
        found.open()
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        _log.info("memory limits: pilotmtc looks once a second (the kernel does not take them: %s)", what)
        return None
    _log.info("memory limits: the kernel keeps them, in control groups below %s", found.base)
    return found


def give_back(mark: int) -> None:
    """Remove the groups of an agent that was killed; `mark` is its guard's, and this process's."""
    with contextlib.suppress(OSError):  # there were none
        MemoryGroups(mark).close()


def spawn(
    group: Path, program: str, argv: list[str], env: Mapping[str, str], files: Sequence[tuple[int, int, int]]
) -> int:
    """Start a process in a control group from its first instruction on; as `os.posix_spawn` in a session of its own.

    That cannot do so, and a process that is moved later may have children by then.

    Raises
    ------
    NotEntered
        If that group cannot be entered.
    OSError, ValueError
        If the program cannot be executed.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb") as fault:
        try:
            pid = os.fork()
            if not pid:
                _become(group, program, argv, env, files, fault=writing)
        finally:
            os.close(writing)
        text = fault.read()  # it ends when the program begins
    if text:
        os.waitpid(pid, 0)
        if text == b"group":
            raise NotEntered
        if text.startswith(b"!"):
            raise ValueError(text[1:].decode())
        raise OSError(int(text), os.strerror(int(text)), program)
    return pid


def _become(
    group: Path, program: str, argv: list[str], env: Mapping[str, str], files: Sequence[tuple[int, int, int]],
    *, fault: int,
) -> None:  # fmt: skip
    """Be the new process: this does not return."""
    said = b"group"
    try:
        os.setsid()
        _write(group / _PROCESSES, "0")
        said = b""
        for number in signal.valid_signals():
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for _, here, there in files:
            os.dup2(here, there)
        with limit_as_found():
            os.execve(program, argv, env)
    except OSError as error:
        os.write(fault, said or str(error.errno).encode())
    except ValueError as error:  # a null byte
        os.write(fault, f"!{error}".encode())
    finally:
        os._exit(127)


# -- a group ---------------------------------------------------------------------------------------------------


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _pids(group: Path) -> list[str]:
    return control_groups.read(group / _PROCESSES).split()


def _enter(group: Path, pid: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        _write(group / _PROCESSES, pid)


def _kill(group: Path) -> None:
    """Kill all processes in a group and below."""
    with contextlib.suppress(FileNotFoundError):
        if "populated 0" not in control_groups.read(group / "cgroup.events"):
            _write(group / "cgroup.kill", "1")
        return
    for pid in _pids(group):  # an older kernel
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _remove(group: Path) -> None:
    """Remove a group and those below, which a task may have made; raise `OSError` if processes are left."""
    if not group.exists():
        return
    for directory, _, _ in os.walk(group, topdown=False):
        os.rmdir(directory)


def _remove_tasks(base: Path) -> None:
    """Kill what is in the groups of tasks, and remove them; raise `OSError` if processes do not end in time."""
    until = time.monotonic() + _END_S
    for path in base.iterdir():
        if not path.name.isdigit():
            continue
        while True:
            try:
                _kill(path)
                _remove(path)
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)


def _lock(group: Path) -> int:
    """Lock a group; raise `OSError` if somebody else has done so."""
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _remove_left(base: Path) -> None:
    """Remove what a pilot that lives no more has left; raise `OSError` if that cannot be."""
    fd = _lock(base)
    try:
        _remove_tasks(base)
        _remove(base)
    finally:
        os.close(fd)


# -- whose processes they are ----------------------------------------------------------------------------------


def _family() -> set[int]:
    """Return the marks of the guards of this process and its agent."""
    found = set()
    pid = os.getpid()
    while pid > 1 and (mark := mark_of(pid)) > 0 and not mark & ((1 << HALF) - 1):
        found.add(mark)
        fields = processes.stat(pid, 2)
        pid = int(fields[1]) if fields else 0
    return found


def _is_of(pid: int, family: set[int]) -> bool:
    """Return whether a process is of the pilot, but no task: its guards and all that they have started, or a server."""
    if not pid:  # it cannot be seen from here
        return False
    mark = mark_of(pid)
    fields = processes.stat(pid, 2)
    is_sweeper = mark < 0 and bool(fields) and mark_of(int(fields[1])) in family
    return mark in family or is_sweeper or is_server(pid, mark)
