"""Greedy list scheduling: what the best simple scheduler without any cost would have needed."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice


def makespan(tasks: Iterable[tuple[int, float]], cores: int) -> float:
    """Return when the last of `tasks` ends on `cores` cores if each starts as soon as it fits.

    Whenever cores are free, the first task in the list that fits into them starts (Graham's list scheduling). Which
    node a core belongs to does not count.

    Parameters
    ----------
    tasks
        The number of cores of each, and its duration.
    cores
        How many there are; tasks that need more are given all of them.
    """
    listed = [(min(need, cores), duration) for need, duration in tasks if need > 0]
    if not listed or cores <= 0:
        return 0.0
    widths = {need for need, _ in listed}
    if len(widths) == 1:
        return _of_one_width(listed, cores // widths.pop())
    return _of_many_widths(listed, cores)


def _of_one_width(listed: list[tuple[int, float]], slots: int) -> float:
    durations = (duration for _, duration in listed)
    ends = list(islice(durations, slots))
    heapq.heapify(ends)
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _of_many_widths(listed: list[tuple[int, float]], cores: int) -> float:
    waiting: dict[int, list[int]] = defaultdict(list)  # by width, in reverse order
    for at in range(len(listed) - 1, -1, -1):
        waiting[listed[at][0]].append(at)
    running: list[tuple[float, int]] = []
    free, now = cores, 0.0
    while waiting or running:
        while True:
            fits = [places for need, places in waiting.items() if need <= free]
            if not fits:
                break
            at = min(fits, key=lambda places: places[-1])[-1]
            need, duration = listed[at]
            waiting[need].pop()
            if not waiting[need]:
                del waiting[need]
            free -= need
            heapq.heappush(running, (now + duration, need))
        now, need = heapq.heappop(running)
        free += need
        while running and running[0][0] <= now:
            free += heapq.heappop(running)[1]
    return now
