"""Packing of tasks on many nodes. Pure; no clock, no I/O.

A task of one rank is placed without a look at every node: for each kind of need there is a heap of the nodes that may
have room for it. One that turns out to have none is dropped and comes back when something on it is given back, so
every look in vain is paid for by an end. Wide tasks cost a look at each node (not at each slot).
"""

import heapq
from collections.abc import Iterable

from pilotmtc.host_lists import by_number
from pilotmtc.model import Resources
from pilotmtc.resources.amounts import Amounts, Need, Sum
from pilotmtc.resources.fit import Capacity, TaskRequest, fit
from pilotmtc.resources.slots import Node, Slot

_KINDS = 64  # kinds of need that have a heap of their own


class NodePlace:
    """A node in its cluster.

    Attributes
    ----------
    index
        How many joined before it.
    name
        What sorts nodes by their names.
    open
        Whether anything new goes there.
    """

    __slots__ = ("index", "name", "node", "open")

    def __init__(self, index: int, node: Node) -> None:
        self.index = index
        self.name = by_number(node.name)
        self.node = node
        self.open = True


class Heap:
    """The places that may have room for a need, lowest first: so that the last nodes stay free for wide tasks."""

    __slots__ = ("heap", "there")

    def __init__(self, places: Iterable[NodePlace]) -> None:
        self.heap = [(place.index, place) for place in places if place.open]  # in order is a heap
        self.there = {index for index, _ in self.heap}

    def add(self, place: NodePlace) -> None:
        """Look there again."""
        if place.index not in self.there:
            self.there.add(place.index)
            heapq.heappush(self.heap, (place.index, place))

    def drop(self) -> None:
        """Look no more at the lowest."""
        self.there.discard(heapq.heappop(self.heap)[0])


class Reservation:
    """What is kept for a task that waits for room, so that others behind it do not take what it needs.

    Attributes
    ----------
    need
        The task's.
    kept
        What it will have of each node that it waits for.
    others
        What has been started on those nodes since, behind it.
    until
        When all that ran on those nodes will be over at the latest, infinite if that is not known.
    """

    def __init__(self, need: Need, places: Iterable[NodePlace]) -> None:
        self.need = need
        self.kept: dict[str, Need] = {}
        self.others: dict[str, Sum] = {}
        self.until = float("inf")
        self.heaps: dict[tuple[Need, bool], Heap] = {}
        self._rooms = {place.node.name: place.node.room(need) for place in places if place.open}
        self.room = sum(self._rooms.values())
        left = need.ranks
        nearest = sorted(places, key=lambda p: (-self._rooms.get(p.node.name, 0), -p.node.free_cores, -p.index))
        for place in nearest:
            ranks = min(place.node.capacity(need), left) if place.open else 0
            if ranks:
                self.kept[place.node.name] = need.times(ranks)
                self.others[place.node.name] = Sum()
                left -= ranks
            if not left:
                break

    def look(self, place: NodePlace) -> None:
        """Count again what room there is on a node that has changed."""
        room = place.node.room(self.need) if place.open else 0
        self.room += room - self._rooms.get(place.node.name, 0)
        self._rooms[place.node.name] = room

    def lets(self, node: Node, need: Need, in_time: bool) -> bool:
        """Whether `need` may start on `node` now; `in_time`: it will be over when the task could start."""
        head = self.kept.get(node.name)
        return head is None or in_time or node.spare(head, self.others[node.name], need)


class Cluster:
    """The nodes of a pilot, and who has which slots on them.

    Attributes
    ----------
    nodes
        By name.
    cores, gpus
        Of all nodes that are not set aside.
    free_cores, free_gpus, free_memory, free_named
        Of those that are open: not set aside, and not resting.
    busy
        Cores in use, on any node.
    aside
        Nodes on which nothing is started any more, and why.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._places: dict[str, NodePlace] = {}
        self._next = 0
        self._heaps: dict[Need, Heap] = {}
        self._hold: Reservation | None = None
        self._kinds: tuple[tuple[int, Resources], ...] = ()
        self._counts: dict[str, tuple[int, Resources, Amounts]] = {}  # by what nodes have in all
        self._capacity = Capacity(())
        self.nodes: dict[str, Node] = {}
        self.aside: dict[str, str] = {}
        self.cores = 0
        self.gpus = 0
        self.busy = 0
        self.free_cores = 0
        self.free_gpus = 0
        self.free_memory = 0
        self.free_named: dict[str, int] = {}
        self.total = Resources(cores=0)
        for node in nodes:
            self.add(node)

    # -- nodes ------------------------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        """Take a node in, with nothing on it."""
        place = self._places[node.name] = NodePlace(self._next, node)
        self._next += 1
        self.nodes[node.name] = node
        self._count(node, 1)
        for heap in self._heaps.values():
            heap.add(place)
        self._weigh(node, 1)

    def remove(self, name: str) -> None:
        """Forget a node and all that was on it."""
        place = self._places.pop(name)
        node = self.nodes.pop(name)
        self.busy -= node.cores - node.free_cores
        if place.open:
            place.open = False
            self._count(node, -1)
        if self.aside.pop(name, None) is None:
            self._weigh(node, -1)
        self._hold = None

    def set_aside(self, name: str, reason: str) -> None:
        """Start nothing on a node any more; what runs there goes on."""
        self.rest(name)
        if name not in self.aside:
            self._weigh(self.nodes[name], -1)
        self.aside[name] = reason

    def rest(self, name: str) -> None:
        """Start nothing on a node until `wake`."""
        place = self._places[name]
        if place.open:
            place.open = False
            self._count(place.node, -1)
            if self._hold is not None:
                self._hold.look(place)

    def wake(self, name: str) -> None:
        """Use a node again that rested."""
        place = self._places.get(name)
        if place is not None and not place.open and name not in self.aside:
            place.open = True
            self._count(place.node, 1)
            self._again(place)

    def _count(self, node: Node, sign: int) -> None:
        self.free_cores += sign * node.free_cores
        self.free_gpus += sign * node.free_gpus
        self.free_memory += sign * node.free_memory
        for name, amount in node.free_named.items():
            self.free_named[name] = self.free_named.get(name, 0) + sign * amount

    def _weigh(self, node: Node, sign: int) -> None:
        """Work out what the nodes are together, with or without this one; what was kept on others is kept no more.

        Thousands join one after the other: it must not look at all of them each time.
        """
        self._hold = None
        self.cores += sign * node.cores
        self.gpus += sign * node.gpus
        shape = node.total
        key = repr(shape)
        count = self._counts[key][0] + sign if key in self._counts else sign
        if count:
            self._counts[key] = (count, shape, node.amounts)
        else:
            del self._counts[key]
        self._kinds = tuple([(count, shape) for count, shape, _ in self._counts.values()])
        self._capacity = Capacity(tuple([(count, amounts) for count, _, amounts in self._counts.values()]))
        shapes = [shape for _, shape in self._kinds]
        if len(shapes) == 1:
            self.total = shapes[0]
            return
        self.total = Resources(
            cores=max((shape.cores for shape in shapes), default=0),
            gpus=max((shape.gpus for shape in shapes), default=0.0),
            memory_bytes=max((shape.memory_bytes for shape in shapes), default=0),
            named={
                name: max(shape.named.get(name, 0.0) for shape in shapes) for shape in shapes for name in shape.named
            },
        )

    @property
    def kinds(self) -> tuple[tuple[int, Resources], ...]:
        """The kinds of nodes as `Claim` wants them: empty for a single one."""
        return () if len(self._kinds) == 1 and self._kinds[0][0] == 1 else self._kinds

    # -- slots ------------------------------------------------------------------------------------------------

    def holds(self, need: Need) -> bool:
        """Whether `need` fits on the nodes when they are empty."""
        return fit(TaskRequest(need), self._capacity) is None

    def rooms(self, need: Need) -> int:
        """Return how many ranks of `need` fit now at the most, as if all nodes were one."""
        rooms = self.free_cores // max(need.cores, 1)
        if not need.plain:
            if need.gpus:
                rooms = min(rooms, self.free_gpus // need.gpus)
            if need.memory:
                rooms = min(rooms, self.free_memory // need.memory)
            for name, amount in need.named:
                rooms = min(rooms, self.free_named.get(name, 0) // amount)
        return rooms

    def take(self, need: Need) -> tuple[Slot, ...] | None:
        """Reserve a slot for each rank of `need`; None if they do not fit now."""
        if need.ranks > 1:
            hold = self._hold
            if hold is not None and hold.need is need and hold.room < need.ranks:
                return None
            return self._take_wide(need, None)
        heap = self._heaps.get(need)
        if heap is None:
            if len(self._heaps) >= _KINDS:
                self._heaps.clear()
            heap = self._heaps[need] = Heap(self._places.values())
        while heap.heap:
            place = heap.heap[0][1]
            if place.open:
                slot = place.node.take(need)
                if slot is not None:
                    self._took(place, need, 1)
                    return (slot,)
            heap.drop()
        return None

    def hold(self, need: Need) -> Reservation:
        """Keep nodes for `need`, which does not fit now, in place of what was kept before."""
        self._hold = Reservation(need, self._places.values())
        return self._hold

    def let_go(self) -> None:
        """Keep nothing any more."""
        self._hold = None

    def take_beside(self, need: Need, in_time: bool) -> tuple[Slot, ...] | None:
        """Do as `take`, and leave what is kept."""
        hold = self._hold
        assert hold is not None
        if need.ranks > 1:
            return self._take_wide(need, hold)
        heap = hold.heaps.get((need, in_time))
        if heap is None:
            heap = hold.heaps[need, in_time] = Heap(self._places.values())
        while heap.heap:
            place = heap.heap[0][1]
            if place.open and hold.lets(place.node, need, in_time):
                slot = place.node.take(need)
                if slot is not None:
                    if not in_time and place.node.name in hold.others:
                        hold.others[place.node.name].add(need)
                    self._took(place, need, 1)
                    return (slot,)
            heap.drop()
        return None

    def _take_wide(self, need: Need, beside: Reservation | None) -> tuple[Slot, ...] | None:
        """Use as few nodes as can be, and for the last ranks the one that they fit best."""
        rooms = [
            (room, place)
            for name, place in self._places.items()
            if place.open and (beside is None or name not in beside.kept) and (room := place.node.room(need))
        ]
        # By name, not as they joined: users expect ranks in the order of nodes, and some versions of MPI, too.
        rooms.sort(key=lambda pair: (-pair[0], pair[1].name))
        left = need.ranks
        chosen: list[tuple[int, NodePlace]] = []
        for at, (room, place) in enumerate(rooms):
            count = min(room, left)
            if count == left:
                while at + 1 < len(rooms) and rooms[at + 1][0] >= count:
                    at += 1  # noqa: PLW2901 -- the loop ends here
                place = rooms[at][1]  # noqa: PLW2901
            chosen.append((count, place))
            left -= count
            if not left:
                break
        if left:
            return None
        slots: list[Slot] = []
        for count, place in sorted(chosen, key=lambda pair: pair[1].name):
            for _ in range(count):
                slot = place.node.take(need)
                assert slot is not None, "there was room for it"
                slots.append(slot)
            self._took(place, need, count)
        return tuple(slots)

    def _took(self, place: NodePlace, need: Need, ranks: int) -> None:
        self.busy += ranks * need.cores
        self.free_cores -= ranks * need.cores
        if not need.plain:
            self.free_gpus -= ranks * need.gpus
            self.free_memory -= ranks * need.memory
            for name, amount in need.named:
                self.free_named[name] -= ranks * amount
        if self._hold is not None:
            self._hold.look(place)

    def give(self, slots: Iterable[Slot], need: Need, overtook: bool = False) -> None:
        """Take slots back; `overtook`: they were had from `take_beside` while the same was kept."""
        for slot in slots:
            place = self._places[slot.node]
            place.node.give(slot)
            self.busy -= len(slot.cores)
            if overtook and self._hold is not None and slot.node in self._hold.others:
                self._hold.others[slot.node].add(need, -1)
            if place.open:
                self.free_cores += len(slot.cores)
                if not need.plain:
                    self.free_gpus += need.gpus
                    self.free_memory += slot.memory
                    for name, amount in slot.named:
                        self.free_named[name] += amount
                self._again(place)

    def _again(self, place: NodePlace) -> None:
        for heap in self._heaps.values():
            heap.add(place)
        if self._hold is not None:
            for heap in self._hold.heaps.values():
                heap.add(place)
            self._hold.look(place)
