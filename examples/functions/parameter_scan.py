"""Parameter scan: the period of a pendulum for each amplitude and time step, beside the exact one."""

import csv
import itertools
import math
import sys

from pilotmtc import PilotExecutor

AMPLITUDES = range(10, 180, 20)  # degrees
STEPS = (0.1, 0.01, 0.001)  # seconds


def period(amplitude: int, step: float) -> float:
    """Integrate a pendulum of 1 m (leapfrog) until it hangs straight, which is after a quarter of its period."""
    angle, speed, time = math.radians(amplitude), 0.0, 0.0
    while angle > 0:
        before = angle
        speed -= 9.81 * math.sin(angle) * step / (1 if time else 2)  # the speed is half a step ahead
        angle += speed * step
        time += step
    return 4 * (time - step * angle / (angle - before))


def exact(amplitude: int) -> float:
    """Return the period by Gauss: from an arithmetic-geometric mean."""
    a, b = 1.0, math.cos(math.radians(amplitude) / 2)
    while a - b > 1e-12:
        a, b = (a + b) / 2, math.sqrt(a * b)
    return 2 * math.pi / math.sqrt(9.81) / a


if __name__ == "__main__":
    rows = list(itertools.product(AMPLITUDES, STEPS))
    with PilotExecutor() as pool:
        periods = pool.map(period, *zip(*rows, strict=True))
        table = csv.writer(sys.stdout)
        table.writerow(("amplitude", "step", "found", "known"))
        for (amplitude, step), found in zip(rows, periods, strict=True):
            table.writerow((amplitude, step, f"{found:.5f}", f"{exact(amplitude):.5f}"))
