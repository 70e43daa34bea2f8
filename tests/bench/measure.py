"""How things are measured and shown: rounds in turn, medians and spreads, a table, JSON."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct, structs


class Series(Struct, frozen=True):
    """One contender's values, one a round.

    Attributes
    ----------
    best
        What sums them up, instead of the median: the least or the largest. On a busy machine it says most of what a
        contender can do, as others can only take from it.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    note: str = ""
    best: Callable[[Iterable[float]], float] | None = None

    @property
    def value(self) -> float:
        """What sums the values up."""
        return self.median if self.best is None else self.best(self.values)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


class Measured(Struct, frozen=True):
    """One budget: what was measured, beside what, and whether it is kept.

    Attributes
    ----------
    value, unit
        What the budget speaks of; often a ratio of two series' medians.
    budget
        Its limit, and whether the value must be at least (True) or at most that; None only informs.
    """

    what: str
    value: float
    unit: str
    budget: float | None = None
    at_least: bool = False
    series: tuple[Series, ...] = ()
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None if there is none."""
        if self.budget is None:
            return None
        return self.value >= self.budget if self.at_least else self.value <= self.budget


def say(words: str) -> None:
    """Tell on stderr how far it is."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contender once a round, so that what disturbs the machine disturbs all of them."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in contenders if number % 2 == 0 else reversed(list(contenders)):
            value = contenders[name]()
            values[name].append(value)
            say(f"round {number + 1} of {rounds}: {name}: {value:,.4g}")
    return values


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(results: list[Measured]) -> str:
    """Return the results for people to read."""
    lines = []
    for result in results:
        limit = "" if result.budget is None else f"  budget {'>=' if result.at_least else '<='} {result.budget:,g}"
        verdict = {True: "kept", False: "MISSED", None: ""}[result.kept]
        lines.append(f"{result.what:<58} {_number(result.value):>12} {result.unit:<10}{limit:<22} {verdict}".rstrip())
        for series in result.series:
            note = f"  {series.note}" if series.note else ""
            spread = f"+-{50 * series.spread:.0f} %" if len(series.values) > 1 else ""
            lines.append(
                f"    {series.name:<54} {_number(series.value):>12} {series.unit:<10}  {spread}{note}".rstrip()
            )
        if result.note:
            lines.append(f"    {result.note}")
    return "\n".join(lines)


def plain(results: list[Measured], about: Mapping[str, object]) -> dict[str, Any]:
    """Return the results for programs to read."""
    return {
        "about": dict(about),
        "results": [
            {name: value for name, value in structs.asdict(result).items() if name != "series"}
            | {"kept": result.kept}
            | {"series": [_plain(one) for one in result.series]}
            for result in results
        ],
    }


def _plain(series: Series) -> dict[str, Any]:
    return {
        "name": series.name, "unit": series.unit, "values": series.values, "note": series.note,
        "value": series.value, "median": series.median, "spread": series.spread,
    }  # fmt: skip


def _number(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
