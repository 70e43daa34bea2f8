"""Clocks of nodes, corrected to the clock of the store's host as far as causality proves them wrong.

A task cannot start before its pilot did, nor end after its result was recorded. Both are known by the store's clock,
so they bound what has to be added to times by a node's clock. A clock that fits between the bounds stays as it is.
"""

import math
from collections.abc import Mapping

from pilotmtc.report.measure.columns import RUNNING, Attempts

_EXACT_S = 0.001  # a smaller correction is noise


def shifts(attempts: Attempts, pilot_started_at: Mapping[int, float]) -> dict[int, float]:
    """Return the seconds to add to times of each node, by the index of its name.

    Parameters
    ----------
    attempts
        All of them.
    pilot_started_at
        By pilot, by the store's clock.
    """
    lowest: dict[int, float] = {}
    highest: dict[int, float] = {}
    columns = zip(
        attempts.node, attempts.pilot, attempts.cause, attempts.started_at, attempts.elapsed_s, attempts.recorded_at,
        strict=True,
    )  # fmt: skip
    for node, pilot, cause, started_at, elapsed_s, recorded_at in columns:
        if not node or cause == RUNNING or started_at <= 0 or elapsed_s <= 0:
            continue  # by the store's clock, or never started
        high = recorded_at - started_at - elapsed_s
        if high < highest.get(node, math.inf):
            highest[node] = high
        low = pilot_started_at.get(pilot, -math.inf) - started_at
        if low > lowest.get(node, -math.inf):
            lowest[node] = low
    found: dict[int, float] = {}
    for node, high in highest.items():
        low = lowest.get(node, -math.inf)
        shift = (low + high) / 2 if low > high else min(max(0.0, low), high)
        found[node] = shift if abs(shift) >= _EXACT_S else 0.0
    return found
