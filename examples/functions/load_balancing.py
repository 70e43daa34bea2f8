"""Load balancing: stripes of the Mandelbrot set, of which some take far longer than others, and who did what when.

The pool gives each worker the next stripe as soon as it has finished one. Equal shares for all would not do.
"""

import os
import time
from typing import NamedTuple

from pilotmtc import PilotExecutor

STRIPES, POINTS, DEPTH = 40, 900, 500


class Stripe(NamedTuple):
    """How many points of a stripe belong to the set; who has looked, and from when to when."""

    inside: int
    pid: int
    begin: float
    end: float


def look(number: int) -> Stripe:
    """Count the points of a stripe, which is a row of points from -2 to 0.5."""
    begin, inside = time.time(), 0
    height = 1.25 * (number + 0.5) / STRIPES
    for place in range(POINTS):
        z = c = complex(-2 + 2.5 * (place + 0.5) / POINTS, height)
        for _ in range(DEPTH):
            if abs(z) > 2:
                break
            z = z * z + c
        else:
            inside += 1
    return Stripe(inside, os.getpid(), begin, time.time())


def draw(stripes: list[Stripe], width: int = 72) -> None:
    """Print who did what when: a line for each worker, on which one stripe is =, the next one -, and so on."""
    start, end = min(stripe.begin for stripe in stripes), max(stripe.end for stripe in stripes)
    pids = sorted({stripe.pid for stripe in stripes})
    for pid in pids:
        line = [" "] * width
        for number, stripe in enumerate([stripe for stripe in stripes if stripe.pid == pid]):
            first, last = (int((at - start) / (end - start) * width) for at in (stripe.begin, stripe.end))
            line[first:last] = "=-"[number % 2] * (last - first)
        print(f"{pid:>7} |{''.join(line)}|")
    busy = sum(stripe.end - stripe.begin for stripe in stripes)
    print(f"busy for {busy / (end - start) / len(pids):.0%} of {end - start:.1f} s")


def paint(stripes: list[Stripe], file: str) -> None:
    """Make a picture of the same, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(8, 2), layout="constrained")
    axes = figure.subplots()
    start, pids = min(stripe.begin for stripe in stripes), sorted({stripe.pid for stripe in stripes})
    for stripe in stripes:
        place = pids.index(stripe.pid) - 0.4
        axes.broken_barh([(stripe.begin - start, stripe.end - stripe.begin)], (place, 0.8), edgecolor="white")
    axes.set(xlabel="seconds", yticks=range(len(pids)), yticklabels=[f"worker {pid}" for pid in pids])
    figure.savefig(file)
    print(f"see {file}")


if __name__ == "__main__":
    with PilotExecutor() as pool:
        stripes = list(pool.map(look, range(STRIPES)))
    draw(stripes)
    paint(stripes, "load_balancing.png")
    area = 2 * 2.5 * 1.25 * sum(stripe.inside for stripe in stripes) / STRIPES / POINTS  # the other half is alike
    print(f"area: found {area:.3f}, known 1.507")
