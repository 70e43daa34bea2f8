"""What tests of several rooms need: waiting for a condition, finding and ending processes."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

# What a store server may take to leave after its last client has: a minute would be a minute for every test.
LINGER_S = "0.2"
T = TypeVar("T")
_naps = itertools.count(1)


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """Give a disk of a size such as ``2m``, mounted at a new directory; skip the test where none can be."""
    directory.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if subprocess.run(argv, check=False, timeout=10).returncode:
        pytest.skip("file systems cannot be mounted here, as they mostly can by root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=10)


def patience_s(limit_s: float) -> float:
    """Return how long to wait for what takes up to `limit_s` where nobody else has anything to do.

    A limit ends what hangs. What only has to share its machine with others takes as many times as long as there is work
    for each core.
    """
    return limit_s * min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), 4.0)


def wait_until(pred: Callable[[], T], timeout: float = 30.0, on_timeout: Callable[[], object] | None = None) -> T:
    """Return the first true value of `pred`.

    Raises
    ------
    TimeoutError
        If there is none within `timeout` seconds, or longer on a busy machine (`patience_s`); the text holds what
        `on_timeout` returns.
    """
    began = time.monotonic()
    pause = 0.001
    while True:
        value = pred()
        if value:
            return value
        if (waited_s := time.monotonic() - began) >= patience_s(timeout):
            dump = "" if on_timeout is None else f"\n{on_timeout()}"
            raise TimeoutError(f"still not so after {waited_s:.0f} s (last: {value!r}){dump}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


@contextlib.contextmanager
def surroundings(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point HOME and its like into `directory`; give a new directory for runtime files.

    Sockets lie in the runtime directory, and a socket's path may have 107 bytes only: so it is not below `directory`.
    """
    home = directory / "home"
    home.mkdir(exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="pmtc-", dir="/tmp"))
    runtime.chmod(0o700)
    patch.setenv("HOME", str(home))
    patch.setenv("XDG_RUNTIME_DIR", str(runtime))
    patch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    patch.setenv("PILOTMTC_SERVER_LINGER_S", LINGER_S)
    for name in ("PILOTMTC_STORE", "PILOTMTC_TASK_ID", "PILOTMTC_PILOT_ID", "COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        patch.delenv(name, raising=False)
    yield runtime
    shutil.rmtree(runtime, ignore_errors=True)


def nap() -> str:
    """Return how many seconds to sleep: far too many, and as no other test does, so that `alive` finds the sleepers."""
    return f"9{os.getpid():08}.{next(_naps):04}5"


def command_lines() -> dict[int, str]:
    """Return the command line of every other process by its pid; each argument ends with a NUL."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                found[int(name)] = Path("/proc", name, "cmdline").read_bytes().decode("utf-8", "replace")
    return found


def alive(words: str) -> list[int]:
    """Return the processes whose command line has `words`."""
    return [pid for pid, line in command_lines().items() if words in line]


def parent(pid: int) -> int:
    """Return the parent of a process, 0 if the process has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def without_children(pids: Collection[int]) -> list[int]:
    """Return those of `pids` whose parent is not among them.

    A new child has the command line of its parent until it executes a program of its own.
    """
    return [pid for pid in pids if parent(pid) not in pids]


def processes_with(mark: str) -> dict[int, str]:
    """Return the living processes (zombies are not) whose environment holds `mark`: pid and command line."""
    found: dict[int, str] = {}
    needle = os.fsencode(mark)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found[int(entry.name)] = command
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def children() -> dict[int, str]:
    """Return this process's own children, zombies too: pid and command line."""
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:  # a thread that ended meanwhile
            continue
        for pid in pids:
            try:
                command = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            found[int(pid)] = command.strip() or "(zombie)"
    return found


def kill(pid: int) -> None:
    """End one process for good; it may be over already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # not ours
        return


def kill_at_once(pids: Collection[int]) -> None:
    """Kill processes before any of them can notice the end of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
