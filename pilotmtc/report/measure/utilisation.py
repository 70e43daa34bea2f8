"""Cores in use over time."""

from collections.abc import Collection, Iterable

from pilotmtc.report.records import Utilisation

STEPS = 120


class Steps:
    """The mean of a number over each of `count` steps from `begin` to `end`; adding a span takes constant time."""

    def __init__(self, begin: float, end: float, count: int = STEPS) -> None:
        self._begin = begin
        self._step = max(end - begin, 1e-9) / count
        self._parts = [0.0] * (count + 1)  # of a step, at either end of a span
        self._whole = [0.0] * (count + 1)  # what changes from step to step
        self._count = count

    def add(self, start: float, end: float, amount: float) -> None:
        """Add `amount` from `start` to `end`."""
        low = min(max((start - self._begin) / self._step, 0.0), self._count)
        high = min(max((end - self._begin) / self._step, 0.0), self._count)
        if high <= low:
            return
        first, last = int(low), int(high)
        if first == last:
            self._parts[first] += (high - low) * amount
            return
        self._parts[first] += (first + 1 - low) * amount
        self._parts[last] += (high - last) * amount
        self._whole[first + 1] += amount
        self._whole[last] -= amount

    def values(self) -> tuple[float, ...]:
        """Return the means."""
        found = []
        level = 0.0
        for part, change in zip(self._parts[:-1], self._whole[:-1], strict=True):
            level += change
            found.append(round(max(level + part, 0.0), 3))
        return tuple(found)


def utilisation(
    spans: Iterable[tuple[float, float, int]], pilots: Collection[tuple[float, float, int]], begin: float, end: float
) -> Utilisation:
    """Return how many cores were in use, and how many there were, from `begin` to `end`.

    Parameters
    ----------
    spans, pilots
        Start, end and cores of attempts and pilots.
    """
    if end <= begin:
        return Utilisation()
    busy, cores = Steps(begin, end), Steps(begin, end)
    for start, stop, amount in spans:
        busy.add(start, stop, amount)
    for start, stop, amount in pilots:
        cores.add(start, stop, amount)
    return Utilisation(begin, (end - begin) / STEPS, busy.values(), cores.values())
