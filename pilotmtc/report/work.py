"""What is to be run: tasks, how each attempt of them goes, and which wait for which."""

from array import array
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from pilotmtc.model import Resources


class Failure(Struct, frozen=True, gc=False):
    """An attempt that fails, and is followed by another one.

    Attributes
    ----------
    took_s
        How long it runs.
    pause_s
        Between its end and the next attempt.
    kind
        What the next attempt needs.
    """

    took_s: float
    pause_s: float
    kind: int


class Work:
    """Tasks in the order in which they were submitted. How they go is fixed, so that pilots can be compared.

    Attributes
    ----------
    needs
        What tasks of each kind need.
    kinds, durations, priorities
        Of each task: what its first attempt needs, how long its last one takes.
    failures
        The attempts before the last one, of tasks that have some.
    failing
        Tasks whose last attempt fails, too.
    dependents
        By task, those that wait for it, and whether it must succeed.
    unmet
        For how many others a task waits.
    max_running
        At most so many tasks are claimed or running at once; 0: no limit.
    """

    def __init__(self, max_running: int = 0) -> None:
        self.needs: list[Resources] = []
        self.kinds: array[int] = array("i")
        self.durations: array[float] = array("d")
        self.priorities: array[int] = array("i")
        self.failures: dict[int, Sequence[Failure]] = {}
        self.failing: set[int] = set()
        self.dependents: dict[int, list[tuple[int, bool]]] = {}
        self.unmet: dict[int, int] = {}
        self.max_running = max_running
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

    def add(
        self, kind: int, duration_s: float, failures: Sequence[Failure] = (), *, well: bool = True, priority: int = 0
    ) -> int:
        """Add a task whose last attempt takes `duration_s`, and ends `well` or not; return its number."""
        task = len(self.kinds)
        self.kinds.append(kind)
        self.durations.append(duration_s)
        self.priorities.append(priority)
        if failures:
            self.failures[task] = failures
        if not well:
            self.failing.add(task)
        return task

    def depend(self, task: int, need: int, *, well: bool = True) -> None:
        """Let a task wait for another one, which must succeed if `well`."""
        self.dependents.setdefault(need, []).append((task, well))
        self.unmet[task] = self.unmet.get(task, 0) + 1

    def took_s(self, task: int) -> float:
        """Return how long all attempts of a task take together."""
        before = self.failures.get(task)
        return self.durations[task] + (sum([failure.took_s for failure in before]) if before else 0.0)

    def core_s(self) -> float:
        """Return the time of cores that all attempts take, without those of tasks that are skipped."""
        sizes = [need.cores * need.ranks for need in self.needs]
        skipped = self.skipped()
        return sum(sizes[kind] * self.took_s(task) for task, kind in enumerate(self.kinds) if task not in skipped)

    def skipped(self) -> set[int]:
        """Return the tasks that do not run, because one that they need fails."""
        found: set[int] = set()
        bad = list(self.failing)
        while bad:
            for task, well in self.dependents.get(bad.pop(), ()):
                if well and task not in found:
                    found.add(task)
                    bad.append(task)
        return found
