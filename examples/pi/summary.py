"""Read the lines of ``darts.py`` from standard input and print pi for each number of darts."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from statistics import mean, stdev


def summary(lines: Iterable[str]) -> list[tuple[int, int, float, float]]:
    """Return number of darts, number of tasks, pi and its standard error, by number of darts."""
    estimates: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        darts, _, hits = map(int, line.split(","))
        estimates[darts].append(4 * hits / darts)
    return [
        (darts, len(found), mean(found), stdev(found) / math.sqrt(len(found)))
        for darts, found in sorted(estimates.items())
    ]


if __name__ == "__main__":
    print("darts    tasks  pi        standard error  off by")
    for darts, tasks, pi, error in summary(sys.stdin):
        print(f"{darts:<7}  {tasks:<5}  {pi:.6f}  {error:.6f}        {pi - math.pi:+.6f}")
