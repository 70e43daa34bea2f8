"""A scrollable Gantt chart: which task ran where and when, and how it ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from pilotmtc.protocol.records import RunningTask, Span
from pilotmtc.states import Cause
from pilotmtc.text.numbers import span as words_of
from pilotmtc.text.tables import shorten
from pilotmtc.tui.widgets.cells import style

_LABEL = 16
_PLAIN = Style()  # not None, because the code that removes colours needs a style
# Seconds per cell. No step is more than twice the one before.
_STEPS = (
    0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0,
    120.0, 180.0, 300.0, 420.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0,
)  # fmt: skip
_TICK = 10  # cells between two times on the axis
_LOOK = {"done": ("█", "green"), "failed": ("X", "red"), "lost": ("▚", "yellow"), "runs": ("▓", "cyan")}
_LOST = (Cause.PREEMPTED, Cause.NODE_LOST, Cause.PILOT_LOST, Cause.CANCELED, Cause.WALLTIME)


class Bar(NamedTuple):
    """A task on a core, from `start` to `end` in seconds since the epoch; `kind` says how it ended."""

    start: float
    end: float
    kind: str


Lanes = dict[tuple[str, int], list[Bar]]


def cores_of(slot: str) -> list[int]:
    """Return the cores of a slot such as ``0-3,8``; none for any other text."""
    found: list[int] = []
    for part in slot.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (not last or last.isdecimal())):
            return []
        found += range(int(first), int(last or first) + 1)
    return found


def kind_of(span: Span) -> str:
    """Return how an attempt ended, as one of the kinds in the chart."""
    if span.cause is Cause.EXIT and span.code == 0:
        return "done"
    return "lost" if span.cause in _LOST else "failed"


def lanes_of(spans: Iterable[Span], running: Iterable[RunningTask], now: float) -> Lanes:
    """Return a lane for each core, in order of node and core; its bars are in order of time."""
    found: Lanes = {}
    for span in spans:
        bar = Bar(span.started_at, span.started_at + span.elapsed_s, kind_of(span))
        for core in cores_of(span.slot):
            found.setdefault((span.node, core), []).append(bar)
    return with_running({lane: sorted(found[lane]) for lane in sorted(found)}, running, now)


def with_running(ended: Lanes, running: Iterable[RunningTask], now: float) -> Lanes:
    """Return lanes to which tasks that run are added."""
    found: Lanes = {}
    for task in running:
        if task.started_at:
            for core in cores_of(task.slot):
                found.setdefault((task.node, core), []).append(Bar(task.started_at, now, "runs"))
    return {
        lane: sorted([*ended.get(lane, ()), *found[lane]]) if lane in found else ended[lane]
        for lane in sorted(ended.keys() | found.keys())
    }


def cells_of(bars: Sequence[Bar], start: float, step: float, width: int) -> list[str]:
    """Return the content of `width` cells of `step` seconds from `start` on: a kind, or nothing.

    If a cell has several bars, the worst kind is shown, so that zooming out hides no failure.
    """
    cells = [""] * width
    worst = list(_LOOK)
    rank = {"": -1, "done": 0, "runs": 1, "lost": 2, "failed": 3}
    assert set(worst) == rank.keys() - {""}
    for bar in bars:
        first = max(0, int((bar.start - start) / step))
        last = min(width - 1, int((bar.end - start) / step))
        for index in range(first, last + 1):
            if rank[bar.kind] > rank[cells[index]]:
                cells[index] = bar.kind
    return cells


def utilisation(lanes: Mapping[tuple[str, int], Sequence[Bar]]) -> float:
    """Return the share (0 to 1) of the time in which lanes were in use, from the first start to the last end."""
    bars = [bar for lane in lanes.values() for bar in lane]
    if not bars:
        return 0.0
    whole = max(bar.end for bar in bars) - min(bar.start for bar in bars)
    busy = sum(bar.end - bar.start for bar in bars)
    return min(1.0, busy / (whole * len(lanes))) if whole > 0 else 1.0


class Gantt(ScrollView, can_focus=True):
    """The chart: one line per core, one column per step of time."""

    BINDINGS = [
        Binding("plus,equals_sign", "zoom(-1)", "Zoom in", key_display="+"),
        Binding("minus", "zoom(1)", "Zoom out", key_display="-"),
        Binding("0", "fit", "Fit"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id)
        self._lanes: Lanes = {}
        self._order: list[tuple[str, int]] = []
        self._start = self._end = 0.0
        self._step: float | None = None  # None: all of it fits on the screen

    def show(self, lanes: Lanes) -> None:
        """Draw `lanes`."""
        self._lanes, self._order = lanes, list(lanes)
        bars = [bar for lane in lanes.values() for bar in lane]
        self._start = min((bar.start for bar in bars), default=0.0)
        self._end = max((bar.end for bar in bars), default=0.0)
        self._resize()

    @property
    def step(self) -> float:
        """Seconds per cell."""
        if self._step is not None:
            return self._step
        room = max(self.size.width - _LABEL - 1, 10)
        return max((self._end - self._start) / room, _STEPS[0])

    def action_zoom(self, by: int) -> None:
        """Zoom in or out around the middle of the screen."""
        before, half = self.step, max(self.size.width - _LABEL, 1) / 2
        middle = (self.scroll_offset.x + half) * before
        finer, coarser = [step for step in _STEPS if step < before], [step for step in _STEPS if step > before]
        steps = coarser if by > 0 else finer[::-1]
        self._step = steps[0] if steps else before
        self._resize()
        self.scroll_to(x=max(round(middle / self._step - half), 0), animate=False)

    def action_fit(self) -> None:
        """Zoom out to show all of the time."""
        self._step = None
        self._resize()

    def on_resize(self) -> None:
        """Adapt to the new size."""
        self._resize()

    def _resize(self) -> None:
        columns = int((self._end - self._start) / self.step) + 2 if self._order else 0
        self.virtual_size = Size(_LABEL + columns, len(self._order) + 1)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw a line: the axis, which stays at the top, or a lane."""
        left, top = self.scroll_offset
        width = max(self.size.width - _LABEL, 1)
        start = self._start + left * self.step
        if y == 0:
            return self._axis(start, width)
        index = y - 1 + top
        if index >= len(self._order):
            return Strip.blank(self.size.width, _PLAIN)
        node, core = self._order[index]
        label = f"{shorten(node, _LABEL - 6)}:{core}"[: _LABEL - 1].ljust(_LABEL)
        segments = [Segment(label, Style.parse(style("bright_black")))]
        for kind in cells_of(self._lanes[node, core], start, self.step, width):
            glyph, look = _LOOK.get(kind, (" ", ""))
            segments.append(Segment(glyph, Style.parse(style(look))))
        return Strip(segments, self.size.width).simplify()

    def _axis(self, start: float, width: int) -> Strip:
        text = ""
        for cell in range(0, width, _TICK):
            text += f"|{words_of(start - self._start + cell * self.step)}".ljust(_TICK)[:_TICK]
        line = f"{words_of(self.step)} a cell".ljust(_LABEL) + text[:width]
        return Strip([Segment(line, _PLAIN)], self.size.width)
