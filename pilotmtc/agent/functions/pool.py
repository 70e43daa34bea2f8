"""The function workers of a node: started for calls, used again, watched, and ended.

Calls go in; what has come of them is collected until it is taken. A worker runs the calls of a start one after the
other. What it has not begun can be taken back at any time, and is when a call takes long: others have room for it. So
one call at the most ends with its worker, and the node knows which.
"""

import logging
import math
import os
import signal
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from pilotmtc.agent.core.events import Start, Stop
from pilotmtc.agent.functions import frames
from pilotmtc.agent.functions.process import FunctionWorker, Kind
from pilotmtc.agent.functions.results import SETUP_DEATHS, Results, how_ended
from pilotmtc.agent.functions.starter import WorkerStarter
from pilotmtc.agent.functions.wide import WideCalls
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.interface import NO_ROOM, Launcher, LaunchError, Over
from pilotmtc.agent.node.process import pin_late
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.records import OutputTail
from pilotmtc.resources.slots import Slot, core_list
from pilotmtc.states import Cause
from pilotmtc.units import format_duration

LOOK_S = 0.005  # a worker that is silent for so long is looked at: it may have ended a call that it did not ring for
RECALL_S = 0.05  # a call may hold up others for so long
IDLE_S = 180.0
QUIT_S = 2.0
START_S = 30.0  # for Python and what it imports, besides the initializer
SETUP_S = 1800.0  # so long an initializer may take if calls have no time limit
TRIM_S = 1.0
_WIDTHS = 3  # so many widths of calls may have workers, each for all cores
_log = logging.getLogger("pilotmtc.agent")


class Outcome(Struct):
    """What has come of calls.

    Attributes
    ----------
    results
        Of those that are over.
    unbegun
        Those that were taken back, with their attempts.
    begun
        Those that run, with their attempts and cores.
    """

    results: list[Result] = []
    unbegun: list[tuple[TaskId, int]] = []
    begun: list[tuple[TaskId, int, str]] = []


class FunctionPool:
    """Runs calls on this node.

    Parameters
    ----------
    name
        The node's, for results.
    directory
        The pilot's; below it are the values that calls need.
    launcher, supervisor, captures
        Of this node.
    cores
        How many it has: workers have no more of them together, as far as they are idle; three times as many where they
        differ in nothing else.

    Attributes
    ----------
    wide
        Calls on several ranks, for which there are no workers.
    """

    def __init__(
        self, name: str, directory: Path, launcher: Launcher, supervisor: Supervisor, captures: Captures, *, cores: int
    ) -> None:
        self._launcher = launcher
        self._supervisor = supervisor
        self._results = Results(name, supervisor, captures)
        self._cores = cores
        self._starter = WorkerStarter(directory / frames.VALUES, launcher, supervisor)
        self.wide = WideCalls(name, directory / frames.VALUES)
        self._workers: dict[int, FunctionWorker] = {}
        self._busy: dict[int, FunctionWorker] = {}
        self._idle: dict[tuple[Kind, tuple[int, ...]], FunctionWorker] = {}  # the one that was used last is the last
        self._leaving: dict[int, FunctionWorker] = {}
        self._deaths: dict[Kind, tuple[int, float]] = {}  # in initializers, since one returned: how many, last time
        self._held = 0  # cores of workers that do not leave
        self._look_at = math.inf
        self._trim_at = math.inf
        self._outcome = Outcome()

    def open(self, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        """Get to know who polls: `watch` and `unwatch` take a descriptor; `watch` may raise `OSError`."""
        self._watch, self._unwatch = watch, unwatch

    def take(self) -> Outcome | None:
        """Return what has come of calls since the last time, None if nothing has."""
        outcome = self._outcome
        if not outcome.results and not outcome.unbegun and not outcome.begun:
            return None
        self._outcome = Outcome()
        return outcome

    # -- in ---------------------------------------------------------------------------------------------------

    def start(self, start: Start, now: float) -> bool:
        """Have calls run, one after the other; return False if there is no room for a worker now."""
        function = start.template.function
        assert function is not None
        if self._supervisor.unfit:
            return False
        kind = Kind.of(start, function)
        try:
            worker = self._reuse(kind, start.slots[0]) or self._start_worker(kind, start, now)
        except LaunchError as error:
            slot = core_list(start.slots[0].cores)
            for claimed in (start.claimed, *start.mates):
                self._outcome.results.append(self._results.not_run(claimed, slot, str(error)))
            return True
        except OSError as error:
            _log.warning("cannot start task %d now: %s", start.claimed.task, error)
            if error.errno not in NO_ROOM:
                self._supervisor.unfit = f"no function worker can be started: {error.strerror}"
            return False
        worker.start = start
        worker.waiting += (start.claimed, *start.mates)
        worker.since, worker.looked = now, False
        self._limit(worker, start)
        try:
            worker.send()
        except OSError as error:  # a large call could not be written down
            _log.warning("cannot start task %d now: %s", start.claimed.task, error)
            worker.take_back()
            self._rest(worker, now)
            return False
        self._busy[worker.number] = worker
        self._plan(worker)
        self._outcome.begun.append((start.claimed.task, start.claimed.attempt, worker.process.slot))
        return True

    def stop(self, stop: Stop, now: float) -> None:
        """Stop a call: one that has not begun comes back, with all others that wait there."""
        worker = self._of(stop.task, stop.attempt)
        if worker is None:
            return
        first = worker.flight[0] if worker.flight else None
        self._take_back(worker, all_but_first=first is not None and first.task != stop.task)
        self._drain(worker, now)
        if worker.flight and worker.flight[0].task == stop.task:
            self._supervisor.end(worker.process, stop.cause, stop.grace_s, now)

    # -- out --------------------------------------------------------------------------------------------------

    def ready(self, fd: int, now: float) -> bool:
        """Deal with a readable descriptor, and return True, if it is one of these."""
        if fd != self._starter.bell:
            return False
        rung = os.read(fd, 1 << 16)
        for number in {rung[at : at + 4] for at in range(0, len(rung), 4)}:
            worker = self._workers.get(int.from_bytes(number, "little"))
            if worker is not None:
                self._drain(worker, now)
        return True

    def due(self) -> float:
        """Return when `poll` wants to be called."""
        return self._look_at

    def poll(self, now: float) -> None:
        """Do what is due: look at silent workers, take back what they hold up, and end idle ones."""
        if now < self._look_at:
            return
        self._look_at = math.inf
        if now >= self._trim_at:
            for worker in self._busy.values():
                worker.trim()
            self._trim_at = now + TRIM_S if self._busy else math.inf
        for worker in list(self._busy.values()):
            self._look(worker, now)
            if worker.busy:
                self._plan(worker)
        for worker in list(self._idle.values()):
            if worker.idle_at + IDLE_S > now:
                self._look_at = min(self._look_at, worker.idle_at + IDLE_S)
                break
            self._quit(worker, now)
        for worker in self._leaving.values():
            if worker.process.cause is None:
                if worker.leave_by <= now:
                    self._supervisor.end(worker.process, Cause.CANCELED, 0.0, now)
                else:
                    self._look_at = min(self._look_at, worker.leave_by)

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> list[OutputTail]:
        """Return what those of `tasks` (with attempts) that run here have written so far."""
        wanted = set(tasks)
        found = [worker.so_far() for worker in self._busy.values()]
        return [tail for tail in found if tail is not None and (tail.task, tail.attempt) in wanted]

    def close(self) -> None:
        """End all workers, and close what is open. Calls must be over."""
        now = began = time.monotonic()
        for worker in list(self._idle.values()):
            self._quit(worker, now)
        for worker in self._busy.values():
            self._supervisor.end(worker.process, Cause.PREEMPTED, 0.0, now)
        while self._workers and now < began + 2 * QUIT_S:
            for worker in list(self._workers.values()):
                pid = worker.process.pid
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    self._unwatch(worker.process.fd)
                    self._supervisor.reap(self._supervisor.ended(worker.process.fd), now)
                elif now >= worker.leave_by and not worker.process.kills:
                    self._supervisor.end(worker.process, Cause.CANCELED, 0.0, now)
            time.sleep(0.002)
            now = time.monotonic()
        if self._starter.bell >= 0:
            self._unwatch(self._starter.bell)
        self._starter.close()

    # -- workers ------------------------------------------------------------------------------------------------

    def _reuse(self, kind: Kind, slot: Slot) -> FunctionWorker | None:
        """Return an idle worker of this kind; if it has other cores, it moves."""
        worker = self._idle.pop((kind, slot.cores), None)
        if worker is not None:
            return worker
        worker = next((other for key, other in self._idle.items() if key[0] == kind), None)
        if worker is None:
            return None
        del self._idle[kind, worker.slot.cores]
        worker.process.slot = core_list(slot.cores)
        worker.move(slot, worker.process.slot)
        if self._launcher.pin:
            worker.process.cores = slot.cores
            pin_late(worker.process)
        return worker

    def _start_worker(self, kind: Kind, start: Start, now: float) -> FunctionWorker:
        self._make_room(kind, now)

        def over(worker: FunctionWorker) -> Over:
            return partial(self._over, worker)

        worker = self._starter.start(kind, start, self._watch, over)
        self._workers[worker.number] = worker
        self._held += kind.cores
        return worker

    def _make_room(self, kind: Kind, now: float) -> None:
        """End idle workers, those that were used longest ago first, so that one of this kind does not add to too many.

        Those that have only other cores may stay beside it: each turn of calls of several widths would start all anew.
        """
        for others, most in (
            ([worker for worker in self._idle.values() if not worker.kind.same_but_for_cores(kind)], self._cores),
            ([*self._idle.values()], _WIDTHS * self._cores),
        ):
            for worker in others:
                if self._held + kind.cores <= most:
                    break
                if worker.number in self._workers and not worker.leave_by:
                    self._quit(worker, now)

    def _limit(self, worker: FunctionWorker, start: Start) -> None:
        process, resources = worker.process, start.resources
        process.grace_s = resources.grace_s
        process.first = signal.Signals[f"SIG{resources.signal_first or 'TERM'}"]
        process.keep_bytes = start.template.max_output_bytes
        worker.time_limit_s = resources.time_limit_s
        if process.memory_bytes != resources.memory_bytes:
            self._supervisor.limit(process, resources.memory_bytes)

    def _rest(self, worker: FunctionWorker, now: float) -> None:
        """Keep a worker that has nothing to do for the next calls of its kind."""
        self._busy.pop(worker.number, None)
        if worker.dead or worker.leave_by or worker.process.cause is not None:
            return
        if worker.process.memory_bytes:
            self._supervisor.limit(worker.process, 0)
        worker.idle_at = now
        worker.start = None
        key = worker.kind, worker.slot.cores
        self._idle[key] = worker
        self._look_at = min(self._look_at, now + IDLE_S)

    def _quit(self, worker: FunctionWorker, now: float) -> None:
        """Tell an idle worker to end."""
        del self._idle[worker.kind, worker.slot.cores]
        worker.quit()
        self._let_go(worker, now)

    def _let_go(self, worker: FunctionWorker, now: float) -> None:
        """Give a worker time to end by itself."""
        self._held -= worker.kind.cores
        self._leaving[worker.number] = worker
        worker.leave_by = now + QUIT_S
        self._look_at = min(self._look_at, worker.leave_by)

    def _of(self, task: TaskId, attempt: int) -> FunctionWorker | None:
        for worker in self._busy.values():
            for calls in (worker.flight, worker.waiting):
                for claimed in calls:
                    if claimed.task == task and claimed.attempt == attempt:
                        return worker
        return None

    # -- calls --------------------------------------------------------------------------------------------------

    def _plan(self, worker: FunctionWorker) -> None:
        """Note when to look at a busy worker next."""
        due = math.inf
        if len(worker.flight) + len(worker.waiting) > 1:
            due = worker.since + (RECALL_S if worker.looked else LOOK_S)
        limit_s = _limit_s(worker)
        if limit_s:
            due = min(due, worker.since + limit_s)
        if self._trim_at == math.inf:
            self._trim_at = worker.since + TRIM_S
        self._look_at = min(self._look_at, due, self._trim_at)

    def _look(self, worker: FunctionWorker, now: float) -> None:
        """Look at a busy worker, which may be due."""
        if not worker.looked and now >= worker.since + LOOK_S:
            worker.looked = True
            self._drain(worker, now)
        if now >= worker.since + RECALL_S and len(worker.flight) + len(worker.waiting) > 1:
            self._take_back(worker, all_but_first=True)
            self._drain(worker, now)
        limit_s = _limit_s(worker)
        if not limit_s or now < worker.since + limit_s:
            return
        if not worker.ready:
            self._set_up_too_long(worker, now)
            return
        self._take_back(worker, all_but_first=True)
        self._drain(worker, now)
        if worker.flight and now >= worker.since + limit_s:
            self._supervisor.end(worker.process, Cause.TIMEOUT, worker.process.grace_s, now)

    def _set_up_too_long(self, worker: FunctionWorker, now: float) -> None:
        """Give up a worker whose initializer does not return."""
        limit_s = worker.time_limit_s
        why = f"the calls' time_limit of {format_duration(limit_s)}" if limit_s else format_duration(SETUP_S)
        self._failed(worker, f"{frames.SETUP_FAILED}: it has not returned within {why}; see time_limit=", b"", now)
        self._supervisor.end(worker.process, Cause.TIMEOUT, 0.0, now)

    def _take_back(self, worker: FunctionWorker, *, all_but_first: bool) -> None:
        back = worker.take_back(all_but_first=all_but_first)
        self._outcome.unbegun += [(claimed.task, claimed.attempt) for claimed in back]

    def _drain(self, worker: FunctionWorker, now: float) -> None:
        """Take in what a worker has sent."""
        news = False
        for frame in worker.receive():
            try:
                if frame[0] == frames.ENDED:
                    self._ended(worker, frames.End(frame), now)
                    news = True
                elif frame[0] == frames.READY:
                    worker.ready = news = True
                    worker.initializing = False
                    self._deaths.pop(worker.kind, None)
                    worker.since = now
                elif frame[0] == frames.INITIALIZING:
                    worker.initializing = True
                elif frame[0] == frames.FAILED:
                    self._failed(worker, *frames.read_failed(frame), now)
                else:
                    raise ValueError(f"it sent a frame of kind {frame[0]}")
            except (ValueError, struct.error, LookupError) as error:
                worker.trouble = f"the function worker was killed, as it has sent what makes no sense: {error}"
                self._supervisor.end(worker.process, Cause.NODE_LOST, 0.0, now)
                break
        if worker.dead or worker.number not in self._busy:
            return
        if not worker.busy:
            self._rest(worker, now)
        elif news:
            worker.looked = False
            try:
                worker.send()
            except OSError as error:
                _log.warning("cannot start task %d now: %s", worker.waiting[0].task, error)
                self._take_back(worker, all_but_first=True)
            self._plan(worker)
            if worker.flight:
                claimed = worker.flight[0]
                self._outcome.begun.append((claimed.task, claimed.attempt, worker.process.slot))

    def _ended(self, worker: FunctionWorker, end: frames.End, now: float) -> None:
        """Take in how a call has ended."""
        claimed = worker.flight.popleft()
        if (claimed.task, claimed.attempt) != (end.task, end.attempt):
            worker.flight.appendleft(claimed)
            raise ValueError(f"it speaks of task {end.task}, and has task {claimed.task}")
        worker.over(claimed)
        worker.since = now
        worker.cpu_s += end.cpu_s
        worker.served += 1
        self._outcome.results.append(self._results.ended(worker, claimed, end))
        if end.waits:
            worker.have_harvested()
        cause = worker.process.cause
        if cause is not None:  # it was told to end, and nobody knows what state it is in
            self._supervisor.end(worker.process, cause, 0.0, now)

    def _failed(self, worker: FunctionWorker, text: str, value: bytes, now: float) -> None:
        """Take in that a worker will never be ready: none of its calls can be run."""
        calls = [*worker.flight, *worker.waiting]
        worker.take_back()
        worker.flight.clear()
        self._busy.pop(worker.number, None)
        if self._idle.get((worker.kind, worker.slot.cores)) is worker:
            del self._idle[worker.kind, worker.slot.cores]
        if not worker.leave_by:
            self._let_go(worker, now)
        for number, claimed in enumerate(calls):
            whose = worker if number == 0 else None
            self._outcome.results.append(self._results.not_run(claimed, worker.process.slot, text, value, whose))

    def _over(self, worker: FunctionWorker, code: int | None, cpu_s: float, now: float) -> None:
        """Deal with the end of a worker: the call that it ran ends, too, and others come back."""
        worker.dead = True
        self._drain(worker, now)
        del self._workers[worker.number]
        self._busy.pop(worker.number, None)
        if self._leaving.pop(worker.number, None) is None:
            self._held -= worker.kind.cores
        if self._idle.get((worker.kind, worker.slot.cores)) is worker:
            del self._idle[worker.kind, worker.slot.cores]
        back = worker.take_back()
        if not worker.flight and back and not worker.served and worker.process.cause is None:
            # It has not begun the first either. But one that never begins any must not be started for ever.
            worker.flight.append(back.pop(0))
        if worker.flight and code is not None and self._died_by_chance(worker, now):
            _log.warning("a function worker died in the initializer, %s; trying again", how_ended(code))
            back = [*worker.flight, *back]
        elif worker.flight:
            claimed = worker.flight[0]
            result = self._results.died(worker, claimed, code, cpu_s, now)
            self._outcome.results.append(result)
            if result.cause is Cause.LAUNCH_ERROR:  # it would be the same for the others
                text = result.message or ""
                self._outcome.results += [self._results.not_run(mate, worker.process.slot, text) for mate in back]
                back = []
            worker.over(claimed)
            back = [*list(worker.flight)[1:], *back]  # nobody knows of those what became of them
        self._outcome.unbegun += [(claimed.task, claimed.attempt) for claimed in back]
        worker.close()

    def _died_by_chance(self, worker: FunctionWorker, now: float) -> bool:
        """Count a death in an initializer; return whether it may be chance, such as a full memory."""
        if not worker.initializing or worker.process.cause is not None:
            return False
        deaths, last = self._deaths.get(worker.kind, (0, -math.inf))
        if worker.since >= last:  # what kills many workers at a time counts once
            deaths, last = deaths + 1, now
            self._deaths[worker.kind] = deaths, last
        return deaths < SETUP_DEATHS


def _limit_s(worker: FunctionWorker) -> float:
    """Return how long what a busy worker does may take; 0 is no limit, or that it was told to end."""
    if worker.process.cause is not None:
        return 0.0
    if worker.ready:
        return worker.time_limit_s
    if not worker.kind.setup:
        return 0.0
    return worker.time_limit_s + START_S if worker.time_limit_s else SETUP_S
