"""The guard: the agent's parent, which ends its tasks if it dies and tells the store about it.

``python -I -S guard.py``, told what to do by the JSON in ``$MTC_GUARD`` or its argument. Nothing in its command line
names the program: whoever kills all processes of that name must not kill the one that cleans up. Node workers have such
a guard, too: it starts another worker if one was killed.

It imports the standard library alone, and so repeats a few lines of other files: `tests/unit/system/test_copies.py`
sees to it that the copies stay the same.

The guard is a subreaper: when the agent dies, its tasks, and whatever they have started and cut loose, become the
guard's children. A pipe that it holds tells the agent if the guard itself dies.

Both may die in the same moment: batch systems kill all of a job's sessions. So there is a sweeper, too, in a session of
its own. Another pipe, held by guard and agent, tells it that neither is there any more. Then it kills what bears the
guard's *mark*: a resource limit that Linux has ignored since 2.4, and that a process hands on to its children, whatever
they do to their environment, sessions and descriptors.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time

MARK = 10  # RLIMIT_LOCKS. The upper half of its value is the guard's, the lower half the task's; 0 is no task.
HALF = 32
MEMORY = "/dev/shm"
IN_MEMORY = "pilotmtc-"  # begins the names of directories there; they end with the mark of the guard
_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
_NAME = 15  # PR_SET_NAME
_TITLE = b"mtc-guard"
_SWEEPER = b"mtc-sweeper"
_POST_MORTEM_S = 60.0
_SERVER = b"PILOTMTC_STORE_SERVER="
_SWEEP_S = 30.0


def rename(title: bytes) -> None:
    """Overwrite this process's command line, as far as there is room."""
    ctypes.CDLL(None).prctl(_NAME, ctypes.c_char_p(title), 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if end - start > len(title):
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title, len(title))


def take_mark() -> int:
    """Give this process a mark of its own, and so all that it starts; return it, 0 if there can be none."""
    mark = (int.from_bytes(os.urandom(4), "big") >> 1 | 1) << HALF
    try:
        resource.setrlimit(MARK, (mark, resource.getrlimit(MARK)[1]))
    except ValueError:
        say("the number of file locks is limited (ulimit -x): processes of tasks cannot be marked")
        return 0
    return mark


def keep(*fds: "int | None") -> None:
    """Let children not inherit what the guard handed to this process."""
    for fd in fds:
        if fd is not None:
            os.set_inheritable(fd, False)


def put_off_mark() -> None:
    """Give this process the mark of no guard."""
    hard = resource.getrlimit(MARK)[1]
    resource.setrlimit(MARK, (hard, hard))


def mark_of(pid: int) -> int:
    """Return the mark of a process, -1 if it has none, is gone or is another user's."""
    try:
        return resource.prlimit(pid, MARK)[0]
    except (ProcessLookupError, PermissionError):
        return -1


def marked(mark: int) -> "list[int]":
    """Return all living processes with the mark of the same guard."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if mark_of(pid) >> HALF == mark >> HALF and not _is_dead(pid)]


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def sweep_marked(mark: int) -> None:
    """Kill all that bears the mark of a guard until nothing does."""
    until = time.monotonic() + _SWEEP_S
    while (alive := marked(mark)) and time.monotonic() < until:
        for pid in alive:
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(pid)
                try:
                    if mark_of(pid) >> HALF == mark >> HALF:  # still, and so the descriptor is of the same process
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                finally:
                    os.close(fd)
        time.sleep(0.005)
    clear_memory(mark)


def clear_memory(mark: int) -> None:
    """Remove the files that processes with the mark of a guard have left in memory."""
    for name in os.listdir(MEMORY) if mark and os.path.isdir(MEMORY) else ():
        if not (name.startswith(IN_MEMORY) and name.endswith(f"-{mark >> HALF:x}")):
            continue
        with contextlib.suppress(OSError):  # it goes at this moment, or is not what it should be
            directory = os.open(os.path.join(MEMORY, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                for file in os.listdir(directory):
                    os.unlink(file, dir_fd=directory)
            finally:
                os.close(directory)
            os.rmdir(os.path.join(MEMORY, name))


class Sweeper:
    """The process that waits until guard and agent have ended, and kills what they leave.

    Attributes
    ----------
    mark
        Of what it kills; 0 for no sweeper at all.
    pid
        Its number, 0 while there is none.
    writing
        What the agent has to hold for as long as it lives.
    """

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.pid = 0
        self._reading, self.writing = os.pipe()
        self.start()

    def start(self) -> None:
        """Start it by a fork alone: it shares the memory of this process."""
        if not self.mark:
            return
        try:
            self.pid = os.fork()
        except OSError as error:
            say(f"cannot start the sweeper: {error.strerror}")
            return
        if not self.pid:
            code = 1
            try:
                self._run()
                code = 0
            except OSError as error:
                say(f"the sweeper has failed: {error}")
            finally:
                os._exit(code)

    def _run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        put_off_mark()
        null = os.open(os.devnull, os.O_RDWR)  # who reads the job's output must not wait for this process
        for fd in range(3):
            os.dup2(null, fd)
        reading = self._reading
        os.closerange(3, reading)
        os.closerange(reading + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.chdir("/")
        rename(_SWEEPER)
        os.read(reading, 1)
        sweep_marked(self.mark)

    def stop(self) -> None:
        """End it: nothing is left for it to do."""
        clear_memory(self.mark)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def descendants(sweeper: "Sweeper | None" = None) -> "list[int]":
    """Return all living processes below this one, except the sweeper, and store servers, which serve others too."""
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
                if not _is_spared(child, sweeper):
                    found.append(child)
                    todo.append(child)
    return found


def _is_spared(pid: int, sweeper: "Sweeper | None") -> bool:
    if sweeper is not None and pid == sweeper.pid:
        return True
    if mark_of(pid) >= 0:
        return False  # whatever it claims to be: a server has no mark
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return _SERVER in file.read()
    except OSError:
        return False


def sweep(sweeper: "Sweeper | None" = None) -> int:
    """Kill everything below this process until nothing is there; return how many there were."""
    killed: set[int] = set()
    until = time.monotonic() + _SWEEP_S
    while time.monotonic() < until:
        for pid in descendants(sweeper):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        while reap(os.WNOHANG, sweeper)[0]:
            pass
        if not descendants(sweeper):
            break
        time.sleep(0.005)
    return len(killed)


def reap(options: int, sweeper: "Sweeper | None") -> "tuple[int, int]":
    """Reap a child and return what `waitpid` says; (0, 0) if there is none. A killed sweeper is replaced."""
    try:
        found, status = os.waitpid(-1, options)
    except ChildProcessError:
        return 0, 0
    if sweeper is not None and found and found == sweeper.pid:
        sweeper.pid = 0
        if os.WIFSIGNALED(status):
            sweeper.start()
    return found, status


def wait_for(pid: int, timeout_s: "float | None", sweeper: "Sweeper") -> "int | None":
    """Reap all children until `pid` is among them; return its wait status, None if that takes too long."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found, status = reap(0 if until is None else os.WNOHANG, sweeper)
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


def close_inherited(kept: "int | None") -> None:
    """Close what the parent has left open, so that neither this process nor tasks hold its locks."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                os.close(int(name))


def main() -> int:
    """Run the agent; clean up after it."""
    todo = json.loads(sys.argv[1] if len(sys.argv) > 1 else os.environ.pop("MTC_GUARD"))
    close_inherited(todo.get("alive_fd"))
    if "alive_fd" in todo:  # in the background: the guard is nobody's child, so nobody has to reap it
        os.set_inheritable(todo["alive_fd"], False)  # whoever started this sees at its other end that the guard is dead
        if os.fork():
            os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    rename(_TITLE)
    agent = 0
    command = [word.encode("utf-8", "surrogateescape") for word in todo["agent"]]  # whatever the locale

    def forward(number: int, frame: object) -> None:
        if agent:
            with contextlib.suppress(OSError):
                os.kill(agent, number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    sweeper = Sweeper(take_mark())
    reading, writing = os.pipe()
    handed_on = (reading, sweeper.writing)  # under the numbers that they have: nothing can get into their way
    environment = dict(os.environ)
    again = todo.get("again", 0)
    while True:
        for fd in handed_on:
            os.set_inheritable(fd, True)
        agent = os.posix_spawn(
            command[0],
            [*command, "--guard-fd", str(reading), "--alive-fd", str(sweeper.writing)],
            environment,
            setsigdef=[signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ],
        )
        for fd in handed_on:
            os.set_inheritable(fd, False)
        status = wait_for(agent, None, sweeper)
        killed = sweep(sweeper)
        if status == 0:
            sweeper.stop()
            return 0
        assert status is not None
        code = os.waitstatus_to_exitcode(status)
        if "again" not in todo:
            break
        if code > 0 or not again:
            sweeper.stop()
            return 1
        again -= 1
        say(f"the node worker was killed by signal {-code}; starting another")
    os.close(reading)
    how = f"its agent was killed by signal {-code}" if code < 0 else f"its agent ended with exit code {code}"
    say(f"{how}; {killed} processes of tasks were left, and were killed")
    os.set_inheritable(sweeper.writing, True)  # the sweeper lets it finish
    try:
        agent = os.posix_spawn(command[0], [*command, "--post-mortem", how], environment)
    except OSError as error:
        say(f"the store could not be told ({error.strerror}); it will find out when the lease expires")
        sweeper.stop()
        return 1
    if wait_for(agent, _POST_MORTEM_S, sweeper) is None:
        os.kill(agent, signal.SIGKILL)
        say("the store could not be told; it will find out when the lease expires")
    sweep(sweeper)
    sweeper.stop()
    os.close(writing)
    return 1


if __name__ == "__main__":
    sys.exit(main())
