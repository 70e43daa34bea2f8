"""The supervisor of a node's tasks: has them started, keeps their limits, stops them, and says how they ended.

Start and stop go in, results come out; it gives a file descriptor for each task, and says when it wants to be polled.
"""

import heapq
import logging
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from pilotmtc.agent.core.events import Report, Start, Stop
from pilotmtc.agent.node.interface import NO_ROOM, Launcher, LaunchError, Process
from pilotmtc.agent.node.memory_limit import KernelKills, over_limit
from pilotmtc.agent.node.mpi import remedy, remove_files
from pilotmtc.agent.node.outputs import Outputs
from pilotmtc.agent.node.process import pin_late
from pilotmtc.agent.node.strays import Strays
from pilotmtc.model import GRACE_S, Result, TaskId
from pilotmtc.protocol.records import NodeState, OutputTail
from pilotmtc.states import Cause
from pilotmtc.system import processes
from pilotmtc.system.processes import signal_group

_log = logging.getLogger("pilotmtc.agent")
SWEEP_S = 1.0
LINGER_S = 0.1
KILLS = 10  # once a second; what lives on after that is stuck in the kernel, or another user's
# Binding costs 30 us. Tasks that take less than this are not bound at their start; one that turns out to take longer is
# bound when its memory is first looked at.
SHORT_S = 0.003
SAMPLE_S = (0.05, 0.5, 2.0, 10.0, 60.0)  # ages at which a task's memory is looked at
KILLED = -signal.SIGKILL
WORDS = {Cause.TIMEOUT: "over its time limit", Cause.OOM: "over its memory limit"}


class Supervisor:
    """Runs tasks on this node.

    Parameters
    ----------
    name
        The node's, for results.
    directory
        The pilot's.
    launcher
        Starts the tasks.
    outputs
        What they write.
    """

    def __init__(self, name: str, directory: Path, launcher: Launcher, outputs: Outputs) -> None:
        self.name = name
        self._launcher = launcher
        self._outputs = outputs
        self._strays = Strays(launcher.mark)
        self._directory = directory
        self._live: dict[int, Process] = {}  # by pid
        self._polled: dict[int, Process] = {}  # by pidfd
        self._by_task: dict[int, Process] = {}
        self._limited: dict[int, Process] = {}  # with a memory limit, by pid
        self._immortal: set[int] = set()  # processes that KILL has not ended; their tasks are given up
        self._lingering: list[Process] = []  # have ended, while others of their groups still have time
        self._linger_at = math.inf
        self._timers: list[tuple[float, int, Process]] = []
        self._samples: list[deque[tuple[float, Process]]] = [deque() for _ in SAMPLE_S]
        self._sampled_at = 0.0
        self._ticks = 0
        self._sweep_at = time.monotonic() + SWEEP_S
        # The kernel hands a vfork child its parent's peak: below that, ru_maxrss says nothing about the task.
        self._floor = 0
        self._typical_s = 1.0  # elapsed time of tasks, lately
        self._kernel_kills = KernelKills()
        self._identity = _identity(directory)
        self.unfit = ""  # why tasks cannot run here as they should

    # -- in ---------------------------------------------------------------------------------------------------

    def start(self, start: Start, *, stay: bool) -> Process | Result | None:
        """Start a task; return its process, its result if it cannot be started, or None if there is no room for it now.

        `stay`: the calling thread will wait for it.
        """
        claimed = start.claimed
        if self.unfit:
            return None
        try:
            process = self._launcher.launch(start, bind=stay or self._typical_s > SHORT_S, stay=stay)
        except LaunchError as error:
            return self._not_started(claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, str(error))
        except OSError as error:  # not the task's fault: that would be a LaunchError
            _log.warning("cannot start task %d now: %s", claimed.task, error)
            if error.errno not in NO_ROOM:
                self.unfit = f"no task can be started: {error.strerror}"
            return None
        except Exception as error:  # noqa: BLE001 -- whatever a task asks for, only that task fails
            _log.exception("task %d cannot be started", claimed.task)
            text = f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it"
            return self._not_started(claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, text)
        self._live[process.pid] = process
        self._by_task[process.task] = process
        resources = start.resources
        if resources.time_limit_s:
            self._timer(process.began + resources.time_limit_s, process)
        if process.memory_bytes and process.memory_group is None:
            self._limited[process.pid] = process
        self._samples[0].append((process.began + SAMPLE_S[0], process))
        process.keep_bytes = start.template.max_output_bytes
        self._outputs.started(process)
        return process

    def watch(self, process: Process, register: Callable[[int], None]) -> bool:
        """Register a descriptor that becomes readable when a task ends, for `ended`.

        Return whether there was one left; if not, the task, which was only just started, is killed and forgotten.
        """
        try:
            process.fd = os.pidfd_open(process.pid)
            register(process.fd)
        except OSError as error:
            _log.warning("cannot watch task %d now: %s", process.task, error.strerror)
            self._undo(process)
            return False
        self._polled[process.fd] = process
        return True

    def adopt(self, process: Process) -> None:
        """Look after a function worker: its `over` is called when it has ended."""
        self._live[process.pid] = process
        self._samples[0].append((process.began + SAMPLE_S[0], process))

    def limit(self, process: Process, memory_bytes: int) -> None:
        """Limit the memory of a function worker from now on; 0 is no limit."""
        process.memory_bytes = memory_bytes
        if memory_bytes:
            self._limited[process.pid] = process
        else:
            self._limited.pop(process.pid, None)

    def end(self, process: Process, cause: Cause, grace_s: float, now: float) -> None:
        """Stop a function worker, as `stop` does a task."""
        self._stop(process, cause, grace_s, now)

    def _undo(self, process: Process) -> None:
        del self._live[process.pid]
        self._by_task.pop(process.task, None)
        self._limited.pop(process.pid, None)
        signal_group(process.pid, signal.SIGKILL)
        self._end_memory_group(process)
        os.waitpid(process.pid, 0)
        if process.fd >= 0:
            os.close(process.fd)
        self._outputs.drop(process)

    def stop(self, stop: Stop, now: float) -> None:
        """Signal the task's group, KILL it after the grace; no grace, no signal before."""
        process = self._by_task.get(stop.task)
        if process is not None and process.attempt == stop.attempt:
            self._stop(process, stop.cause, stop.grace_s, now)

    def state(self, cores: int, busy: int, gpus: int) -> NodeState:
        """Return the state of the node, of which the cores and GPUs are given."""
        total, used = processes.machine_use()
        return NodeState(self.name, cores, busy, gpus, os.getloadavg()[0], total, used)

    def report(self, report: Report) -> Result:
        """Return the result of an attempt that was never started."""
        return self._not_started(report.task, report.attempt, report.cause, report.message)

    # -- out --------------------------------------------------------------------------------------------------

    def ended(self, fd: int) -> Process:
        """Return the process behind a readable descriptor, which is closed."""
        os.close(fd)
        return self._polled.pop(fd)

    def reap(self, process: Process, now: float) -> Result | None:
        """Return the result of a process that has ended.

        None if `poll` will, since the rest of its group still has time, or if it was given up before. A function worker
        has none.
        """
        pid = process.pid
        if pid in self._immortal:
            self._immortal.discard(pid)
            os.waitpid(pid, 0)
            return None
        if now < process.kill_at and not process.kills and pid in processes.living_groups():
            self._lingering.append(process)
            self._linger_at = now + LINGER_S
            return None
        signal_group(pid, signal.SIGKILL)  # the rest of its group; before the reap, which frees the number
        group_peak, out_of_memory = self._end_memory_group(process)
        _, status, usage = os.wait4(pid, 0)
        elapsed = now - process.began
        self._forget(process)
        ended = os.waitstatus_to_exitcode(status)
        if process.over is not None:
            process.over(ended, usage.ru_utime + usage.ru_stime, now)
            return None
        self._typical_s += (elapsed - self._typical_s) * 0.05
        code, number = (ended, None) if ended >= 0 else (None, -ended)
        if out_of_memory and ended and process.cause is None:
            process.cause = Cause.OOM
        peak = usage.ru_maxrss * 1024
        if peak > self._floor:
            self._floor = processes.peak_memory(os.getpid())  # the agent may have grown
        if peak <= self._floor:
            peak = process.peak
        peak = group_peak or peak
        cause = process.cause
        if cause is None:
            cause = Cause.EXIT if number is None else Cause.SIGNAL
            message = self._kernel_kills.likely(process.began, peak, now) if KILLED in (ended, 128 - ended) else None
        else:
            message = WORDS.get(cause)
        out_taken, err_taken = self._outputs.collect(process)
        out, out_size, out_path, out_lost, out_crc = out_taken
        err, err_size, err_path, err_lost, err_crc = err_taken
        if process.cause is None and (out_lost or err_lost or ((code or number) and process.here)):
            fault = self.fault(out_lost or err_lost, well=not code and not number)
            if fault:
                cause, code, number, message = Cause.NODE_LOST, None, None, fault
        if process.wide and code:
            message = message or remedy(err)
        return Result(
            TaskId(process.task), process.attempt, cause, code, number, self.name, process.slot, process.started_at,
            elapsed, usage.ru_utime + usage.ru_stime, peak, out, err, out_size, err_size, out_path, err_path, message,
            out_crc, err_crc,
        )  # fmt: skip

    def due(self) -> float:
        """Return when `poll` wants to be called."""
        due = min(self._sweep_at, self._linger_at)
        if self._timers and self._timers[0][0] < due:
            due = self._timers[0][0]
        first = self._samples[0]
        if first:  # many at a time: most of them have ended by now
            due = min(due, max(first[0][0], self._sampled_at + SAMPLE_S[0]))
        return due

    def poll(self, now: float) -> list[Result]:
        """Do what is due: limits, kills, samples of memory, a sweep for processes that tasks left behind.

        Returns results that `reap` left open, and those of tasks that are given up.
        """
        results = []
        while self._timers and self._timers[0][0] <= now:
            _, _, process = heapq.heappop(self._timers)
            if self._live.get(process.pid) is not process:
                continue
            if process.cause is None:
                self._stop(process, Cause.TIMEOUT, process.grace_s, now)
            elif process.kill_at <= now:
                if process.kills >= KILLS:
                    results += self._give_up(process, now)
                    continue
                process.kills += 1
                signal_group(process.pid, signal.SIGKILL)
                process.kill_at = now + 1.0  # until it is gone; it may be stuck in the kernel
                self._timer(process.kill_at, process)
        self._sample(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._look_at_directory()
            self._sweep()
            self._kernel_kills.look(now)
            if self._launcher.memory_groups is not None:
                self._launcher.memory_groups.tidy()
            if self._limited:
                for process in over_limit(self._limited.values()):
                    self._stop(process, Cause.OOM, min(process.grace_s, GRACE_S), now)
        if now >= self._linger_at:
            results += self._linger(now)
        return results

    def close(self) -> None:
        """Close what is open. Tasks must be over."""
        self.sweep_all()
        self._launcher.close()
        self._outputs.close()

    def sweep_all(self) -> None:
        """Kill and reap all that tasks have left behind, for two seconds at the most."""
        until = time.monotonic() + 2.0
        while self._sweep() and time.monotonic() < until:
            time.sleep(0.01)

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> list[OutputTail]:
        """Return what those of `tasks` (with attempts) that run here have written so far."""
        found = []
        for task, attempt in tasks:
            process = self._by_task.get(task)
            if process is not None and process.attempt == attempt:
                found.append(self._outputs.so_far(process))
        return found

    def fault(self, lost: str, *, well: bool) -> str:
        """Return what is wrong with the node if that, and not the task, is why it ended so; else nothing.

        Parameters
        ----------
        lost
            Why its output could not be kept.
        well
            Whether it ended well.
        """
        self._look_at_directory()
        if self.unfit:
            return self.unfit
        return f"its output could not be kept: {lost}" if lost and well else ""

    # -- inside -----------------------------------------------------------------------------------------------

    def _not_started(self, task: TaskId, attempt: int, cause: Cause, message: str) -> Result:
        return Result(task, attempt, cause, node=self.name, started_at=time.time(), message=message)

    def _look_at_directory(self) -> None:
        """Notice that the pilot's directory has been removed or replaced."""
        try:
            there = _identity(self._directory)
        except OSError as error:
            self.unfit = f"the pilot's directory {self._directory}: {error.strerror}"
        else:
            if there != self._identity:
                self.unfit = f"the pilot's directory {self._directory} was replaced"

    def _timer(self, due: float, process: Process) -> None:
        self._ticks += 1
        if len(self._timers) > 2 * len(self._live) + 1024:  # mostly of tasks that have ended
            self._timers = [timer for timer in self._timers if self._live.get(timer[2].pid) is timer[2]]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, (due, self._ticks, process))

    def _stop(self, process: Process, cause: Cause, grace_s: float, now: float) -> None:
        kill_at = now + grace_s
        if process.cause is None:
            process.cause = cause
        elif process.kill_at <= kill_at:
            return
        process.kill_at = kill_at
        if grace_s > 0:
            signal_group(process.pid, process.first)
            signal_group(process.pid, signal.SIGCONT)
            self._timer(kill_at, process)
        else:
            process.kills = 1
            signal_group(process.pid, signal.SIGKILL)
            self._timer(now + 1.0, process)

    def _forget(self, process: Process) -> None:
        del self._live[process.pid]
        self._by_task.pop(process.task, None)
        self._limited.pop(process.pid, None)
        if process.wide:
            remove_files(self._directory, process.task, process.attempt)

    def _end_memory_group(self, process: Process) -> tuple[int, bool]:
        """End all of a task with its control group, if it has one; as `MemoryGroups.end`."""
        groups = self._launcher.memory_groups
        if groups is None or process.memory_group is None:
            return 0, False
        return groups.end(process.memory_group)

    def _give_up(self, process: Process, now: float) -> list[Result]:
        """Return a result for a task that cannot be killed, so that neither its slot nor the pilot waits for it."""
        self._forget(process)
        self._end_memory_group(process)
        self._immortal.add(process.pid)
        _log.error("process %d of task %d does not end when it is killed", process.pid, process.task)
        if process.over is not None:
            process.over(None, 0.0, now)
            return []
        text = immortal(process.pid)
        (out, out_size, out_path, _, out_crc), (err, err_size, err_path, _, err_crc) = self._outputs.collect(process)
        assert process.cause is not None
        return [Result(
            TaskId(process.task), process.attempt, process.cause, None, None, self.name, process.slot,
            process.started_at, now - process.began, 0.0, process.peak, out, err, out_size, err_size, out_path,
            err_path, text, out_crc, err_crc,
        )]  # fmt: skip

    def _linger(self, now: float) -> list[Result]:
        """Return the results of tasks whose groups have ended now."""
        living = processes.living_groups()
        ended = [process for process in self._lingering if process.kills or process.pid not in living]
        self._lingering = [process for process in self._lingering if process not in ended]
        self._linger_at = now + LINGER_S if self._lingering else math.inf
        return [result for process in ended if (result := self.reap(process, now)) is not None]

    def _sample(self, now: float) -> None:
        self._sampled_at = now
        for stage, waiting in enumerate(self._samples):
            while waiting and waiting[0][0] <= now:
                _, process = waiting.popleft()
                if self._live.get(process.pid) is not process:
                    continue
                process.peak = max(process.peak, processes.peak_memory(process.pid))
                if process.cores:
                    pin_late(process)
                self._outputs.read_on(process)
                following = min(stage + 1, len(SAMPLE_S) - 1)
                self._samples[following].append((now + SAMPLE_S[following], process))

    def _sweep(self) -> int:
        return self._strays.kill(self._live.values(), self._immortal)


def immortal(pid: int) -> str:
    """Return what to say of a task whose process cannot be killed."""
    return f"process {pid} does not end when it is killed: it is another user's, or stuck in the kernel"


def _identity(path: Path) -> tuple[int, int]:
    seen = os.stat(path)
    return seen.st_dev, seen.st_ino
