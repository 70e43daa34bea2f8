"""Pilots in virtual time: the core of real agents decides, only what it starts is not run."""

import heapq
import math
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

import msgspec
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
from pilotmtc.resources.amounts import Need
from pilotmtc.resources.fit import Capacity, TaskRequest, fit
from pilotmtc.resources.slots import Node

_TEMPLATE = {1: Template(("task",))}
_ANSWER_S = 0.02  # a claim and its answer
_MOST_EMPTY = 10_000  # answers without a task in turn, after which nothing will come any more


class Work:
    """Tasks in order: of which kind each is, and how long it takes.

    Attributes
    ----------
    needs
        What tasks of each kind need.
    """

    def __init__(self) -> None:
        self.needs: list[Resources] = []
        self.kinds: array[int] = array("i")
        self.durations: array[float] = array("d")
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.kinds)

    def kind_of(self, need: Resources) -> int:
        """Return the number of a kind, which is a new one if there is none with that need."""
        key = msgspec.msgpack.encode(need)
        if key not in self._numbers:
            self._numbers[key] = len(self.needs)
            self.needs.append(need)
        return self._numbers[key]

    def add(self, kind: int, duration_s: float) -> None:
        """Add a task."""
        self.kinds.append(kind)
        self.durations.append(duration_s)


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
        Of these, with tasks.
    left
        Tasks that were not run, because they do not fit or because walltimes ended.
    """

    finish_s: float
    core_s: float
    useful_core_s: float
    left: int


class _Store:
    """The tasks that are not claimed, in order, by kind."""

    def __init__(self, work: Work, shape: Shape) -> None:
        self.work = work
        memory = shape.memory_bytes or 1 << 62
        node = Node(range(shape.cores), shape.gpus, memory, shape.named)
        room = Capacity(((shape.nodes, node.amounts),), shape.walltime_s or math.inf)
        self.needs = [Need.of(need) for need in work.needs]
        fits = [fit(TaskRequest.of(need), room) is None for need in work.needs]
        self.ready: list[deque[int]] = [deque() for _ in work.needs]
        self.left = 0
        for task, kind in enumerate(work.kinds):
            if fits[kind]:
                self.ready[kind].append(task)
            else:
                self.left += 1

    def take(self, ask: AskForTasks) -> list[int]:
        """Return tasks for a claim."""
        cores, gpus, memory = ask.want.cores, ask.want.gpus, ask.want.memory_bytes
        found: list[int] = []
        heads = [kind for kind, tasks in enumerate(self.ready) if tasks and self._may(ask, self.work.needs[kind])]
        while heads and len(found) < ask.limit:
            kind = heads[0] if len(heads) == 1 else min(heads, key=lambda kind: self.ready[kind][0])
            need = self.work.needs[kind]
            ranks = need.ranks
            too_much = (
                need.cores * ranks > cores or need.gpus * ranks > gpus + 1e-9 or need.memory_bytes * ranks > memory
            )
            if too_much and (found or ask.backfill):
                heads.remove(kind)
                continue
            found.append(self.ready[kind].popleft())
            cores -= need.cores * ranks
            gpus -= need.gpus * ranks
            memory -= need.memory_bytes * ranks
            if not self.ready[kind]:
                heads.remove(kind)
        return found

    @staticmethod
    def _may(ask: AskForTasks, need: Resources) -> bool:
        if ask.time_left_s and need.lasts_s > ask.time_left_s:
            return False
        return not ask.within_s or 0 < need.time_limit_s <= ask.within_s

    def give_back(self, tasks: Iterable[int]) -> None:
        """Take tasks back: they are the first again."""
        for task in sorted(tasks, reverse=True):
            self.ready[self.work.kinds[task]].appendleft(task)


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
        self.runs: dict[int, tuple[int, float]] = {}  # attempt and start of what runs
        self.asked: AskForTasks | None = None
        self.over = False


class _Expired(Struct, frozen=True):
    """A claim has waited for as long as it may."""

    ask: AskForTasks


def simulate(work: Work, shape: Shape, costs: Costs) -> Outcome:
    """Return what comes of `work` on pilots of this shape, which all start after their wait."""
    return _Simulation(work, shape, costs).run()


class _Simulation:
    """The clock, and what happens next."""

    def __init__(self, work: Work, shape: Shape, costs: Costs) -> None:
        self._work, self._shape, self._costs = work, shape, costs
        self._store = _Store(work, shape)
        self._attempts: dict[int, int] = {}
        self._next: list[tuple[float, int, _Pilot, object]] = []
        self._order = count()
        self._finish = 0.0
        self._useful = 0.0
        self._empty = 0
        self._resources = dict(enumerate(work.needs))
        self._pilots = [_Pilot(number, shape, shape.wait_s) for number in range(shape.pilots)]

    def run(self) -> Outcome:
        """Let time pass until nothing happens any more."""
        for pilot in self._pilots:
            self._at(pilot.start + self._costs.startup_s, pilot, Attached())
            if pilot.core.stop_at < math.inf:
                self._at(pilot.core.stop_at, pilot, Tick())
        while self._next and self._empty < _MOST_EMPTY:
            now, _, pilot, event = heapq.heappop(self._next)
            if pilot.over:
                continue
            if isinstance(event, Ended):
                if event.task in pilot.runs and pilot.runs[event.task][0] == event.attempt:
                    self._ended(pilot, event.task, now)
                    self._do(pilot, pilot.core.react(event, now), now)
            elif isinstance(event, AskForTasks):
                if pilot.asked is event:
                    self._answer(pilot, event, now)
            elif isinstance(event, _Expired):
                if pilot.asked is event.ask:
                    self._expire(pilot, event.ask, now)
            elif isinstance(event, Attached | Tick):
                self._do(pilot, pilot.core.react(event, now), now)
        spent = sum(pilot.cores * (pilot.last - pilot.start) for pilot in self._pilots)
        left = self._store.left + sum(map(len, self._store.ready))
        return Outcome(self._finish, spent, self._useful, left)

    def _at(self, when: float, pilot: _Pilot, event: object) -> None:
        heapq.heappush(self._next, (when, next(self._order), pilot, event))

    def _ended(self, pilot: _Pilot, task: int, now: float) -> None:
        del pilot.runs[task]
        need = self._work.needs[self._work.kinds[task]]
        end = now - self._costs.gap_s
        self._useful += self._work.durations[task] * need.cores * need.ranks
        self._finish = max(self._finish, end)
        pilot.last = max(pilot.last, end)

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
            claimed.append(Claimed(TaskId(task), attempt, 1, self._work.kinds[task]))
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
                task = command.claimed.task
                pilot.runs[task] = (command.claimed.attempt, now)
                ends = now + self._work.durations[task] + self._costs.gap_s
                self._at(ends, pilot, Ended(task, command.claimed.attempt, took_s=self._work.durations[task]))
            elif isinstance(command, AskForTasks):
                pilot.asked = command
                self._at(now + _ANSWER_S, pilot, command)
            elif isinstance(command, GiveBack):
                back += [task for task, _ in command.tasks]
            elif isinstance(command, Stop):
                if command.task in pilot.runs:
                    back.append(command.task)
                    attempt, _ = pilot.runs.pop(command.task)
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
            for other in self._pilots:
                if other.asked is not None and not other.over:
                    self._at(now + _ANSWER_S, other, other.asked)
