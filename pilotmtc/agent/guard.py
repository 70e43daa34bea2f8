"""The guard: the agent's parent, which ends its tasks if it dies and tells the store about it.

``python -I -S guard.py``, told what to do by the JSON in ``$MTC_GUARD`` or its argument. Only the standard library,
and nothing in its command line that names the program: whoever kills all that is called so shall not kill the one who
cleans up. Node workers have such a guard, too: it starts a worker that was killed anew.

The guard is a subreaper: when the agent dies, its tasks, and whatever they have started and cut loose, become the
guard's children. A pipe that it holds tells the agent if the guard itself dies.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time

_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
_NAME = 15  # PR_SET_NAME
_TITLE = b"mtc-guard"
_PIPE_FD = 3
_POST_MORTEM_S = 60.0
_SERVER = b"PILOTMTC_STORE_SERVER="
_SWEEP_S = 30.0


def rename(title: bytes) -> None:
    """Overwrite this process's command line. It only has to work as well as it can."""
    ctypes.CDLL(None).prctl(_NAME, ctypes.c_char_p(title), 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if end - start > len(title):
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title, len(title))


def descendants() -> "list[int]":
    """Return all living processes below this one, except store servers, which serve others too."""
    found = []
    todo = [os.getpid()]
    while todo:
        pid = todo.pop()
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    children = [int(word) for word in file.read().split()]
            except OSError:
                continue
            for child in children:
                if not _is_server(child):
                    found.append(child)
                    todo.append(child)
    return found


def _is_server(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return _SERVER in file.read()
    except OSError:
        return False


def sweep() -> int:
    """Kill everything below this process until nothing is there; return how many there were."""
    killed = 0
    until = time.monotonic() + _SWEEP_S
    while time.monotonic() < until:
        alive = descendants()
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except OSError:
                pass
        reap()
        if not descendants():
            break
        time.sleep(0.005)
    return killed


def reap() -> None:
    """Reap what is dead."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def wait_for(pid: int, timeout_s: "float | None") -> "int | None":
    """Reap all children until `pid` is among them; return its wait status, None if that takes too long."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(-1, 0 if until is None else os.WNOHANG)
        if found == pid:
            return status
        if until is not None and not found:
            if time.monotonic() > until:
                return None
            time.sleep(0.02)


def say(text: str) -> None:
    """Write a line to the log, if that has room for it."""
    with contextlib.suppress(OSError):
        os.write(2, f"guard: {text}\n".encode())


def main() -> int:
    """Run the agent; clean up after it."""
    todo = json.loads(sys.argv[1] if len(sys.argv) > 1 else os.environ.pop("MTC_GUARD"))
    if "alive_fd" in todo:  # in the background: the guard is nobody's child, so nobody has to reap it
        os.set_inheritable(todo["alive_fd"], False)  # whoever started this sees at its other end that the guard is dead
        if os.fork():
            os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    rename(_TITLE)
    agent = 0

    def forward(number: int, frame: object) -> None:
        if agent:
            with contextlib.suppress(OSError):
                os.kill(agent, number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    reading, writing = os.pipe()
    os.set_inheritable(reading, False)
    environment = dict(os.environ)
    again = todo.get("again", 0)
    while True:
        agent = os.posix_spawn(
            todo["agent"][0],
            [*todo["agent"], "--guard-fd", str(_PIPE_FD + 10)],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, reading, _PIPE_FD + 10)],
            setsigdef=[signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ],
        )
        status = wait_for(agent, None)
        killed = sweep()
        if status == 0:
            return 0
        assert status is not None
        code = os.waitstatus_to_exitcode(status)
        if "again" not in todo:
            break
        if code > 0 or not again:
            return 1
        again -= 1
        say(f"the node worker was killed by signal {-code}; starting it anew")
    os.close(reading)
    how = f"its agent was killed by signal {-code}" if code < 0 else f"its agent ended with exit code {code}"
    say(f"{how}; {killed} processes of tasks were left, and are dead")
    try:
        agent = os.posix_spawn(todo["agent"][0], [*todo["agent"], "--post-mortem", how], environment)
    except OSError as error:
        say(f"the store could not be told ({error.strerror}); it will find out when the lease is over")
        return 1
    if wait_for(agent, _POST_MORTEM_S) is None:
        os.kill(agent, signal.SIGKILL)
        say("the store could not be told; it will find out when the lease is over")
    sweep()
    os.close(writing)
    return 1


if __name__ == "__main__":
    sys.exit(main())
