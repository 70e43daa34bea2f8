"""The guard: the agent's parent. If the agent dies, the guard ends its tasks and tells the store about it.

``python -I -S guard.py`` gets its `instructions` in ``$MTC_GUARD`` or its argument. The program's name is not in
its command line: somebody who kills all processes with that name must not kill the one that cleans up. Node workers
have such a guard as well, which starts another worker if one was killed.

It imports only the standard library, and so repeats a few lines of other files: `tests/unit/system/test_copies.py`
checks that the copies are the same.

The guard is a subreaper: when the agent dies, its tasks and all their detached children become children of the guard.
The guard holds a pipe, which tells the agent if the guard dies.

Both may die at the same moment, because batch systems kill all sessions of a job. So there is also a sweeper, in a
session of its own. When a second pipe, held by guard and agent, shows that both have died, the sweeper kills all
processes with the guard's *mark*. The mark is a resource limit that Linux has ignored since 2.4. A process inherits it
from its parent, whatever happens to its environment, session and descriptors.

If somebody kills all three at once, the next sweeper on this node does that: the second pipe has a name with the mark,
and a pipe that nobody can write to any more shows that guard and agent have died.
"""

import contextlib
import ctypes
import os
import resource
import signal
import stat
import sys
import time

MARK = 10  # RLIMIT_LOCKS. The upper half of its value is the guard's, the lower half the task's; 0: no task.
HALF = 32
MEMORY = "/dev/shm"
IN_MEMORY = "pilotmtc-"  # begins the names of files there; they end with the mark of the guard
_ALIVE = f"{IN_MEMORY}alive-"
_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
_NAME = 15  # PR_SET_NAME
_TITLE = b"mtc-guard"
_SWEEPER = b"mtc-sweeper"
_POST_MORTEM_S = 60.0
_SERVER = b"PILOTMTC_STORE_SERVER="
_SWEEP_S = 30.0
_ABANDONED_S = 2.0


def instructions(command: "list[str]", **numbers: int) -> str:
    """Return what a guard is told: the command to guard, and numbers by name. Without json, which would bring re."""
    words = [*[f"{name}={number}" for name, number in numbers.items()], "--", *command]
    return " ".join([word.encode("unicode_escape").decode().replace(" ", "\\x20") for word in words])


def read_instructions(text: str) -> "tuple[list[str], dict[str, int]]":
    """Return what `instructions` were made of."""
    words = [word.encode().decode("unicode_escape") for word in text.split(" ")]
    end = words.index("--")
    return words[end + 1 :], {name: int(number) for name, _, number in (word.partition("=") for word in words[:end])}


def rename(title: bytes) -> None:
    """Overwrite this process's command line, as far as there is space."""
    ctypes.CDLL(None).prctl(_NAME, ctypes.c_char_p(title), 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if end - start > len(title):
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title, len(title))


def take_mark() -> int:
    """Give this process, and all that it starts, a mark of its own; return it, or 0 if that is not possible."""
    mark = (int.from_bytes(os.urandom(4), "big") >> 1 | 1) << HALF
    try:
        resource.setrlimit(MARK, (mark, resource.getrlimit(MARK)[1]))
    except ValueError:
        say("the number of file locks is limited (ulimit -x): processes of tasks cannot be marked")
        return 0
    return mark


def keep(*fds: "int | None") -> None:
    """Keep children from inheriting what the guard has passed to this process."""
    for fd in fds:
        if fd is not None:
            os.set_inheritable(fd, False)


def put_off_mark() -> None:
    """Remove the mark of this process."""
    hard = resource.getrlimit(MARK)[1]
    resource.setrlimit(MARK, (hard, hard))


def mark_of(pid: int) -> int:
    """Return the mark of a process; -1 if it has none, has gone, or belongs to another user."""
    try:
        return resource.prlimit(pid, MARK)[0]
    except (ProcessLookupError, PermissionError):
        return -1


def marked(mark: int) -> "list[int]":
    """Return all living processes with the mark of a guard."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if mark_of(pid) >> HALF == mark >> HALF and not _is_dead(pid)]


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def sweep_marked(mark: int, timeout_s: float = _SWEEP_S) -> None:
    """Kill processes with the mark of a guard until there are none."""
    until = time.monotonic() + timeout_s
    while (alive := marked(mark)) and time.monotonic() < until:
        for pid in alive:
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(pid)
                try:
                    if mark_of(pid) >> HALF == mark >> HALF:  # still marked, so it is the same process
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
        path = os.path.join(MEMORY, name)
        with contextlib.suppress(OSError):  # it goes at this moment, or is not what it should be
            if stat.S_ISFIFO(os.lstat(path).st_mode):
                os.unlink(path)
                continue
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                for file in os.listdir(directory):
                    os.unlink(file, dir_fd=directory)
            finally:
                os.close(directory)
            os.rmdir(path)


def named_pipe(mark: int) -> "tuple[int, int]":
    """Return a pipe, as `os.pipe` does. Later guards on this node find it, if that is possible."""
    path = os.path.join(MEMORY, f"{_ALIVE}{mark >> HALF:x}")
    new = f"{path}.new"  # until this process can write to it, it would seem to be abandoned
    with contextlib.ExitStack() as on_error:
        try:
            os.mkfifo(new, 0o600)
            on_error.callback(os.unlink, new)
            reading = os.open(new, os.O_RDONLY | os.O_NONBLOCK)  # otherwise, it waits for a writer
            on_error.callback(os.close, reading)
            writing = os.open(new, os.O_WRONLY)
            on_error.callback(os.close, writing)
            os.set_blocking(reading, True)
            os.rename(new, path)
        except OSError as error:
            say(f"later pilots could not end what this one leaves: {path}: {error.strerror}")
        else:
            on_error.pop_all()
            return reading, writing
    return os.pipe()


def sweep_abandoned() -> None:
    """Kill what others have left whose guard, agent and sweeper have all been killed."""
    for name in os.listdir(MEMORY) if os.path.isdir(MEMORY) else ():
        number = name.removeprefix(_ALIVE)
        if number != name and number.isalnum():
            with contextlib.suppress(OSError, ValueError):  # it is not abandoned, or is not what it should be
                if _is_abandoned(os.path.join(MEMORY, name)):
                    sweep_marked(int(number, 16) << HALF, _ABANDONED_S)


def _is_abandoned(path: str) -> bool:
    """Return whether nobody can write to a pipe of this user; if somebody can, raise `OSError`."""
    seen = os.lstat(path)
    if not stat.S_ISFIFO(seen.st_mode) or seen.st_uid != os.geteuid():
        return False
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        return os.path.samestat(seen, os.fstat(fd)) and not os.read(fd, 1)
    finally:
        os.close(fd)


class Sweeper:
    """The process that waits until guard and agent have ended, and kills what they leave behind.

    Attributes
    ----------
    mark
        The mark of processes to kill; 0: there is no sweeper.
    pid
        Its process id; 0: it does not run.
    writing
        The descriptor that the agent must hold while it lives.
    """

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.pid = 0
        self._reading, self.writing = named_pipe(mark) if mark else os.pipe()
        self.start()

    def start(self) -> None:
        """Start it with fork alone, so that it shares this process's memory."""
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
        null = os.open(os.devnull, os.O_RDWR)  # readers of the job's output must not wait for this process
        for fd in range(3):
            os.dup2(null, fd)
        reading = self._reading
        os.closerange(3, reading)
        os.closerange(reading + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.chdir("/")
        rename(_SWEEPER)
        sweep_abandoned()
        os.read(reading, 1)
        sweep_marked(self.mark)

    def stop(self) -> None:
        """End it, because it has nothing left to do."""
        clear_memory(self.mark)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def descendants(sweeper: "Sweeper | None" = None) -> "list[int]":
    """Return all living descendants, except the sweeper, and store servers, which also serve others."""
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
        return False  # even if it looks like a server, which has no mark
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return _SERVER in file.read()
    except OSError:
        return False


def sweep(sweeper: "Sweeper | None" = None) -> int:
    """Kill all descendants until there are none; return their number."""
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
    """Reap a child and return the result of `waitpid`; (0, 0) if there is none. Replace a killed sweeper."""
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
    """Reap children until `pid` is among them; return its wait status, or None if that takes too long."""
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
    """Write a line to the log, if the disk has space for it."""
    with contextlib.suppress(OSError):
        os.write(2, f"guard: {text}\n".encode())


def close_inherited(*kept: "int | None") -> None:
    """Close descriptors inherited from the parent, so that neither this process nor tasks hold its locks."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # that of the listing itself is closed by now
                os.close(int(name))


def main() -> int:
    """Run the agent, and clean up after it."""
    told = sys.argv[1] if len(sys.argv) > 1 else os.environ.pop("MTC_GUARD")
    words, todo = read_instructions(told)
    pilot_fd = todo.get("pilot_fd")  # from which the agent learns which pilot it is
    close_inherited(todo.get("alive_fd"), pilot_fd)
    if "alive_fd" in todo:  # in the background, the guard has no parent that would have to reap it
        os.set_inheritable(todo["alive_fd"], False)  # its other end tells the starter when the guard dies
        if os.fork():
            os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    rename(_TITLE)
    agent = 0
    command: list[str | bytes] = [word.encode("utf-8", "surrogateescape") for word in words]  # in any locale

    def forward(number: int, frame: object) -> None:
        if agent:
            with contextlib.suppress(OSError):
                os.kill(agent, number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    sweeper = Sweeper(take_mark())
    reading, writing = os.pipe()
    pilot_words = [] if pilot_fd is None else ["--pilot-fd", str(pilot_fd)]
    handed_on = (reading, sweeper.writing)  # they keep their numbers
    environment = dict(os.environ)
    again = todo.get("again", 0)
    while True:
        for fd in handed_on:
            os.set_inheritable(fd, True)
        agent = os.posix_spawn(
            command[0],
            [*command, "--guard-fd", str(reading), "--alive-fd", str(sweeper.writing), *pilot_words],
            environment,
            setsigdef=[signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ],
        )
        for fd in handed_on:
            os.set_inheritable(fd, False)
        if pilot_fd is not None:
            os.close(pilot_fd)
            pilot_fd = None
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
    os.set_inheritable(sweeper.writing, True)  # the sweeper does not disturb it
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
