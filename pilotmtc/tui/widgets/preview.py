"""What a task is, why it is in its state, and the end of what it wrote, in a pane beside the table of tasks."""

from collections.abc import Sequence

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from pilotmtc.model import Task
from pilotmtc.protocol.client.tasks import Output
from pilotmtc.protocol.records import OutputTail
from pilotmtc.text.numbers import sentence
from pilotmtc.text.plain import plain
from pilotmtc.text.tasks import command_line, last_lines
from pilotmtc.tui.widgets.cells import style, task_state
from pilotmtc.tui.widgets.tables.task_table import ending

_LINES = 20  # of what a task wrote
_LONGEST = 600  # characters of a command; the task's own screen shows all of it
_ABOVE = 8  # lines that the rest needs


class Preview(VerticalScroll, can_focus=False):
    """A pane with one task."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(Static(id="preview-text", markup=False), id=id)

    def show(self, task: Task, reasons: Sequence[str], written: Output | OutputTail | None) -> None:
        """Show a task, with as much of the end of its output as there is room for."""
        lines = min(max(self.size.height - _ABOVE, 3), _LINES)
        self.query_one("#preview-text", Static).update(preview_text(task, reasons, written, lines))
        self.scroll_home(animate=False)


def preview_text(task: Task, reasons: Sequence[str], written: Output | OutputTail | None, most: int) -> Text:
    """Return a task's state, command, parameters, the reasons for its state, and the last lines of its output."""
    grey = style("bright_black")
    text = Text.assemble((f"task {task.id}", "bold"), "  ", task_state(task.state), "  ", plain(ending(task)))
    text.append(f"\n{plain(command_line(task)[:_LONGEST])}", style=grey)
    params = "  ".join(f"{name}={value}" for name, value in task.params.items())
    if params:
        text.append(f"\n{plain(params)}")
    text.append("\n")
    for line in reasons:
        text.append(f"\n{plain(line if line.startswith('$ ') else sentence(line))}")
    if written is not None:
        for name, data in (("stdout", written.stdout), ("stderr", written.stderr)):
            if lines := last_lines(data, most):
                text.append(f"\n\n── {name}", style=grey)
                for line in lines:
                    text.append(f"\n{plain(line.expandtabs())}")
    return text
