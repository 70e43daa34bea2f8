"""What has been going on lately, counted in memory as commits bring it. It begins anew with each server.

Pure: time comes as an argument, monotonic seconds.
"""

import math
from collections import deque

from pilotmtc.wire.views import NodeState, Pace, RunningTask, Series

_STEPS = ((2.0, 300), (30.0, 240), (300.0, 288))  # ten minutes, two hours, a day
_FADE_S = 15.0  # what was longer ago counts less and less in a pace
_FOLD_S = 0.25  # commits are gathered for so long: there may be thousands a second
_EVENTS = 100


class Meter:
    """How many things happen a second, lately and on average."""

    __slots__ = ("_at", "_recent", "_since", "failed", "total")

    def __init__(self, now: float) -> None:
        self.total = 0
        self.failed = 0
        self._since = now
        self._at = now
        self._recent = 0.0  # fading away

    def add(self, count: int, failed: int, now: float) -> None:
        """Note what has happened."""
        self._recent = self._recent * math.exp((self._at - now) / _FADE_S) + count
        self._at = now
        self.total += count
        self.failed += failed

    def pace(self, id_: int, now: float) -> Pace:
        """Return what there is to say."""
        age = max(now - self._since, 0.5)
        lately = self._recent * math.exp((self._at - now) / _FADE_S) / (_FADE_S * -math.expm1(-age / _FADE_S))
        return Pace(id_, round(lately, 4), round(self.total / age, 4), self.total, self.failed)


class Ring:
    """The past in steps: what ended and failed in each, and how many cores were busy and there on average."""

    def __init__(self, step_s: float, size: int, now: float) -> None:
        self.step_s = step_s
        self._bins: deque[list[float]] = deque([[0.0] * 4], maxlen=size)
        self._number = now // step_s  # of the newest one
        self._at = now

    def advance(self, now: float, busy: int, cores: int) -> None:
        """Let time pass, with so many cores busy and there."""
        while self._at < now:
            end = min(now, (self._number + 1) * self.step_s)
            newest = self._bins[-1]
            newest[2] += busy * (end - self._at)
            newest[3] += cores * (end - self._at)
            if end < now and now - end > self.step_s * self._bins.maxlen:  # type: ignore[operator]  # it has a maxlen
                self._bins.clear()  # asleep for longer than it can remember
                end = now
            self._at = end
            if end >= (self._number + 1) * self.step_s:
                self._number = end // self.step_s
                self._bins.append([0.0] * 4)

    def add(self, ended: int, failed: int) -> None:
        """Note what has ended now."""
        self._bins[-1][0] += ended
        self._bins[-1][1] += failed

    def series(self, now: float, wall: float) -> Series:
        """Return all of it; `wall` is what the wall clock shows now."""
        first = (self._number - len(self._bins) + 1) * self.step_s
        spent = max(self._at - self._number * self.step_s, 1e-3)
        lengths = [self.step_s] * (len(self._bins) - 1) + [spent]
        return Series(
            self.step_s,
            wall - (now - first),
            tuple([int(one[0]) for one in self._bins]),
            tuple([int(one[1]) for one in self._bins]),
            tuple([round(one[2] / length) for one, length in zip(self._bins, lengths, strict=True)]),
            tuple([round(one[3] / length) for one, length in zip(self._bins, lengths, strict=True)]),
        )


class Activity:
    """All that is counted. What a transaction notes is staged until it is committed."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.rings = [Ring(step_s, size, now) for step_s, size in _STEPS]
        self.pilots: dict[int, Meter] = {}
        self.campaigns: dict[int, Meter] = {}
        self.held: dict[int, dict[int, RunningTask]] = {}  # by pilot and task: those that were said to have started
        self.nodes: dict[int, tuple[NodeState, ...]] = {}
        self.events: dict[int, deque[tuple[float, str]]] = {}
        self._levels: dict[int, tuple[int, int]] = {}  # pilot -> busy, cores
        self._staged: list[tuple[bool, int, int, int]] = []
        self._ended: dict[tuple[bool, int], list[int]] = {}  # committed, not folded in yet
        self._fold_at = now

    # -- told by the handlers of requests -----------------------------------------------------------------------

    def finished(self, pilot: int, ended: int, failed: int) -> None:
        """Note attempts of a pilot that have ended."""
        self._staged.append((True, pilot, ended, failed))

    def over(self, campaign: int, ended: int, failed: int) -> None:
        """Note tasks of a campaign that are DONE or FAILED."""
        self._staged.append((False, campaign, ended, failed))

    def started(self, pilot: int, task: RunningTask) -> None:
        """Note where a task runs."""
        self.held.setdefault(pilot, {})[task.task] = task

    def level(self, pilot: int, busy: int, cores: int, now: float) -> bool:
        """Note how many cores of a pilot are busy and there; return whether that is new."""
        if self._levels.get(pilot) == (busy, cores):
            return False
        self._advance(now)
        self._levels[pilot] = (busy, cores)
        return True

    def gone(self, pilot: int, now: float) -> None:
        """Forget what an ended pilot had."""
        self._advance(now)
        self._levels.pop(pilot, None)
        self.held.pop(pilot, None)
        self.nodes.pop(pilot, None)

    def event(self, pilot: int, wall: float, words: str) -> None:
        """Note what became of a pilot."""
        self.events.setdefault(pilot, deque(maxlen=_EVENTS)).append((wall, words))

    # -- transactions -------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """Return the place that `rewind` comes back to."""
        return len(self._staged)

    def rewind(self, mark: int) -> None:
        """Forget what was staged since `mark`."""
        del self._staged[mark:]

    def committed(self, now: float) -> None:
        """Take in what was staged."""
        for pilot, id_, ended, failed in self._staged:
            sums = self._ended.setdefault((pilot, id_), [0, 0])
            sums[0] += ended
            sums[1] += failed
        self._staged.clear()
        if self._ended and now >= self._fold_at:
            self.fold(now)

    def fold(self, now: float) -> None:
        """Add what was gathered to what is shown."""
        self._fold_at = now + _FOLD_S
        self._advance(now)
        for (pilot, id_), (ended, failed) in self._ended.items():
            meters = self.pilots if pilot else self.campaigns
            if (meter := meters.get(id_)) is None:
                meter = meters[id_] = Meter(min(now, self._fold_at - 2 * _FOLD_S))
            meter.add(ended, failed, now)
            if not pilot:
                for ring in self.rings:
                    ring.add(ended, failed)
        self._ended.clear()

    def series(self, span_s: float, now: float, wall: float) -> Series:
        """Return the series that shows `span_s`, as finely as there is one."""
        self.fold(now)
        ring = next((ring for ring, (step, size) in zip(self.rings, _STEPS, strict=True) if step * size >= span_s),
                    self.rings[-1])  # fmt: skip
        return ring.series(now, wall)

    def _advance(self, now: float) -> None:
        busy = sum(level[0] for level in self._levels.values())
        cores = sum(level[1] for level in self._levels.values())
        for ring in self.rings:
            ring.advance(now, busy, cores)
