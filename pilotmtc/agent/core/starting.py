"""What starts, and where: in order, and behind a task that has to wait for room only what cannot delay it. Pure."""

import heapq
import math
from collections import defaultdict

from pilotmtc.agent.core.cluster import Cluster, Reservation
from pilotmtc.agent.core.events import Command, Start
from pilotmtc.agent.core.paces import Pace, Paces
from pilotmtc.agent.core.queue import Group, Queue, Queued
from pilotmtc.agent.core.running import Running
from pilotmtc.model import Resources, TaskId
from pilotmtc.resources.amounts import Need, Sum
from pilotmtc.resources.slots import Slot


class Starter:
    """Starts tasks of the queue on the cluster.

    Attributes
    ----------
    running
        What runs, by task.
    blocked
        The task that waits for room, for which room is kept.
    hold
        What is kept for it.
    overtakers
        What was started since then and need not be over when it could start.
    typical
        The need of the task that was started last.
    paces
        How long calls of functions take.
    """

    def __init__(self, cluster: Cluster, queue: Queue) -> None:
        self._cluster = cluster
        self._queue = queue
        self._on: defaultdict[str, set[Running]] = defaultdict(set)  # what runs, by node
        self._era = 0
        self._stop_at = math.inf
        self.running: dict[TaskId, Running] = {}
        self.blocked: TaskId | None = None
        self.overtakers = Sum()
        self.typical = Need.of(Resources())
        self.hold = Reservation(self.typical, ())
        self.paces = Paces()

    def over(self, task: TaskId, run: Running) -> None:
        """Forget an attempt, and free its slots if it was the last on them; those on lost nodes are gone already."""
        del self.running[task]
        del run.attempts[task]
        if run.attempts:
            return
        for slot in run.slots:
            self._on[slot.node].discard(run)
        overtook = run.era != 0 and run.era == self._era
        if overtook:
            self.overtakers.add(run.need, -1)
        self._cluster.give(run.slots, run.need, overtook)

    def lost(self, node: str) -> list[Running]:
        """Return what ran on a node that is gone; that of one rank runs no more."""
        runs = sorted(self._on.pop(node, ()), key=lambda run: min(run.attempts))
        for run in runs:
            if run.need.ranks == 1:
                for task in run.attempts:
                    del self.running[task]
                if run.era and run.era == self._era:
                    self.overtakers.add(run.need, -1)
        return runs

    def remove(self, queued: Queued) -> None:
        """Take a task out of the queue."""
        self._queue.remove(queued)
        if queued.claimed.task == self.blocked:
            self.blocked = None

    def fill(self, now: float, stop_at: float, out: list[Command]) -> list[Queued]:
        """Start what fits, in order; behind a task that does not fit only what cannot delay it.

        Return tasks, taken out of the queue, that would not be over by `stop_at`.
        """
        self._stop_at = stop_at
        left_s = stop_at - now
        late: list[Queued] = []
        live = self._queue.groups()
        while live and self._cluster.free_cores:
            if len(live) > 1:
                live = self._queue.ordered(live)
            queued = self._queue.head(live[0]) if live else None
            if queued is None:
                break
            group = queued.group
            if group.lasts_s > left_s:
                late.append(queued)
                self.remove(queued)
                continue
            slots = self._cluster.take(group.need)
            if slots is None:
                self._overtake(queued, live[1:], now, out)
                break
            self._start(queued, slots, now, out)
        if self.blocked is None:
            self._cluster.let_go()
        self._queue.forget()
        return late

    def _overtake(self, head: Queued, others: list[Group], now: float, out: list[Command]) -> None:
        """Start tasks behind the blocked `head` that will be over in time, or leave enough for it when others end."""
        if self.blocked != head.claimed.task:
            self.blocked = head.claimed.task
            self._era += 1
            self.overtakers = Sum()
            self.hold = self._cluster.hold(head.group.need)
            runs = [run for name in self.hold.kept for run in self._on[name]]
            self.hold.until = max((run.over_by for run in runs), default=0.0)
        for group in others:
            limit_s = group.resources.time_limit_s
            in_time = limit_s > 0 and now + limit_s + group.resources.grace_s <= self.hold.until < math.inf
            while now + group.lasts_s <= self._stop_at:
                queued = self._queue.head(group)
                slots = None if queued is None else self._cluster.take_beside(group.need, in_time)
                if queued is None or slots is None:
                    break
                if in_time:
                    self._start(queued, slots, now, out, by=self.hold.until)
                else:
                    self.overtakers.add(group.need)
                    self._start(queued, slots, now, out, era=self._era)

    def _start(
        self, queued: Queued, slots: tuple[Slot, ...], now: float, out: list[Command], *, era: int = 0,
        by: float = math.inf,
    ) -> None:  # fmt: skip
        """Start a task, and with a call those that are to follow it; `by`: all of them must be over then."""
        claimed = queued.claimed
        group = queued.group
        heapq.heappop(group.heap)
        self.remove(queued)
        self.typical = group.need
        pace = self.paces.of(claimed) if queued.template.function is not None and len(slots) == 1 else None
        mates = self._mates(queued, pace, now, by) if pace is not None and pace.batch > 1 else []
        limit_s = group.resources.time_limit_s
        run = Running(queued, mates, slots, pace)
        run.era = era
        if limit_s:
            run.over_by = now + len(run.attempts) * limit_s + group.resources.grace_s
        for task in run.attempts:
            self.running[task] = run
        for slot in slots:
            self._on[slot.node].add(run)
        out.append(
            Start(claimed, queued.template, group.resources, slots, mates=tuple([mate.claimed for mate in mates]))
        )

    def _mates(self, first: Queued, pace: Pace, now: float, by: float) -> list[Queued]:
        """Take calls out of the queue that follow `first` on its slots: as many as are soon done, and a fair share."""
        group = first.group
        share = -(-(group.count + 1) // (self._cluster.rooms(group.need) + 1))
        count = min(pace.batch, share)
        if group.lasts_s and self._stop_at < math.inf:
            count = min(count, int((self._stop_at - now) / group.lasts_s))
        if by < math.inf:
            count = min(count, int((by - now - group.resources.grace_s) / group.resources.time_limit_s))
        return self._queue.take_mates(first, count - 1)
