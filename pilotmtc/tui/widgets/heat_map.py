"""A campaign's tasks over two of its parameters, a cell for each pair of values."""

from collections.abc import Mapping

from rich.text import Text

from pilotmtc.session.look.grid import Cell, Grid
from pilotmtc.states import TaskState
from pilotmtc.text.numbers import span
from pilotmtc.text.plain import plain
from pilotmtc.tui.widgets.cells import TASK_MARKS, even, style

_LABEL = 12  # characters of a value
_SHADES = "░▒▓█"
# What a cell with several tasks shows: what needs to be seen first.
_FIRST = (
    TaskState.FAILED, TaskState.RUNNING, TaskState.CLAIMED, TaskState.CANCELED, TaskState.SKIPPED, TaskState.READY,
    TaskState.WAITING, TaskState.DONE,
)  # fmt: skip


def heat_map(grid: Grid, total: int, width: int, *, timed: bool) -> list[Text]:
    """Return the lines of a map of states, or of durations; values that do not fit into `width` are left out, and said.

    Parameters
    ----------
    total
        Number of the campaign's tasks, of which the grid may have read a part.
    timed
        Show durations.
    """
    label = min(max(len(_name(value)) for value in grid.rows), _LABEL)
    fit = max((width - label - 1) // 2, 1)
    columns = grid.columns[:fit]
    parts = [f"{_name(grid.down)} down, {_name(grid.across)} across"]
    if len(columns) < len(grid.columns):
        parts.append(f"{len(columns)} of {len(grid.columns)} values")
    if grid.read < total:
        parts.append(f"of {grid.read:,} tasks that were read")
    other = "states" if timed else "durations"
    bounds = _bounds(grid)
    lines = [Text(f"── {'Durations' if timed else 'States'}: {', '.join(parts)} (m: {other})", style="bold")]
    for row in grid.rows:
        line = Text(_name(row).rjust(label) + " ")
        for column in columns:
            cell = grid.cells.get((column, row))
            line.append_text(Text("  ") if cell is None else _timed(cell, bounds) if timed else _state(cell.states))
        lines.append(line)
    first, last = _name(columns[0]), _name(columns[-1])
    axis = first + last.rjust(max(2 * len(columns) - 1 - len(first), len(last) + 1))
    lines.append(Text(" " * (label + 1) + axis, style=style("bright_black")))
    if timed and bounds:
        words = [f"{shade * 2} from {span(bound)}" for shade, bound in zip(_shades(bounds), bounds, strict=True)]
        lines.append(Text("  ".join(words)))
    return lines


def _bounds(grid: Grid) -> list[float]:
    """Return from which duration on each shade is used: each is for a quarter of the cells if these differ."""
    times = sorted(cell.elapsed_s for cell in grid.cells.values() if cell.elapsed_s is not None)
    return sorted({times[len(times) * part // len(_SHADES)] for part in range(len(_SHADES))}) if times else []


def _shades(bounds: list[float]) -> list[str]:
    """Return a shade for each bound, from the lightest to the darkest."""
    return [_SHADES[(len(_SHADES) - 1) * index // max(len(bounds) - 1, 1)] for index in range(len(bounds))]


def _state(states: Mapping[TaskState, int]) -> Text:
    state = next(state for state in _FIRST if state in states)
    mark, look = TASK_MARKS[state]
    return Text(f"{mark} ", style=style(look))


def _timed(cell: Cell, bounds: list[float]) -> Text:
    took_s = cell.elapsed_s
    if took_s is None:
        return Text("· ", style=style("bright_black"))
    return Text(_shades(bounds)[sum(took_s >= bound for bound in bounds) - 1] * 2, style=style("cyan"))


def _name(text: str) -> str:
    """Return a name or a value that is short enough."""
    shown = even(plain(text))
    return shown if len(shown) <= _LABEL else f"{shown[: _LABEL - 1]}…"
