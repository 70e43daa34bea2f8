"""Attempts on a line for each core: what Gantt charts and traces are made of."""

from collections.abc import Iterator
from typing import NamedTuple

from pilotmtc.host_lists import by_number
from pilotmtc.report.measure.columns import places_of
from pilotmtc.report.measure.make import Past


class Lane(NamedTuple):
    """A core of a node of a pilot."""

    pilot: int
    node: str
    core: int


class Lanes:
    """All cores that ran something, in the order of pilots, nodes and cores, and what ran on them.

    Attributes
    ----------
    lanes
        The cores.
    """

    def __init__(self, past: Past) -> None:
        some = past.attempts
        self._past = past
        slots = set(zip(some.pilot, some.node, some.slot, strict=True))
        places = {
            slot: [Lane(slot[0], *place) for place in places_of(some.texts[slot[1]], some.texts[slot[2]])]
            for slot in slots
        }
        found = {lane for lanes in places.values() for lane in lanes}
        self.lanes = sorted(found, key=lambda lane: (lane.pilot, by_number(lane.node), lane.core))
        numbers = {lane: number for number, lane in enumerate(self.lanes)}
        self._numbers = {slot: tuple([numbers[lane] for lane in lanes]) for slot, lanes in places.items()}

    def of(self, at: int) -> tuple[int, ...]:
        """Return the lanes of an attempt."""
        some = self._past.attempts
        return self._numbers[some.pilot[at], some.node[at], some.slot[at]]

    def spans(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield attempt, lane, start and end, in order of starts; none begins before the last one on its lane ended.

        Times are by the store's clock. What measurements let overlap by a little is cut.
        """
        some, starts = self._past.attempts, self._past.starts
        busy_until = [0.0] * len(self.lanes)
        for at in sorted(range(len(some)), key=starts.__getitem__):
            start = starts[at]
            end = start + some.elapsed_s[at]
            if start <= 0:
                continue  # it was never started
            for lane in self.of(at):
                begin = max(start, busy_until[lane])
                busy_until[lane] = max(end, begin)
                yield at, lane, begin, busy_until[lane]
