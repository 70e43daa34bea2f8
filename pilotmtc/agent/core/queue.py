"""Claimed tasks that wait for their slots, the most important first. Pure."""

import heapq
from collections.abc import Iterable

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.paces import BATCH_BYTES
from pilotmtc.model import Claimed, Resources, TaskId, Template
from pilotmtc.protocol.agent import Batch
from pilotmtc.resources.amounts import Need, Sum

_PASSED = 16


class Queued:
    """A task in the queue. `lacking`: it is not started before the values that it needs are here."""

    __slots__ = ("claimed", "group", "lacking", "template")

    def __init__(self, claimed: Claimed, template: Template, group: "Group", lacking: bool) -> None:
        self.claimed = claimed
        self.template = template
        self.group = group
        self.lacking = lacking


class Group:
    """Tasks with the same resources: a heap of ``(-priority, task)``; what has left the queue is passed over."""

    __slots__ = ("count", "fits", "heap", "lasts_s", "need", "resources")

    def __init__(self, resources: Resources, cluster: Cluster) -> None:
        self.resources = resources
        self.need = Need.of(resources)
        self.fits = cluster.holds(self.need)
        self.lasts_s = resources.lasts_s
        self.count = 0  # of tasks that can be started
        self.heap: list[tuple[int, TaskId]] = []


class Queue:
    """The tasks that wait.

    Attributes
    ----------
    tasks
        All of them.
    waiting
        What those need together that can be started.
    lacking
        What the others need together, which wait for values.
    longest_grace_s
        The longest grace of any that was ever here.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.tasks: dict[TaskId, Queued] = {}
        self.waiting = Sum()
        self.lacking = Sum()
        self.longest_grace_s = 0.0
        self._cluster = cluster
        self._groups: dict[int, Group] = {}
        self._templates: dict[int, Template] = {}

    def add(self, claimed: Claimed, batch: Batch, *, lacking: bool = False) -> bool:
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
        queued = self.tasks[claimed.task] = Queued(claimed, template, group, lacking)
        if lacking:
            self.lacking.add(group.need)
        else:
            self._line_up(queued)
        return True

    def add_again(self, queued: Queued) -> bool:
        """Take in a task that has left the queue and comes back; return whether it fits on the nodes still."""
        group = self._groups.setdefault(queued.claimed.resources, queued.group)
        group.fits = self._cluster.holds(group.need)
        if group.fits:
            queued.group = group
            self.tasks[queued.claimed.task] = queued
            self._line_up(queued)
        return group.fits

    def has_values(self, queued: Queued) -> None:
        """Let a task be started whose values are here now."""
        queued.lacking = False
        self.lacking.add(queued.group.need, -1)
        self._line_up(queued)

    def _line_up(self, queued: Queued) -> None:
        group = queued.group
        group.count += 1
        self.waiting.add(group.need)
        heapq.heappush(group.heap, (-queued.claimed.priority, queued.claimed.task))

    def remove(self, queued: Queued) -> None:
        """Take a task out."""
        del self.tasks[queued.claimed.task]
        group = queued.group
        if queued.lacking:
            self.lacking.add(group.need, -1)
        else:
            group.count -= 1
            self.waiting.add(group.need, -1)

    def head(self, group: Group) -> Queued | None:
        """Return the first task of a group that can be started; None if it has none."""
        heap = group.heap
        while heap:
            queued = self.tasks.get(heap[0][1])
            if queued is not None and queued.group is group and not queued.lacking:
                return queued
            heapq.heappop(heap)
        return None

    def take_mates(self, first: Queued, count: int) -> list[Queued]:
        """Take out up to `count` calls that may follow `first` on its slots, which has left the queue.

        They are of the same function and as important. Other tasks in between wait for a batch, and so only few are
        passed over.
        """
        group, template, priority = first.group, first.claimed.template, first.claimed.priority
        found: list[Queued] = []
        passed: list[tuple[int, TaskId]] = []
        left_bytes = BATCH_BYTES
        while len(found) < count and len(passed) < _PASSED:
            queued = self.head(group)
            if queued is None or queued.claimed.priority != priority:
                break
            entry = heapq.heappop(group.heap)
            if queued.claimed.template != template:
                passed.append(entry)
                continue
            left_bytes -= _inline_bytes(queued.claimed)
            if left_bytes < 0:
                passed.append(entry)
                break
            self.remove(queued)
            found.append(queued)
        for entry in passed:
            heapq.heappush(group.heap, entry)
        return found

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
        if all(group.fits for group in self._groups.values()):
            return []  # without a look at each task, whenever one of thousands of nodes joins
        return [queued for queued in self.tasks.values() if not queued.group.fits]

    def forget(self) -> None:
        """Forget what an empty queue no longer needs."""
        if not self.tasks:
            self._groups.clear()
        if len(self._templates) > 1024:
            self._templates.clear()


def _inline_bytes(claimed: Claimed) -> int:
    """Return how long the arguments of a call are that come with it."""
    call = claimed.call
    if call is None:
        return 0
    return len(call.args.data) + sum([len(value.data) for value in call.given])
