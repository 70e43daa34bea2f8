"""Starting a task as a process of its own: its environment, its files, its birth."""

import contextlib
import errno
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pilotmtc.agent import guard
from pilotmtc.agent.core.events import Start, Wide
from pilotmtc.agent.node import gpus, memory_groups, mpi
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.interface import NO_ROOM, LaunchError, Process, ProgramError
from pilotmtc.errors import UsageError
from pilotmtc.model import PilotId
from pilotmtc.resources.slots import Slot, core_list
from pilotmtc.system import pipes, processes
from pilotmtc.system.open_files import limit_as_found
from pilotmtc.template import Expanded, expand, functions

_DUP2 = os.POSIX_SPAWN_DUP2
_OF_STORE = ("", "-wal", "-shm", ".lock")
_OPEN_OUT = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_OPEN_THERE = ('exec <"$1"', 'exec >"$1"', 'exec 2>"$1"', 'exec >"$1" 2>&1')
_TASKS = (1 << guard.HALF) - 1
_OF_A_TASK = frozenset(
    ("PILOTMTC_TASK_ID", "PILOTMTC_ATTEMPT", "PILOTMTC_CAMPAIGN_ID", "PILOTMTC_TASK_NAME")
)  # fmt: skip
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ProcessLauncher:
    """Starts each task as a process of its own.

    Parameters
    ----------
    pilot, store
        For the tasks' environment.
    directory
        Where tasks without a ``cwd`` run.
    captures
        Where their output goes.
    gpu_count
        How many GPUs the node has; tasks are told which are theirs.
    pin
        Whether to bind tasks to their cores.
    environ
        The variables that tasks inherit.
    node
        This node's name, for wide tasks.

    Attributes
    ----------
    mark
        Of this process and all that it starts, but for tasks, each of which has its own; 0 if there can be none.
    memory_groups
        Where the kernel limits the memory of tasks; None if it does not.
    pin
        As given.
    """

    def __init__(
        self, pilot: PilotId, store: str, directory: Path, captures: Captures, *, gpu_count: int, pin: bool,
        environ: Mapping[str, str], node: str = "",
    ) -> None:  # fmt: skip
        self._node = node
        self._captures = captures
        self._gpus = gpus.lists(environ, gpu_count)
        self.pin = pin
        self._everywhere = os.sched_getaffinity(0)
        self._bound = threading.local()  # .cores: what the calling thread is bound to
        self._directory = str(directory)
        self._here: str | None = None
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._names: dict[tuple[int, ...], tuple[str, str]] = {}
        self._programs: dict[tuple[str, str], str] = {}
        self._env = dict(environ)  # changed in place for each task: a copy would cost more than the rest
        self._env["PILOTMTC_PILOT_ID"] = str(pilot)
        self._env["PILOTMTC_STORE"] = store
        self._store = "" if "://" in store else os.path.abspath(store)
        self._functions = functions(environ)
        self._threads_set = "OMP_NUM_THREADS" in self._env
        self._cwd_env = self._env.get("PWD", self._directory)
        mark, self._no_mark = resource.getrlimit(guard.MARK)
        self.mark = mark if mark > 0 and not mark & _TASKS else guard.take_mark()
        self._marks = 0  # given so far
        self.memory_groups = memory_groups.take(self.mark) if self.mark else None
        # Tasks must not inherit that Python ignores some. Of others the C library would first ask how they are handled.
        self._defaults = [int(number) for number in signal.valid_signals()]

    def launch(self, start: Start, *, bind: bool, stay: bool) -> Process:
        """Start a task; with `bind` it is born on its cores, else `pin_late` may do it (if its ``cores`` say so).

        With `stay` the calling thread stays bound to them, too: it will wait for the task.

        Raises
        ------
        LaunchError
            If it cannot be started.
        """
        claimed = start.claimed
        try:
            todo = expand(
                start.template, claimed.params, task=claimed.task, attempt=claimed.attempt, campaign=claimed.campaign
            )
        except (UsageError, ValueError) as error:
            raise LaunchError(f"the command cannot be put together: {error}") from error
        slots = start.slots
        if start.wide is not None:
            slots = tuple([slot for slot in slots if slot.node == self._node])
        cores = slots[0].cores if len(slots) == 1 else tuple(sorted(core for slot in slots for core in slot.cores))
        names = self._names_of(cores)
        env = self._environment(start, todo, names)
        self._enter(todo.cwd)
        argv = todo.argv
        alone = self._alone(todo, env)
        if start.wide is not None:
            alone = None
            argv, env = self._widen(start, start.wide, argv, env)
        program = argv[0]
        if "/" not in program:
            program = self._find(program, env.get("PATH", _DEFAULT_PATH))
        process = Process(claimed.task, claimed.attempt, names[0])
        process.append = start.template.append
        process.wide = start.wide is not None
        process.here = todo.cwd is None
        process.grace_s = start.resources.grace_s
        process.memory_bytes = start.resources.memory_bytes * (len(slots) if start.wide is not None else 1)
        if start.resources.signal_first:
            process.first = signal.Signals[f"SIG{start.resources.signal_first}"]
        opened: list[int] = []
        try:
            actions, fifos = self._files(process, todo, opened)
            if fifos:  # to open one may take for ever: the task does it, once it is a process of its own
                alone = None
                lines = [*(how for how, _ in fifos), 'exec "$@"']
                paths = [path for _, path in fifos]
                argv = ["/bin/sh", "-c", "; shift; ".join(lines), "sh", *paths, program, *argv[1:]]
                program = "/bin/sh"
            bear = partial(
                self._bear, process, env=env, files=actions, bind=bind, stay=stay,
                cores=cores if self.pin and start.wide is None else (),  # ranks are bound by who starts them
            )  # fmt: skip
            try:
                bear(*(alone or (program, argv)))
            except LaunchError:
                if alone is None:
                    raise
                bear(program, argv)  # for the shell to say why that cannot be started
        except BaseException:
            for fd in (process.out, process.err):
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in opened:
                pipes.close(fd)
        return process

    def launch_worker(
        self, argv: list[str], slot: Slot, *, env: Mapping[str, str], cwd: str | None, files: Sequence[tuple[int, int]]
    ) -> Process:
        """Start a function worker on the cores of `slot`; as `Launcher.launch_worker`."""
        names = self._names_of(slot.cores)
        whole = {name: value for name, value in self._env.items() if name not in _OF_A_TASK}
        whole |= self._of_slot(slot, names)
        whole["PWD"] = cwd or self._directory
        whole |= env
        self._enter(cwd)
        program = argv[0] if "/" in argv[0] else self._find(argv[0], whole.get("PATH", _DEFAULT_PATH))
        process = Process(0, 0, names[0])
        process.here = cwd is None
        actions = [(_DUP2, self._null, 0), *((_DUP2, here, there) for here, there in files)]
        self._bear(
            process, program, argv, env=whole, files=actions, cores=slot.cores if self.pin else (), bind=True,
            stay=False,
        )  # fmt: skip
        return process

    def _bear(
        self, process: Process, program: str, argv: list[str], *, env: Mapping[str, str],
        files: list[tuple[int, int, int]], cores: tuple[int, ...], bind: bool, stay: bool,
    ) -> None:  # fmt: skip
        """Start the process with a mark of its own; it is to be bound to `cores`, if any are given."""
        process.started_at = time.time()
        process.began = time.monotonic()
        try:
            process.cores = cores
            if cores and bind:
                self._bind_next(process)
            if self.mark:
                self._marks = (self._marks + 1) & _TASKS or 1
                process.mark = self.mark + self._marks
                resource.setrlimit(guard.MARK, (process.mark, self._no_mark))  # the child inherits it
            process.pid = self._start(process, program, argv, env, files)
        finally:
            if process.mark:
                resource.setrlimit(guard.MARK, (self.mark, self._no_mark))
            if not stay and getattr(self._bound, "cores", None):
                os.sched_setaffinity(0, self._everywhere)
                self._bound.cores = None

    def _widen(
        self, start: Start, how: Wide, argv: list[str], env: Mapping[str, str]
    ) -> tuple[list[str], Mapping[str, str]]:
        """Return the command that starts the ranks of a task, and its variables."""
        claimed = start.claimed
        more = {"PILOTMTC_RANKS": str(how.ranks), "PILOTMTC_NODELIST": how.nodes}
        file = mpi.rank_file(Path(self._directory), claimed.task, claimed.attempt)
        whole = {**env, **more}
        argv, own = mpi.command(
            how.way, argv, start.slots, here=self._node, first=how.first, bind=self.pin, file=file, env=whole,
            gpus=self._gpus,
        )  # fmt: skip
        return argv, {**whole, **own}

    def _bind_next(self, process: Process) -> None:
        """Go to the task's cores, for it to inherit: bound after its birth it might have children by then."""
        if getattr(self._bound, "cores", None) != process.cores:
            try:
                os.sched_setaffinity(0, process.cores)
            except OSError as error:  # such a core was taken from the machine
                if error.errno != errno.EINVAL:
                    raise
                return
            self._bound.cores = process.cores
        process.cores = ()

    def _environment(self, start: Start, todo: Expanded, names: tuple[str, str]) -> Mapping[str, str]:
        claimed = start.claimed
        env = self._env
        env["PILOTMTC_TASK_ID"] = str(claimed.task)
        env["PILOTMTC_ATTEMPT"] = str(claimed.attempt)
        env["PILOTMTC_CAMPAIGN_ID"] = str(claimed.campaign)
        env["PILOTMTC_TASK_NAME"] = claimed.name or ""
        env.update(self._of_slot(start.slots[0], names))
        env["PWD"] = todo.cwd or self._directory
        return {**env, **todo.env} if todo.env else env

    def _names_of(self, cores: tuple[int, ...]) -> tuple[str, str]:
        """Return cores as users write them, and how many they are."""
        names = self._names.get(cores)
        if names is None:
            if len(self._names) > 4096:
                self._names.clear()
            names = self._names[cores] = (core_list(cores), str(len(cores)))
        return names

    def _of_slot(self, slot: Slot, names: tuple[str, str]) -> dict[str, str]:
        """Return the variables that say what is a task's own of the node."""
        env = {"PILOTMTC_CORE_LIST": names[0], "PILOTMTC_CORES": names[1]}
        if not self._threads_set:
            env["OMP_NUM_THREADS"] = names[1]
        if self._gpus:
            env.update(gpus.chosen(self._gpus, [index for index, _ in slot.gpus]))
        return env

    def _enter(self, cwd: str | None) -> None:
        """Enter the task's directory: posix_spawn cannot, and a shell that does it would cost more."""
        if cwd is None and self._here is None:
            return  # nobody renames the pilot's own directory
        try:
            os.chdir(cwd or self._directory)
            self._here = cwd
        except OSError as error:
            self._here = ""
            raise LaunchError(
                f"cannot enter the directory {cwd or self._directory}: {error.strerror}; choose another cwd"
            ) from error
        except ValueError as error:
            raise LaunchError(f"cannot enter the directory {cwd!r}: {error}") from error

    def _alone(self, todo: Expanded, env: Mapping[str, str]) -> tuple[str, list[str]] | None:
        """Return program and arguments of a shell line that needs no shell; None also if there is no such program."""
        argv = todo.alone
        if argv is None or argv[0] in self._functions or (todo.env and argv[0] in functions(todo.env)):
            return None
        if "BASH_ENV" in env and os.path.basename(todo.argv[0]) == "bash":  # it would read that file first
            return None
        try:
            return argv[0] if "/" in argv[0] else self._find(argv[0], env.get("PATH", _DEFAULT_PATH)), argv
        except LaunchError:
            return None

    def _find(self, name: str, path: str) -> str:
        known = self._programs.get((name, path))
        if known is not None:
            return known
        for directory in path.split(os.pathsep):
            candidate = os.path.join(directory or ".", name)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                if os.path.isabs(candidate):
                    self._programs[name, path] = candidate
                return candidate
        raise ProgramError(f"{name}: no such program in PATH ({path})")

    def _files(
        self, process: Process, todo: Expanded, opened: list[int]
    ) -> tuple[list[tuple[int, int, int]], list[tuple[str, str]]]:
        """Return the file actions for `posix_spawn`, and how a shell opens which FIFOs for the task."""
        fifos: list[tuple[str, str]] = []
        null = self._null
        out_flags = _OPEN_OUT if process.append else _OPEN_OUT | os.O_TRUNC

        def named(path: str, flags: int, number: int) -> int:
            what = ("stdin", "stdout", "stderr")[number]
            if number and self._is_of_store(path):
                raise LaunchError(f"{path}, for {what}, is a file of the store: name another one")
            fd = _open(path, flags, what, opened)
            if fd is None:
                fifos.append((_OPEN_THERE[3 if number == 1 and todo.stderr == path else number], path))
            return null if fd is None else fd

        stdin = null if todo.stdin is None else named(todo.stdin, os.O_RDONLY | os.O_CLOEXEC, 0)
        if todo.stdout is None:
            process.out, out = self._captures.get()
            opened.append(out)
        else:
            out = named(todo.stdout, out_flags, 1)
            process.out_path = os.path.abspath(todo.stdout)
        if todo.stderr is None:
            process.err, err = self._captures.get()
            opened.append(err)
        elif todo.stderr == todo.stdout:
            err = out
            process.err_path = process.out_path
        else:
            err = named(todo.stderr, out_flags, 2)
            process.err_path = os.path.abspath(todo.stderr)
        return [(_DUP2, stdin, 0), (_DUP2, out, 1), (_DUP2, err, 2)], fifos

    def _is_of_store(self, path: str) -> bool:
        """Return whether a file is one of the store's own, which an output would destroy."""
        for suffix in _OF_STORE if self._store else ():
            with contextlib.suppress(OSError, ValueError):  # one of the two does not exist
                if os.path.samefile(path, f"{self._store}{suffix}"):
                    return True
        return False

    def _start(
        self, process: Process, program: str, argv: list[str], env: Mapping[str, str], files: list[tuple[int, int, int]]
    ) -> int:
        """Start the process, in a group that limits its memory if there is one."""
        groups = self.memory_groups
        group = groups.make(process.mark - self.mark, process.memory_bytes) if groups and process.memory_bytes else None
        if groups is None or group is None:
            return self._spawn(program, argv, env, files)
        try:
            pid = self._spawn(program, argv, env, files, group)
        except memory_groups.NotEntered:
            groups.end(group)
            return self._spawn(program, argv, env, files)
        except BaseException:
            groups.end(group)
            raise
        process.memory_group = group
        return pid

    def _spawn(
        self, program: str, argv: list[str], env: Mapping[str, str], files: list[tuple[int, int, int]],
        group: Path | None = None,
    ) -> int:  # fmt: skip
        try:
            if group is not None:
                return memory_groups.spawn(group, program, argv, env, files)
            with limit_as_found():
                return os.posix_spawn(
                    program, argv, env, file_actions=files, setsid=True, setsigdef=self._defaults, setsigmask=()
                )
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script without its first line: what a shell would do
                script = f"./{program}" if program.startswith(("-", "+")) else program  # not to be taken for an option
                return self._spawn("/bin/sh", ["/bin/sh", script, *argv[1:]], env, files, group)
            if error.errno in NO_ROOM:
                raise
            self._programs.clear()
            if error.errno == errno.E2BIG:
                raise LaunchError(_too_big(argv, env)) from error
            if error.errno == errno.ENOENT and os.path.exists(program):
                raise ProgramError(f"{program}: the interpreter that it names does not exist") from error
            raise ProgramError(f"{program}: {error.strerror}") from error
        except ValueError as error:  # a null byte
            raise LaunchError(f"{program!r}: {error}") from error

    def close(self) -> None:
        """Close what is open, and remove control groups."""
        os.close(self._null)
        if self.memory_groups is not None:
            self.memory_groups.close()


def pin_late(process: Process) -> None:
    """Bind a task with all threads and processes that it has by now to its cores."""
    todo = [process.pid]
    while todo:
        pid = todo.pop()
        for thread in processes.threads(pid):
            _bind(thread, process.cores)
            todo.extend(processes.children(pid, thread))
    process.cores = ()


def _too_big(argv: list[str], env: Mapping[str, str]) -> str:
    """Return the message for a command that is too long for the system."""
    sizes = {f"argument {number}": len(os.fsencode(word)) for number, word in enumerate(argv)}
    sizes |= {f"variable {name}": len(os.fsencode(f"{name}={value}")) for name, value in env.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"{argv[0]}: arguments and variables of {sum(sizes.values())} bytes are more than a program can be given here: "
        f"{largest} has {sizes[largest]}, one may have 131071; write large values to files and give their names"
    )


def _bind(pid: int, cores: tuple[int, ...]) -> None:
    try:
        os.sched_setaffinity(pid, cores)
    except OSError as error:  # over already, another user's, or the core was taken from the machine
        if error.errno not in (errno.ESRCH, errno.EPERM, errno.EINVAL):
            raise


def _open(path: str, flags: int, what: str, opened: list[int]) -> int | None:
    """Open a file of the user's without waiting; return None for a FIFO, where opening may wait."""
    try:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
            if flags & os.O_CREAT:
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if stat.S_ISFIFO(mode):
            return None
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        if not stat.S_ISREG(mode):
            os.set_blocking(fd, True)  # the task is to wait where it reads and writes
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise
        raise LaunchError(f"cannot open {path} for {what}: {error.strerror}") from error
    except ValueError as error:
        raise LaunchError(f"cannot open {path!r} for {what}: {error}") from error
    opened.append(fd)
    return fd
