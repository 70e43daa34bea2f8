"""Pilots in virtual time: the core of real agents decides, only what it starts is not run."""

import heapq
import math
from array import array
from collections.abc import Iterable, Sequence
from itertools import count

from msgspec import Struct

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.core import Core
from pilotmtc.agent.core.events import (
    AskForTasks,
    Attached,
    BatchReceived,
    Command,
    Ended,
    GiveBack,
    Leave,
    Start,
    Stop,
    Tick,
)
from pilotmtc.agent.core.events import Report as ReportEnd
from pilotmtc.model import Claimed, Resources, TaskId, Template
from pilotmtc.protocol.agent import Batch
from pilotmtc.report.work import Work
from pilotmtc.resources.fit import Capacity, TaskRequest, fit
from pilotmtc.resources.slots import Node

_TEMPLATE = {1: Template(("task",))}
_ANSWER_S = 0.02  # a claim and its answer
_MOST_EMPTY = 10_000  # answers without a task in turn, after which nothing will come any more


class Shape(Struct, frozen=True):
    """Pilots that are all the same.

    Attributes
    ----------
    pilots, nodes
        How many pilots, and nodes of each.
    cores, gpus, memory_bytes, named
        Of each node; 0 bytes: any amount.
    walltime_s
        0: no limit.
    wait_s
        How long they wait in the queue.
    """

    pilots: int
    nodes: int
    cores: int
    gpus: int = 0
    memory_bytes: int = 0
    named: dict[str, float] = {}
    walltime_s: float = 0.0
    wait_s: float = 0.0

    @property
    def all_cores(self) -> int:
        """Cores of all pilots."""
        return self.pilots * self.nodes * self.cores


class Costs(Struct, frozen=True):
    """What a pilot takes to its first task, and a slot from one task to the next."""

    startup_s: float = 0.0
    gap_s: float = 0.0


class Outcome(Struct, frozen=True):
    """What came of it.

    Attributes
    ----------
    finish_s
        When the last task ended, from the submission of the pilots.
    core_s
        Time of cores that the pilots took.
    useful_core_s
        Of these, with tasks, also with attempts that fail.
    left
        Tasks that were not run, because they (or others that they wait for) do not fit, or because walltimes ended.
    """

    finish_s: float
    core_s: float
    useful_core_s: float
    left: int


class _Store:
    """The tasks that are not claimed, in order, by kind; those that wait for others; and how many have ended."""

    def __init__(self, work: Work, shape: Shape) -> None:
        self._work = work
        memory = shape.memory_bytes or 1 << 62
        node = Node(range(shape.cores), shape.gpus, memory, shape.named)
        room = Capacity(((shape.nodes, node.amounts),), shape.walltime_s or math.inf)
        self._fits = [fit(TaskRequest.of(need), room) is None for need in work.needs]
        self._unmet = work.unmet.copy()
        self._held = 0
        self.kinds = array("i", work.kinds)
        self.ready: list[list[tuple[int, int]]] = [[] for _ in work.needs]  # heaps
        self.ended = 0
        for task, kind in enumerate(work.kinds):
            if self._fits[kind] and task not in self._unmet:
                self.ready[kind].append((-work.priorities[task], task))
        for heap in self.ready:
            heapq.heapify(heap)

    def take(self, ask: AskForTasks) -> list[int]:
        """Return tasks for a claim."""
        cores, gpus, memory = ask.want.cores, ask.want.gpus, ask.want.memory_bytes
        limit = ask.limit
        if self._work.max_running:
            limit = min(limit, self._work.max_running - self._held)
        found: list[int] = []
        heads = [kind for kind, tasks in enumerate(self.ready) if tasks and self._may(ask, self._work.needs[kind])]
        while heads and len(found) < limit:
            kind = heads[0] if len(heads) == 1 else min(heads, key=lambda kind: self.ready[kind][0])
            need = self._work.needs[kind]
            ranks = need.ranks
            too_much = (
                need.cores * ranks > cores or need.gpus * ranks > gpus + 1e-9 or need.memory_bytes * ranks > memory
            )
            if too_much and (found or ask.backfill):
                heads.remove(kind)
                continue
            found.append(heapq.heappop(self.ready[kind])[1])
            cores -= need.cores * ranks
            gpus -= need.gpus * ranks
            memory -= need.memory_bytes * ranks
            if not self.ready[kind]:
                heads.remove(kind)
        self._held += len(found)
        return found

    @staticmethod
    def _may(ask: AskForTasks, need: Resources) -> bool:
        if ask.time_left_s and need.lasts_s > ask.time_left_s:
            return False
        return not ask.within_s or 0 < need.time_limit_s <= ask.within_s

    def give_back(self, tasks: Iterable[int]) -> None:
        """Take tasks back: they have their old places in the order again."""
        for task in tasks:
            self._held -= 1
            self.make_ready(task)

    def make_ready(self, task: int) -> None:
        """Let pilots claim a task, if it fits on them."""
        kind = self.kinds[task]
        if self._fits[kind]:
            heapq.heappush(self.ready[kind], (-self._work.priorities[task], task))

    def fail(self, task: int, kind: int) -> None:
        """Let go of a task whose attempt has failed; the next one will be of this kind."""
        self._held -= 1
        self.kinds[task] = kind

    def end(self, task: int, well: bool) -> bool:
        """Let go of a task that has ended, and of those that wait for it; return whether others may be claimed now."""
        self._held -= 1
        more = self._work.max_running > 0
        over = [(task, well)]
        while over:
            need, fine = over.pop()
            self.ended += 1
            for other, must in self._work.dependents.get(need, ()):
                if other not in self._unmet:  # another one has had it skipped
                    continue
                self._unmet[other] -= 1
                if must and not fine:
                    del self._unmet[other]
                    over.append((other, False))
                elif not self._unmet[other]:
                    del self._unmet[other]
                    self.make_ready(other)
                    more = True
        return more


class _Pilot:
    """A pilot: its core, and what runs."""

    def __init__(self, number: int, shape: Shape, start: float) -> None:
        nodes = [
            Node(range(shape.cores), shape.gpus, shape.memory_bytes or 1 << 62, shape.named, f"n{at}")
            for at in range(shape.nodes)
        ]
        self.number = number
        self.core = Core(Cluster(nodes), start, shape.walltime_s, expected=shape.nodes)
        self.cores = shape.nodes * shape.cores
        self.start = start
        self.last = start  # when its last task ended
        self.runs: dict[int, int] = {}  # attempts of what runs
        self.asked: AskForTasks | None = None
        self.over = False


class _Expired(Struct, frozen=True):
    """A claim has waited for as long as it may."""

    ask: AskForTasks


class _Retry(Struct, frozen=True):
    """The pause before a task's next attempt is over."""

    task: int


def simulate(work: Work, shape: Shape, costs: Costs) -> Outcome:
    """Return what comes of `work` on pilots of this shape, which all start after their wait."""
    return _Simulation(work, shape, costs).run()


class _Simulation:
    """The clock, and what happens next."""

    def __init__(self, work: Work, shape: Shape, costs: Costs) -> None:
        self._work, self._shape, self._costs = work, shape, costs
        self._store = _Store(work, shape)
        self._attempts: dict[int, int] = {}
        self._failed: dict[int, int] = {}  # how many attempts of a task have failed
        self._next: list[tuple[float, int, _Pilot | None, object]] = []
        self._order = count()
        self._finish = 0.0
        self._useful = 0.0
        self._empty = 0
        self._coming = 0  # ends of attempts and of pauses, after which there may be tasks
        self._resources = dict(enumerate(work.needs))
        self._pilots = [_Pilot(number, shape, shape.wait_s) for number in range(shape.pilots)]

    def run(self) -> Outcome:
        """Let time pass until nothing happens any more."""
        for one in self._pilots:
            self._at(one.start + self._costs.startup_s, one, Attached())
            if one.core.stop_at < math.inf:
                self._at(one.core.stop_at, one, Tick())
        while self._next and (self._coming or self._empty < _MOST_EMPTY):
            now, _, pilot, event = heapq.heappop(self._next)
            if pilot is None:
                assert isinstance(event, _Retry)
                self._coming -= 1
                self._store.make_ready(event.task)
                self._tell(now)
            elif not pilot.over:
                self._happen(pilot, event, now)
        spent = sum(pilot.cores * (pilot.last - pilot.start) for pilot in self._pilots)
        return Outcome(self._finish, spent, self._useful, len(self._work) - self._store.ended)

    def _happen(self, pilot: _Pilot, event: object, now: float) -> None:
        if isinstance(event, Ended):
            if pilot.runs.get(event.task) == event.attempt:
                self._ended(pilot, event, now)
                self._do(pilot, pilot.core.react(event, now), now)
        elif isinstance(event, AskForTasks):
            if pilot.asked is event:
                self._answer(pilot, event, now)
        elif isinstance(event, _Expired):
            if pilot.asked is event.ask:
                self._expire(pilot, event.ask, now)
        elif isinstance(event, Attached | Tick):
            self._do(pilot, pilot.core.react(event, now), now)

    def _at(self, when: float, pilot: _Pilot | None, event: object) -> None:
        heapq.heappush(self._next, (when, next(self._order), pilot, event))

    def _ended(self, pilot: _Pilot, event: Ended, now: float) -> None:
        """Take note of an attempt's end: its task is over, or there will be another attempt."""
        task = event.task
        del pilot.runs[task]
        self._coming -= 1
        need = self._work.needs[self._store.kinds[task]]
        end = now - self._costs.gap_s
        self._useful += event.took_s * need.cores * need.ranks
        self._finish = max(self._finish, end)
        pilot.last = max(pilot.last, end)
        failures = self._work.failures.get(task, ())
        failed = self._failed.get(task, 0)
        if failed < len(failures):
            self._failed[task] = failed + 1
            self._store.fail(task, failures[failed].kind)
            self._coming += 1
            self._at(now + failures[failed].pause_s, None, _Retry(task))
            more = self._work.max_running > 0
        else:
            more = self._store.end(task, task not in self._work.failing)
        if more:
            self._tell(now)

    def _tell(self, now: float) -> None:
        """Answer the claims that wait, as there may be tasks for them."""
        for pilot in self._pilots:
            if pilot.asked is not None and not pilot.over:
                self._at(now + _ANSWER_S, pilot, pilot.asked)

    def _took_s(self, task: int) -> float:
        """Return how long the next attempt of a task takes."""
        failures, failed = self._work.failures.get(task, ()), self._failed.get(task, 0)
        return failures[failed].took_s if failed < len(failures) else self._work.durations[task]

    def _answer(self, pilot: _Pilot, ask: AskForTasks, now: float) -> None:
        """Answer a claim. One that finds nothing waits for tasks that come back, and for a time if others are there."""
        tasks = self._store.take(ask)
        if not tasks:
            if any(self._store.ready):
                self._at(now + ask.wait_s, pilot, _Expired(ask))
            return
        self._empty = 0
        pilot.asked = None
        claimed = []
        for task in tasks:
            self._attempts[task] = attempt = self._attempts.get(task, 0) + 1
            kind, priority = self._store.kinds[task], self._work.priorities[task]
            claimed.append(Claimed(TaskId(task), attempt, 1, kind, priority=priority))
        batch = Batch(ask.number, tuple(claimed), _TEMPLATE, self._resources)
        self._do(pilot, pilot.core.react(BatchReceived(batch), now), now)

    def _expire(self, pilot: _Pilot, ask: AskForTasks, now: float) -> None:
        self._empty += 1
        pilot.asked = None
        self._do(pilot, pilot.core.react(BatchReceived(Batch(ask.number)), now), now)

    def _do(self, pilot: _Pilot, commands: Sequence[Command], now: float) -> None:
        """Perform what a core has decided."""
        back: list[int] = []
        for command in commands:
            if isinstance(command, Start):
                task, attempt = command.claimed.task, command.claimed.attempt
                pilot.runs[task] = attempt
                self._coming += 1
                took_s = self._took_s(task)
                self._at(now + took_s + self._costs.gap_s, pilot, Ended(task, attempt, took_s=took_s))
            elif isinstance(command, AskForTasks):
                pilot.asked = command
                self._at(now + _ANSWER_S, pilot, command)
            elif isinstance(command, GiveBack):
                back += [task for task, _ in command.tasks]
            elif isinstance(command, Stop):
                if command.task in pilot.runs:
                    back.append(command.task)
                    attempt = pilot.runs.pop(command.task)
                    self._coming -= 1
                    pilot.last = max(pilot.last, now)
                    self._do(pilot, pilot.core.react(Ended(command.task, attempt), now), now)
            elif isinstance(command, Leave):
                pilot.over = True
                pilot.last = max(pilot.last, now) if pilot.core.stop_at <= now else pilot.last
            else:
                assert isinstance(command, ReportEnd), command
                back.append(command.task)
        if back:
            self._store.give_back(back)
            self._tell(now)
