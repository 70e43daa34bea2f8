"""The states of tasks with their numbers, one key each, for filters."""

from collections.abc import Mapping

from rich.text import Text
from textual.app import RenderResult
from textual.events import Click
from textual.widget import Widget

from pilotmtc.states import TaskState
from pilotmtc.tui.widgets.cells import TASK_MARKS, style

# What each key selects: its name, and the states. What pilots hold is running to users.
CHIPS: tuple[tuple[str, tuple[TaskState, ...]], ...] = (
    ("waiting", (TaskState.WAITING,)),
    ("ready", (TaskState.READY,)),
    ("running", (TaskState.RUNNING, TaskState.CLAIMED)),
    ("done", (TaskState.DONE,)),
    ("failed", (TaskState.FAILED,)),
    ("canceled", (TaskState.CANCELED, TaskState.SKIPPED)),
)


class StateChips(Widget, can_focus=False):
    """One line: the keys of the states, how many tasks are in each if that is known, and which are selected."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id)
        self._counts: Mapping[TaskState, int] | None = None
        self._states: frozenset[TaskState] | None = None
        self._places: list[tuple[int, int]] = []

    def show(self, counts: Mapping[TaskState, int] | None, states: frozenset[TaskState] | None) -> None:
        """Show how many tasks are in which state (None: unknown), and which states the filter has (None: all)."""
        if (counts, states) != (self._counts, self._states):
            self._counts, self._states = counts, states
            self.refresh()

    def render(self) -> RenderResult:
        """Draw the chips, with words if there is room."""
        line = self._line(words=True)
        return line if line.cell_len <= self.size.width else self._line(words=False)

    def _line(self, *, words: bool) -> Text:
        line = Text(" ", no_wrap=True, overflow="ellipsis")
        self._places = []
        for number, (name, states) in enumerate(CHIPS, 1):
            mark, look = TASK_MARKS[states[0]]
            parts = [mark]
            if self._counts is not None:
                parts.append(f"{sum(self._counts.get(state, 0) for state in states):,}")
            if words or self._counts is None:
                parts.append(name)
            chosen = self._states == frozenset(states)
            start = line.cell_len
            line.append(f"{number}", style=style("bold cyan")).append(" ")
            line.append(
                f" {' '.join(parts)} " if chosen else " ".join(parts), style=style(f"{look} reverse" * chosen or look)
            )
            self._places.append((start, line.cell_len))
            line.append("   " if words else "  ")
        return line

    def on_click(self, event: Click) -> None:
        """Do what the key of the chip does."""
        for number, (start, end) in enumerate(self._places, 1):
            if start <= event.x < end:
                self.app.simulate_key(str(number))
