"""Counts of recent events, for rates and plots. Each server counts from its own start. Pure."""

import math
from collections import deque
from collections.abc import Sequence
from functools import partial

from pilotmtc.clock import Clock
from pilotmtc.protocol.records import NodeState, Pace, RunningTask, Series
from pilotmtc.store.live.participant import Staged

_STEPS = ((2.0, 300), (30.0, 240), (300.0, 288))  # ten minutes, two hours, a day
_FADES_S = (15.0, 120.0, 900.0)  # how fast the past is forgotten in a pace
_FEW = 10  # with fewer ends than this, a longer past is used for the pace
_LULL_S = 5.0  # without an end for this time, running tasks are known to take longer
_FOLD_S = 0.25  # commits are collected for this time: there may be thousands per second
_EVENTS = 100


class Meter:
    """Counts tasks or attempts that end, and estimates how many end per second at present."""

    __slots__ = ("_at", "_faded", "_since", "failed", "total")

    def __init__(self, now: float) -> None:
        self.total = 0
        self.failed = 0
        self._since = now
        self._at = now
        self._faded = [0.0] * len(_FADES_S)  # decaying counts, one for each of `_FADES_S`

    def add(self, count: int, failed: int, now: float) -> None:
        """Count some that have ended."""
        if not count:
            return
        self._faded = [one + count for one in self._remembered(now)]
        self._at = now
        self.total += count
        self.failed += failed

    def pace(self, id_: int, now: float, running: int) -> Pace:
        """Return the pace; `running` is the number of running tasks."""
        age = max(now - self._since, 0.5)
        return Pace(id_, round(self._lately(now, age, running), 6), self.total, self.failed)

    def _lately(self, now: float, age: float, running: int) -> float:
        """Return how many ended per second, from the shortest past that is sufficient.

        That is one in which more tasks have ended than are running: a past shorter than a task's duration would show a
        very high pace at one moment and zero at the next. If none has ended for a while, each running task is known to
        take longer than that.
        """
        a_second = 0.0
        for fade_s, there in zip(_FADES_S, self._remembered(now), strict=True):
            a_second = there / (fade_s * -math.expm1(-age / fade_s))
            if there >= max(_FEW, 2 * running):
                break
        lull_s = now - self._at
        return a_second if lull_s < _LULL_S else min(a_second, running / lull_s)

    def _remembered(self, now: float) -> list[float]:
        pairs = zip(_FADES_S, self._faded, strict=True)
        return [there * math.exp((self._at - now) / fade_s) for fade_s, there in pairs]


class Ring:
    """The past in steps: the numbers of tasks that ended and failed in each, and the mean numbers of cores."""

    def __init__(self, step_s: float, size: int, now: float) -> None:
        self.step_s = step_s
        self._bins: deque[list[float]] = deque([[0.0] * 4], maxlen=size)
        self._number = now // step_s  # start of the newest step
        self._since = now  # the oldest step may be incomplete
        self._at = now
        self._level = (0, 0)

    def advance(self, now: float, busy: int, cores: int) -> None:
        """Advance to `now`; there were so many busy cores and cores since the last call."""
        self._level = (busy, cores)
        while self._at < now:
            end = min(now, (self._number + 1) * self.step_s)
            newest = self._bins[-1]
            newest[2] += busy * (end - self._at)
            newest[3] += cores * (end - self._at)
            if end < now and now - end > self.step_s * self._bins.maxlen:  # type: ignore[operator]  # it has a maxlen
                self._bins.clear()  # it slept for longer than it remembers
                self._since = end = now
            self._at = end
            if end >= (self._number + 1) * self.step_s:
                self._number = end // self.step_s
                self._bins.append([0.0] * 4)

    def add(self, ended: int, failed: int) -> None:
        """Add tasks that have ended now."""
        self._bins[-1][0] += ended
        self._bins[-1][1] += failed

    def series(self, span_s: float, now: float, wall: float) -> Series:
        """Return the last `span_s`; `wall` is the wall clock's time now."""
        many = min(len(self._bins), math.ceil(min(span_s / self.step_s, len(self._bins))) + 1)
        bins = list(self._bins)[-many:]
        first = (self._number - many + 1) * self.step_s
        begun = [max(first + index * self.step_s, self._since) for index in range(many)]
        ended = [first + index * self.step_s for index in range(1, many)] + [self._at]
        means = [
            (one[2] / (end - begin), one[3] / (end - begin)) if end > begin else self._level
            for one, begin, end in zip(bins, begun, ended, strict=True)
        ]
        return Series(
            self.step_s,
            wall - (now - first),
            tuple([int(one[0]) for one in bins]),
            tuple([int(one[1]) for one in bins]),
            tuple([round(busy) for busy, _ in means]),
            tuple([round(cores) for _, cores in means]),
        )


class Activity(Staged):
    """Everything that is counted, as far as it was committed."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        now = clock.monotonic()
        self.since = now
        self.rings = [Ring(step_s, size, now) for step_s, size in _STEPS]
        self.pilots: dict[int, Meter] = {}
        self.campaigns: dict[int, Meter] = {}
        self.running: dict[int, dict[int, RunningTask]] = {}  # running attempts by pilot and task
        self.nodes: dict[int, tuple[NodeState, ...]] = {}
        self.events: dict[int, deque[tuple[float, str]]] = {}
        self._levels: dict[int, tuple[int, int]] = {}  # pilot -> busy, cores
        self._pilots_ended: dict[int, list[int]] = {}  # committed, not in the meters yet: attempts, failures
        self._campaigns_ended: dict[int, list[int]] = {}  # the same for tasks
        self._fold_at = now
        self.failed = 0  # tasks that have become FAILED; those that were retried count again

    # -- called by handlers of requests, and final with their commit ----------------------------------------------

    def attempts_ended(self, pilot: int, tasks: Sequence[int], failed: int) -> None:
        """Note attempts of a pilot that have ended."""
        self._staged.append(partial(self._attempts_ended, pilot, tasks, failed))

    def _attempts_ended(self, pilot: int, tasks: Sequence[int], failed: int) -> None:
        self._forget_running(pilot, tasks)
        if tasks:
            _add(self._pilots_ended, pilot, len(tasks), failed)

    def tasks_ended(self, campaign: int, ended: int, failed: int) -> None:
        """Note tasks of a campaign that are DONE or FAILED."""
        self._staged.append(partial(self._tasks_ended, campaign, ended, failed))

    def _tasks_ended(self, campaign: int, ended: int, failed: int) -> None:
        self.failed += failed
        _add(self._campaigns_ended, campaign, ended, failed)

    def started(self, pilot: int, tasks: Sequence[RunningTask]) -> None:
        """Note tasks that have started, and where."""
        self._staged.append(partial(self._started, pilot, tasks))

    def _started(self, pilot: int, tasks: Sequence[RunningTask]) -> None:
        for task in tasks:
            self._running(task.campaign)
            self.running.setdefault(pilot, {})[task.task] = task

    def returned(self, pilot: int, tasks: Sequence[int]) -> None:
        """Note tasks that a pilot has given back."""
        self._staged.append(partial(self._forget_running, pilot, tasks))

    def _forget_running(self, pilot: int, tasks: Sequence[int]) -> None:
        if there := self.running.get(pilot):
            for task in tasks:
                there.pop(task, None)

    def campaign_runs(self, campaign: int) -> None:
        """Note that tasks of a campaign run: it then has a pace even if none ends."""
        self._staged.append(partial(self._running, campaign))

    def _running(self, campaign: int) -> None:
        if campaign not in self.campaigns:
            self.campaigns[campaign] = Meter(self._clock.monotonic())

    def level(self, pilot: int, busy: int, cores: int) -> bool:
        """Note how many cores of a pilot are busy, and how many it has; return whether this has changed."""
        self._staged.append(partial(self._level, pilot, busy, cores))
        return self._levels.get(pilot) != (busy, cores)

    def _level(self, pilot: int, busy: int, cores: int) -> None:
        if self._levels.get(pilot) == (busy, cores):
            return
        now = self._clock.monotonic()
        self._advance(now)
        self._levels[pilot] = (busy, cores)
        if pilot not in self.pilots:
            self.pilots[pilot] = Meter(now)

    def nodes_are(self, pilot: int, nodes: tuple[NodeState, ...]) -> None:
        """Note the state of a pilot's nodes."""
        self._staged.append(partial(self.nodes.__setitem__, pilot, nodes))

    def pilot_ended(self, pilot: int) -> None:
        """Forget a pilot that has ended."""
        self._staged.append(partial(self._pilot_ended, pilot))

    def _pilot_ended(self, pilot: int) -> None:
        self._advance(self._clock.monotonic())
        self._levels.pop(pilot, None)
        self.running.pop(pilot, None)
        self.nodes.pop(pilot, None)

    def event(self, pilot: int, words: str) -> None:
        """Note an event of a pilot."""
        self._staged.append(partial(self._event, pilot, self._clock.now(), words))

    def _event(self, pilot: int, wall: float, words: str) -> None:
        self.events.setdefault(pilot, deque(maxlen=_EVENTS)).append((wall, words))

    def commit(self) -> None:
        """Make what was noted final."""
        super().commit()
        if self._pilots_ended or self._campaigns_ended:
            now = self._clock.monotonic()
            if now >= self._fold_at:
                self._fold(now)

    # -- shown ---------------------------------------------------------------------------------------------------

    def busy(self, pilot: int) -> int:
        """Return the number of busy cores of a pilot."""
        return self._levels.get(pilot, (0, 0))[0]

    def series(self, span_s: float) -> Series:
        """Return the finest series that covers `span_s`, or else the longest one."""
        now = self._clock.monotonic()
        self._fold(now)
        there_s = max(0.0, min(now - self.since, span_s))  # in this order because of NaN
        ring = next((ring for ring, (step, size) in zip(self.rings, _STEPS, strict=True) if step * size >= there_s),
                    self.rings[-1])  # fmt: skip
        return ring.series(there_s, now, self._clock.now())

    def _fold(self, now: float) -> None:
        """Add what was committed to the meters and rings."""
        self._fold_at = now + _FOLD_S
        self._advance(now)
        for meters, sums in ((self.pilots, self._pilots_ended), (self.campaigns, self._campaigns_ended)):
            for id_, (ended, failed) in sums.items():
                if (meter := meters.get(id_)) is None:
                    meter = meters[id_] = Meter(min(now, self._fold_at - 2 * _FOLD_S))
                meter.add(ended, failed, now)
        for ended, failed in self._campaigns_ended.values():
            for ring in self.rings:
                ring.add(ended, failed)
        self._pilots_ended.clear()
        self._campaigns_ended.clear()

    def _advance(self, now: float) -> None:
        busy = sum(level[0] for level in self._levels.values())
        cores = sum(level[1] for level in self._levels.values())
        for ring in self.rings:
            ring.advance(now, busy, cores)


def _add(sums: dict[int, list[int]], id_: int, ended: int, failed: int) -> None:
    there = sums.setdefault(id_, [0, 0])
    there[0] += ended
    there[1] += failed
