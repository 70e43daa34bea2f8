"""Claimed tasks that wait for their slots, the most important first. Pure."""

import heapq
from collections.abc import Iterable

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.model import Claimed, Resources, TaskId, Template
from pilotmtc.protocol.agent import Batch
from pilotmtc.resources.amounts import Need, Sum


class Queued:
    """A task in the queue."""

    __slots__ = ("claimed", "group", "template")

    def __init__(self, claimed: Claimed, template: Template, group: "Group") -> None:
        self.claimed = claimed
        self.template = template
        self.group = group


class Group:
    """Tasks with the same resources: a heap of ``(-priority, task)``; what has left the queue is passed over."""

    __slots__ = ("fits", "heap", "lasts_s", "need", "resources")

    def __init__(self, resources: Resources, cluster: Cluster) -> None:
        self.resources = resources
        self.need = Need.of(resources)
        self.fits = cluster.holds(self.need)
        self.lasts_s = resources.lasts_s
        self.heap: list[tuple[int, TaskId]] = []


class Queue:
    """The tasks that wait.

    Attributes
    ----------
    tasks
        All of them.
    waiting
        What they need together.
    longest_grace_s
        The longest grace of any that was ever here.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.tasks: dict[TaskId, Queued] = {}
        self.waiting = Sum()
        self.longest_grace_s = 0.0
        self._cluster = cluster
        self._groups: dict[int, Group] = {}
        self._templates: dict[int, Template] = {}

    def add(self, claimed: Claimed, batch: Batch) -> bool:
        """Take in a task of `batch`; return whether it fits on the nodes, and so is in the queue now.

        Raises
        ------
        ArithmeticError, ValueError
            If its resources cannot be counted.
        """
        group = self._groups.get(claimed.resources)
        if group is None:
            group = self._groups[claimed.resources] = Group(batch.resources[claimed.resources], self._cluster)
            self.longest_grace_s = max(self.longest_grace_s, group.resources.grace_s)
        if not group.fits:
            return False
        template = self._templates.get(claimed.template)
        if template is None:  # the same object for each batch: what is worked out from it is kept with it
            template = self._templates[claimed.template] = batch.templates[claimed.template]
        self.tasks[claimed.task] = Queued(claimed, template, group)
        self.waiting.add(group.need)
        heapq.heappush(group.heap, (-claimed.priority, claimed.task))
        return True

    def remove(self, queued: Queued) -> None:
        """Take a task out."""
        del self.tasks[queued.claimed.task]
        self.waiting.add(queued.group.need, -1)

    def head(self, group: Group) -> Queued | None:
        """Return the first task of a group; None if it has none."""
        heap = group.heap
        while heap:
            queued = self.tasks.get(heap[0][1])
            if queued is not None and queued.group is group:
                return queued
            heapq.heappop(heap)
        return None

    def groups(self) -> list[Group]:
        """Return all groups, in no order; some may be empty."""
        return list(self._groups.values())

    def ordered(self, groups: Iterable[Group]) -> list[Group]:
        """Return those of `groups` that have a task, in the order of their first ones."""
        found = [group for group in groups if self.head(group) is not None]
        found.sort(key=lambda group: group.heap[0])
        return found

    def last(self, count: int) -> list[Queued]:
        """Return the `count` tasks that are the last to be started."""
        return heapq.nlargest(count, self.tasks.values(), key=lambda q: (-q.claimed.priority, q.claimed.task))

    def refit(self) -> list[Queued]:
        """Look again what fits, as the nodes have changed; return the tasks that do not."""
        for group in self._groups.values():
            group.fits = self._cluster.holds(group.need)
        return [queued for queued in self.tasks.values() if not queued.group.fits]

    def forget(self) -> None:
        """Forget what an empty queue no longer needs."""
        if not self.tasks:
            self._groups.clear()
        if len(self._templates) > 1024:
            self._templates.clear()
