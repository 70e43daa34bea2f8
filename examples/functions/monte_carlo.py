"""Monte Carlo: the volume of the unit ball in ten dimensions, by points that are thrown at a cube."""

import math
import random
from statistics import mean, stdev

from pilotmtc import PilotExecutor

DIMENSIONS, POINTS, CALLS = 10, 50_000, 40


def volume(seed: int) -> float:
    """Estimate the volume from the share of points inside."""
    throw = random.Random(seed).random
    inside = sum(sum(throw() ** 2 for _ in range(DIMENSIONS)) < 1 for _ in range(POINTS))
    return 2.0**DIMENSIONS * inside / POINTS  # the points fill one of 2**10 like corners


if __name__ == "__main__":
    with PilotExecutor() as pool:
        volumes = list(pool.map(volume, range(CALLS)))
    error = stdev(volumes) / math.sqrt(CALLS)
    print(f"{CALLS * POINTS:,} points: found {mean(volumes):.3f} +- {error:.3f}, known {math.pi**5 / 120:.3f}")
