"""The program behind the local dialect: it starts, lists and ends jobs on this host, and prints JSON.

Each job has a *keeper*, a detached process that starts it, enforces its walltime, and writes down how it ended. A
job's id is the number and the start time of its process, so that no later process with that number has the same id.
This file is run by its path and imports only the standard library.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

_ID = re.compile(r"[0-9]+-[0-9]+", re.ASCII)
_GRACE_S = 5.0  # from TERM to KILL
_REMEMBERED_S = 7 * 86400.0  # how long a job that has ended is known
_NEVER = float("inf")
_WAKE = {signal.SIGCHLD, signal.SIGTERM}


def main() -> None:
    """Do what the first argument says."""
    verbs: dict[str, Callable[[Any], object]] = {"start": start, "look": look, "end": end, "all": everything}
    try:
        json.dump(verbs[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


# -- the verbs -----------------------------------------------------------------------------------------------


def start(wish: dict[str, Any]) -> str:
    """Start a job and return its id. Raises `OSError` or `ValueError` for what this host does not have."""
    cores, memory = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wish["cores_per_node"] > cores:
        raise ValueError(f"cores_per_node {wish['cores_per_node']}: this host has {cores}")
    if wish["memory_per_node_bytes"] > memory:
        raise ValueError(f"memory_per_node_bytes {wish['memory_per_node_bytes']}: this host has {memory}")
    root = _root()
    _forget_old(root)
    base = wish["working_directory"] or "/"
    output = os.open(os.path.join(base, wish["output"] or os.devnull), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    error = output
    if wish["error"]:
        error = os.open(os.path.join(base, wish["error"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    ready, said = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        _keeper(root, wish, output, error, said)
    os.close(said)
    with open(ready) as pipe:
        batch_id = pipe.read()
    if not batch_id:
        raise OSError("the job's keeper died")
    return batch_id


def look(ids: list[str]) -> dict[str, Any]:
    """Return what is known about each job; None for an unknown one."""
    return {each: _look(each) for each in ids}


def end(ids: list[str]) -> dict[str, bool]:
    """End jobs; return whether they are known."""
    return {each: _end(each) for each in ids}


def everything(_: None) -> dict[str, Any]:
    """Return all jobs of this user, the newest last."""
    found = {each.name: _look(each.name) for each in _root().iterdir() if _ID.fullmatch(each.name)}
    return dict(sorted(((key, job) for key, job in found.items() if job), key=lambda each: each[1]["created_at"]))


# -- a job's life ----------------------------------------------------------------------------------------------------


def _keeper(root: Path, wish: dict[str, Any], output: int, error: int, said: int) -> NoReturn:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKE)
    gate, opened = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(error, 2)
        os.read(gate, 1)
        os.closerange(3, 256)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        own = root / f"{os.getpid()}-{_started(os.getpid())}"
        os.execv("/bin/sh", ["/bin/sh", str(own / "script")])
    directory = root / f"{pid}-{_started(pid)}"
    directory.mkdir(mode=0o700)
    (directory / "script").write_bytes(wish["script"].encode("utf-8", "surrogateescape"))
    facts: dict[str, Any] = {"name": wish["name"], "host": os.uname().nodename, "created_at": time.time()}
    facts["keeper"] = [os.getpid(), _started(os.getpid())]
    _write(directory / "job", facts)
    os.write(opened, b"x")
    os.write(said, directory.name.encode())
    for descriptor in (gate, opened, said, output, error):
        with contextlib.suppress(OSError):  # output and error may be one
            os.close(descriptor)
    why = _keep(pid, wish["walltime_s"] or _NEVER, wish["signal_s"])
    _, status = os.waitpid(pid, 0)
    _write(directory / "ended", {"status": os.waitstatus_to_exitcode(status), "why": why, "ended_at": time.time()})
    os._exit(0)


def _keep(pid: int, walltime_s: float, signal_s: float) -> str:
    """Wait until a job has ended, and end the rest of its group; return why it was ended, "" if by itself."""
    over_at = time.monotonic() + walltime_s
    warn_at = over_at - signal_s if signal_s else _NEVER
    kill_at, why = _NEVER, ""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        now = time.monotonic()
        if now >= warn_at:
            os.kill(pid, signal.SIGTERM)
            warn_at = _NEVER
        if now >= over_at and not why:
            why, kill_at = "walltime", now + _GRACE_S
            _signal_group(pid, signal.SIGTERM)
        if now >= kill_at:
            kill_at = _NEVER
            _signal_group(pid, signal.SIGKILL)
        until = min(warn_at, kill_at, _NEVER if why else over_at, now + 3600)
        got = signal.sigtimedwait(_WAKE, max(until - time.monotonic(), 0))
        if got and got.si_signo == signal.SIGTERM and not why:
            why, kill_at = "canceled", time.monotonic() + _GRACE_S
            _signal_group(pid, signal.SIGTERM)
    _signal_group(pid, signal.SIGKILL)  # the job is not reaped yet, so no other group can have this number
    return why


def _end(batch_id: str) -> bool:
    directory, job = _job(batch_id)
    if job is None:
        return False
    pid, started = _parts(batch_id)
    if _read(directory / "ended") is not None or _signal(job["keeper"], signal.SIGTERM):
        return True
    # Somebody killed its keeper.
    if _signal((pid, started), 0):
        _write(directory / "ended", {"status": None, "why": "canceled", "ended_at": time.time()})
        _signal_group(pid, signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while _started(pid) == started and time.monotonic() < until:
            time.sleep(0.05)
        if _started(pid) == started:
            _signal_group(pid, signal.SIGKILL)
    return True


def _look(batch_id: str) -> dict[str, Any] | None:
    directory, job = _job(batch_id)
    if job is None:
        return None
    kept = _signal(job["keeper"], 0)
    ended = _read(directory / "ended")  # second: a keeper that has ended by then has written it
    pid, started = _parts(batch_id)
    state = "" if _started(pid) != started else _stat(pid)[0]
    return {**job, "ended": ended, "kept": kept, "process": state}


# -- processes and files ---------------------------------------------------------------------------------------------


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"pilotmtc-jobs-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if root.is_symlink() or root.stat().st_uid != os.getuid() or root.stat().st_mode & 0o022:
        raise PermissionError(f"{root} belongs to another user, or others may write to it: remove it, or set TMPDIR")
    return root


def _forget_old(root: Path) -> None:
    for each in root.iterdir():
        ended = _read(each / "ended")
        if ended is not None and ended["ended_at"] < time.time() - _REMEMBERED_S:
            shutil.rmtree(each)


def _job(batch_id: str) -> tuple[Path, dict[str, Any] | None]:
    directory = _root() / batch_id
    return directory, _read(directory / "job") if _ID.fullmatch(batch_id) else None


def _parts(batch_id: str) -> tuple[int, int]:
    pid, _, started = batch_id.partition("-")
    return int(pid), int(started)


def _write(path: Path, value: object) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.rename(path)


def _read(path: Path) -> Any:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return json.loads(path.read_text())
    return None


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _started(pid: int) -> int:
    """Return when a process started, in ticks since the host did; 0 if it has ended."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def _signal(process: tuple[int, int], number: int) -> bool:
    """Send a signal to the process with that number and start time; return whether it exists."""
    pid, started = process
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _started(pid) != started:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    main()
