"""The recent past as lines for plots. Pure."""

from collections.abc import Sequence

from pilotmtc.session.look.overview import Board

_ROUND = (1, 2, 5, 10, 20, 30, 60, 120, 240)
_TICKS = 6

Points = tuple[list[float], list[float]]


class RecentPast:
    """A board's series over time, in minutes before now."""

    def __init__(self, board: Board) -> None:
        series = board.series
        starts = [series.start_at + index * series.step_s for index in range(len(series.ended))]
        # Counting began within the first step, and the last one has not ended.
        self._edges = [
            (max(start, board.since_at), max(min(start + series.step_s, board.series_at), start)) for start in starts
        ]
        self._step_s = series.step_s
        self._lull_s = board.clock - board.series_at if starts else 0.0
        self._now = board.clock
        self.minutes = max([1.0, *((self._now - begin) / 60 for begin, _ in self._edges[:1])])

    def a_second(self, counts: Sequence[int]) -> Points:
        """Return a count per second for each step."""
        lengths = [max(end - begin, 0.0) for begin, end in self._edges]
        rates = [count / length if length else 0.0 for count, length in zip(counts, lengths, strict=True)]
        # In a step that has just begun, one task would make a peak: it is combined with the step before.
        for one, other in ((0, 1), (-1, -2)):
            if len(rates) > 1 and lengths[one] < self._step_s / 2:
                rates[one] = rates[other] = (counts[one] + counts[other]) / max(lengths[one] + lengths[other], 1e-3)
        return self._line(rates, 0.0)

    def level(self, values: Sequence[int]) -> Points:
        """Return a level, such as the number of cores, for each step."""
        return self._line(values, values[-1] if values else 0.0)

    def ticks(self) -> list[float]:
        """Return round times for the axis below the plots."""
        step = next((one for one in _ROUND if self.minutes / one <= _TICKS), _ROUND[-1])
        return [0.0 - age for age in range(int(self.minutes) // step * step, -1, -step)]

    def _line(self, values: Sequence[float], since: float) -> Points:
        """Return the points of a line, which continues with the value `since` after the last step."""
        edges = self._edges
        if self._lull_s > 0:
            edges, values = [*edges, (self._now - self._lull_s, self._now)], [*values, since]
        ages: list[float] = []
        heights: list[float] = []
        for (begin, end), value in zip(edges, values, strict=True):
            if heights and heights[-1] == value:
                ages[-1] = (end - self._now) / 60
            else:
                ages += [(begin - self._now) / 60, (end - self._now) / 60]
                heights += [value, value]
        return ages, heights
