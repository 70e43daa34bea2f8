"""Percentiles and histograms."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from pilotmtc.report.records import Distribution

_BINS = 16
_WIDE = 20.0  # a larger ratio of the largest to the smallest value needs bins whose widths grow


def distribution(values: Iterable[float]) -> Distribution:
    """Return how `values` are distributed."""
    order = sorted(values)
    if not order:
        return Distribution()
    edges = _edges(order)
    cuts = [0, *(bisect_left(order, edge) for edge in edges[1:-1]), len(order)]
    return Distribution(
        count=len(order),
        least=order[0],
        p10=percentile(order, 0.1),
        median=percentile(order, 0.5),
        mean=min(max(math.fsum(order) / len(order), order[0]), order[-1]),
        p90=percentile(order, 0.9),
        p99=percentile(order, 0.99),
        most=order[-1],
        edges=tuple(edges),
        counts=tuple([high - low for low, high in pairwise(cuts)]),
    )


def percentile(order: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the sorted values are: one of the values, not between two."""
    return order[min(max(math.ceil(part * len(order)) - 1, 0), len(order) - 1)]


def _edges(order: Sequence[float]) -> list[float]:
    low, high = order[0], order[-1]
    if low == high:
        return [low, high]
    floor = max(low, percentile(order, 0.01), high / 1e6)
    if floor > 0 and high / floor > _WIDE:
        step = (high / floor) ** (1 / _BINS)
        edges = [floor * step**at for at in range(_BINS + 1)]
    else:
        edges = [low + (high - low) * at / _BINS for at in range(_BINS + 1)]
    return [low, *edges[1:-1], high]
