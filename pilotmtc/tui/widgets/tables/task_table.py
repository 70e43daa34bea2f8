"""The table of tasks, with as many columns as fit, which grows at both ends."""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache

from msgspec import Struct
from rich.text import Text
from textual.binding import Binding
from textual.events import Resize
from textual.message import Message

from pilotmtc.model import Task
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.text.endings import describe_end
from pilotmtc.text.numbers import span
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import shorten_middle
from pilotmtc.text.tasks import command_line
from pilotmtc.tui.widgets.cells import even, right, task_state
from pilotmtc.tui.widgets.cells import style as seen
from pilotmtc.tui.widgets.tables.table import Cell, Table, as_cell
from pilotmtc.units import format_memory

_LONGEST = 600  # the longest text in a cell; no screen is wider
_COMMAND = 22  # the smallest width of the command


class TaskColumn(Struct, frozen=True):
    """A column: its title, its width, the width of the screen from which on it is shown, and its content.

    `order` is the order in `listing.ORDERS` that a click on it selects; some columns become wider with the screen.
    """

    title: Cell
    width: int
    from_width: int
    text: Callable[[Task, float], Cell]
    order: str = ""


def cell(text: str, style: str = "") -> Text:
    """Return foreign text as a cell: on one line, without control characters or markup."""
    return Text(even(plain(text[:_LONGEST])), style=style, no_wrap=True, overflow="ellipsis", end="")


def elapsed_s(task: Task, now: float) -> float | None:
    """Return how long a task has been running, or how long its last attempt ran; None if it has never run."""
    if task.state is TaskState.RUNNING and task.started_at is not None:
        return max(now - task.started_at, 0.0)
    return task.last.elapsed_s if task.last else None


def ending(task: Task) -> str:
    """Return how a task's last attempt ended, or a remark about its present state."""
    if task.cancel and task.state not in TASK_FINAL:
        return "to be canceled"
    if task.on_hold:
        return "on hold"
    if task.state is TaskState.WAITING and task.unmet:
        return f"for {task.unmet:,} task{'s' * (task.unmet != 1)}"
    return describe_end(task.last) if task.last and task.state is not TaskState.RUNNING else ""


def _memory(task: Task, _: float) -> Cell:
    return right(format_memory(task.last.memory_bytes) if task.last and task.last.memory_bytes else "")


def _pilot(task: Task, _: float) -> Cell:
    pilot = task.pilot if task.pilot is not None else task.last.pilot if task.last else None
    return right("" if pilot is None else str(pilot))


def _params(task: Task, _: float) -> Cell:
    return cell(" ".join(f"{name}={value[:_LONGEST]}" for name, value in task.params.items()), seen("bright_black"))


COLUMNS = (
    TaskColumn(right("TASK"), 8, 0, lambda task, _: right(str(task.id)), "id"),
    TaskColumn("STATE", 10, 0, lambda task, _: task_state(task.state)),
    TaskColumn(right("ATTEMPT"), 7, 131, lambda task, _: right(str(task.attempt))),
    TaskColumn(right("ELAPSED"), 7, 60, lambda task, now: right(span(elapsed_s(task, now))), "elapsed_s"),
    TaskColumn("END", 17, 78, lambda task, _: cell(ending(task))),
    TaskColumn(right("CPU"), 7, 150, lambda task, _: right(span(task.last.cpu_s) if task.last else ""), "cpu_s"),
    TaskColumn(right("MEMORY"), 7, 100, _memory, "memory_bytes"),
    TaskColumn(right("PRIO"), 6, 130, lambda task, _: right(str(task.priority) if task.priority else ""), "priority"),
    TaskColumn(right("CAMP"), 4, 120, lambda task, _: right(str(task.campaign))),
    TaskColumn(right("PILOT"), 5, 120, _pilot),
    TaskColumn("NODE", 12, 160, lambda task, _: cell(task.last.node if task.last else "")),
    TaskColumn("NAME", 12, 110, lambda task, _: cell(task.name or "")),
    TaskColumn("TAGS", 14, 170, lambda task, _: cell(",".join(task.tags))),
    TaskColumn("PARAMS", 26, 198, _params),
)


def _pale(cell: Cell) -> Text:
    text = as_cell(cell)
    return Text(text.plain, style=seen("bright_black"), justify=text.justify)


@cache
def _command_column(width: int) -> TaskColumn:
    """Return the column of commands. The end of a long command is shown as well, since tasks often differ there."""
    return TaskColumn(
        "COMMAND", width, 0, lambda task, _: cell(shorten_middle(plain(command_line(task)[:_LONGEST]), width))
    )


def columns_for(width: int) -> list[tuple[TaskColumn, int]]:
    """Return the columns that fit on a screen of `width`, and their widths; the command takes the rest."""
    shown = [(column, column.width) for column in COLUMNS if width >= column.from_width]
    used = sum(each + 2 for _, each in shown) + 3 + 1 + 2  # padding, marks, scroll bar
    left = max(width - used, _COMMAND)
    return [*shown, (_command_column(left), left)]


class TaskTable(Table):
    """A table of tasks by id; it sends `Moved` when other rows become visible."""

    BINDINGS = [
        Binding("end,G", "screen.last", "Other end", show=False),
        Binding("home,g", "screen.first", "Beginning", show=False),
    ]

    class AtEnd(Message):
        """The cursor is to go beyond the last row."""

    def action_cursor_down(self) -> None:
        """Go to the next row; say so if there is none."""
        if self.row_count and self.cursor_row == self.row_count - 1:
            self.post_message(self.AtEnd())
        super().action_cursor_down()

    class Moved(Message):
        """Other rows have become visible."""

    class Resized(Message):
        """There is room for other columns."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

    def on_resize(self, event: Resize) -> None:
        """Tell the screen, which draws other columns."""
        self.post_message(self.Resized(self.outer_size.width))

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__((), id=id)
        self._shape: list[tuple[TaskColumn, int]] = []

    def _fit(self) -> None:
        """Keep the widths that were chosen in `shape`."""

    def _columns_of(self, rows: Mapping[str, Sequence[Text]]) -> bool:
        """Keep the columns that were chosen in `shape`."""
        return True

    def shape(self, width: int) -> bool:
        """Choose the columns that fit in `width`; return whether they have changed, which removes all rows."""
        shape = columns_for(width)
        if shape == self._shape:
            return False
        self._shape = shape
        self.clear(columns=True)
        self._rows = {}
        self._drawn = tuple(range(len(shape) + 1))
        self.add_column("", width=1, key="0")
        for number, (column, each) in enumerate(shape, 1):
            self.add_column(column.title, width=each, key=str(number))
        return True

    def order_of(self, column: int) -> str:
        """Return the order that a click on a column selects; empty if none."""
        return self._shape[column - 1][0].order if column else ""

    def row(self, task: Task, now: float, marked: Container[int], left: Container[int] = ()) -> tuple[Cell, ...]:
        """Return the cells of a task; those of a task that has `left` the filter are pale."""
        mark = Text("●" if task.id in marked else " ", style="bold yellow")
        cells = tuple([column.text(task, now) for column, _ in self._shape])
        if task.id in left:
            cells = tuple([_pale(one) for one in cells])
        return (mark, *cells)

    def show(self, rows: Mapping[str, Sequence[Cell]]) -> None:
        """Show `rows`; visible rows stay at their place, even if rows are added or removed above them."""
        before = self.keys
        if list(rows)[: len(before)] == before:
            self.fill(rows)
            return
        at, top = self.current, int(self.scroll_offset.y)
        anchor = before[top] if top < len(before) else None
        line = self.cursor_row - top
        self.clear()
        self._rows = {}
        self.fill(rows)
        keys = self.keys
        top = keys.index(anchor) if anchor is not None and anchor in rows else 0
        if keys:
            row = keys.index(at) if at is not None and at in rows else min(top + max(line, 0), len(keys) - 1)
            self.move_cursor(row=row, scroll=False)
            self.scroll_to(y=top, animate=False)

    def update_row(self, key: str, cells: Sequence[Cell]) -> None:
        """Draw a row again."""
        before, fresh = self._rows.get(key), tuple([as_cell(one) for one in cells])
        if before is not None and before != fresh:
            self._update(key, before, fresh)
            self._rows[key] = fresh

    @property
    def in_sight(self) -> list[str]:
        """The keys of the visible rows."""
        top = int(self.scroll_offset.y)
        return self.keys[top : top + max(self.size.height - 1, 1)]

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Send `Moved` after scrolling."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Moved())
