"""The screen of a task: the reason for its state, its output, its attempts, dependencies and dependents."""

import asyncio

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static, TabbedContent, TabPane

from pilotmtc.errors import UsageError
from pilotmtc.model import Attempt, Task, TaskId
from pilotmtc.protocol.client.tasks import Output, Tail, TaskDetail
from pilotmtc.protocol.records import OutputTail
from pilotmtc.states import TaskState
from pilotmtc.text.numbers import sentence, span
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import pairs, shorten
from pilotmtc.text.tasks import attempt_row, command_line, detail_rows, last_lines
from pilotmtc.tui.actions.tasks import TaskActions
from pilotmtc.tui.widgets.cells import right, style, task_state
from pilotmtc.tui.widgets.log_lines import Stream
from pilotmtc.tui.widgets.log_view import LogView
from pilotmtc.tui.widgets.tables.table import Cell, Table
from pilotmtc.tui.widgets.tables.task_table import cell, elapsed_s, ending

_EVERY_S = 1.0
_MESSAGE = 40  # characters of an attempt's message; `pilotmtc task` shows all of it
_TABS = ("why", "output", "attempts", "neighbours")
_NEIGHBOURS = 100  # the store returns at most so many of each kind
_TRACEBACK_LINES = 20


class TaskScreen(TaskActions):
    """The screen of a task."""

    HELP = """
    # A task

    **1** to **4** change the part that is shown: the reason for the task's state, its output, its attempts, and the
    tasks that it waits for or that wait for it. **Enter** on an attempt shows its output, on a task opens it. The
    output of a running task is shown as it comes; **End** follows it.
    """
    BINDINGS = [
        *[Binding(str(number), f"part('{tab}')", tab, show=False) for number, tab in enumerate(_TABS, 1)],
    ]

    def __init__(self, task: int) -> None:
        super().__init__()
        self._number = TaskId(task)
        self._detail: TaskDetail | None = None
        self._attempt = 0  # the attempt whose output is shown; 0: the newest one
        self._shown: Output | None = None
        self._tail = Tail()
        self._of = 0  # the attempt to which the streams belong
        self._streams: tuple[Stream, ...] = (Stream(), Stream())
        self._whole = False  # whether they are all that will be known

    def body(self) -> ComposeResult:
        """Compose the tabs."""
        yield Static(id="head")
        with TabbedContent(id="parts"):
            with TabPane("1 Why", id="why"), VerticalScroll():
                yield Static(id="why-text", markup=False)
            with TabPane("2 Output", id="output"):
                yield LogView(id="log-view")
            with TabPane("3 Attempts", id="attempts"):
                titles = (right("ATTEMPT"), "END", right("TIME"), "MESSAGE", "STARTED", right("MEMORY"), right("CPU"))
                yield Table((*titles, right("PILOT"), "NODE", "CORES", "VERSION"), id="attempt-table")
            with TabPane("4 Neighbours", id="neighbours"):
                yield Table((right("TASK"), "STATE", ""), id="neighbour-table")

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return f"task {self._number}"

    def chosen(self) -> list[Task]:
        """Return the task."""
        return [self._detail.task] if self._detail is not None and self._detail.task is not None else []

    def on_mount(self) -> None:
        """Refresh regularly while the task runs, because its time changes without an update of the board."""
        self.set_interval(_EVERY_S, self._tick)

    def _tick(self) -> None:
        running = any(task.state is TaskState.RUNNING for task in self.chosen())
        if running and self.is_current and not self.mtc.gateway.trouble:
            self.look(self._load)

    def on_board(self) -> None:
        """Look again."""
        self.changed()

    def changed(self) -> None:
        """Look again."""
        if not self.mtc.gateway.trouble:
            self.look(self._load, news=True)

    def on_tabbed_content_tab_activated(self) -> None:
        """Fetch the data of the shown tab."""
        self.changed()

    @property
    def _part(self) -> str:
        return self.query_one("#parts", TabbedContent).active

    async def _load(self) -> None:
        do, number = self.mtc.gateway.do, self._number
        try:
            (_, reasons), detail = await asyncio.gather(
                do(lambda session: session.explain(number)), do(lambda session: session.task(number))
            )
        except UsageError as error:
            self.query_one("#head", Static).update(plain(sentence(str(error))))
            return
        task, now = detail.task, self.now
        assert task is not None  # otherwise the session would have raised
        self._detail = detail
        self._show_head(task, now)
        match self._part:
            case "why":
                rows = [(name, value) for name, value in detail_rows(detail, now)[2:] if value]
                lines = [line if line.startswith("$ ") else sentence(line) for line in reasons]
                lines += ["", *pairs(rows, colour=False)]
                if task.function and task.state is TaskState.FAILED and task.last and task.last.stderr_bytes:
                    wrote = await self._output_of(task.last.attempt)
                    lines += ["", *last_lines(wrote.stderr, _TRACEBACK_LINES)]
                self.query_one("#why-text", Static).update("\n".join(map(plain, lines)))
            case "output":
                await self._load_output(detail)
            case "attempts":
                table = {str(one.attempt): _attempt(one, now) for one in detail.attempts}
                self.query_one("#attempt-table", Table).fill(table)
            case "neighbours":
                self._show_neighbours(detail)

    def _show_head(self, task: Task, now: float) -> None:
        used = min(task.failures, task.max_retries)
        retries = f", retries {used}/{task.max_retries}" if task.max_retries else ""
        parts = (
            ending(task),
            span(elapsed_s(task, now)),
            f"campaign {task.campaign}",
            f"attempt {task.attempt}{retries}" if task.attempt else "",
        )
        first = Text.assemble(task_state(task.state), "  ", plain("  ".join(part for part in parts if part)))
        second = Text(plain(task.name or ""), style="bold")
        third = Text(plain(command_line(task)), style=style("bright_black"))
        self.query_one("#head", Static).update(Text("\n").join([first, second, third] if task.name else [first, third]))

    async def _load_output(self, detail: TaskDetail) -> None:
        task, do, number = detail.task, self.mtc.gateway.do, self._number
        running = task.attempt if task is not None and task.state is TaskState.RUNNING else 0
        newest = running or (detail.attempts[-1].attempt if detail.attempts else 0)
        wanted = self._attempt or newest
        shown: Output | OutputTail | None = None
        if wanted and wanted == running:
            since = self._tail.at if self._tail.attempt == wanted else 0.0
            tail = await do(lambda session: session.tail(number, since=since, wait_s=_EVERY_S))
            if tail.attempt == wanted:
                self._tail = tail
            shown, what = tail.written, "runs, and has written so far"
        elif wanted:
            shown, what = await self._output_of(wanted), "wrote"
        view = self.query_one(LogView)
        if shown is None:
            view.show("There is no output yet.", (), 0)
            return
        if self._of != wanted:
            self._of, self._streams, self._whole = wanted, (Stream(), Stream()), False
        runs = wanted == running
        self._streams = (
            self._grown(self._streams[0], shown.stdout, shown.stdout_bytes, runs=runs),
            self._grown(self._streams[1], shown.stderr, shown.stderr_bytes, runs=runs),
        )
        self._whole = not runs
        paths = zip(("stdout", "stderr"), self._streams, (shown.stdout_path, shown.stderr_path), strict=True)
        parts = [(_heading(name, stream, path), stream.lines) for name, stream, path in paths]
        sizes = f"stdout {self._streams[0].size:,} bytes, stderr {self._streams[1].size:,} bytes"
        view.show(f"attempt {wanted} of {newest} {what}: {sizes}", parts, wanted, live=runs)

    def _grown(self, stream: Stream, data: bytes, size: int, *, runs: bool) -> Stream:
        """Return a stream with what has arrived of it: while the attempt runs its end, afterwards all that is known."""
        if self._whole:
            return stream
        if (runs or (not stream.missing and len(data) == size)) and stream.take(data, size):
            return stream
        fresh = Stream()
        fresh.take(data, size if runs else len(data))
        fresh.size = size
        return fresh

    async def _output_of(self, attempt: int) -> Output:
        """Return what an attempt wrote that is over."""
        number = self._number
        if self._shown is None or self._shown.attempt != attempt:
            self._shown = await self.mtc.gateway.do(lambda session: session.output(number, attempt, whole=False))
        return self._shown

    def _show_neighbours(self, detail: TaskDetail) -> None:
        rows: dict[str, tuple[Cell, ...]] = {}
        for what, neighbours in (("this task needs it", detail.needs), ("it needs this task", detail.needed_by)):
            for one in neighbours:
                words = what if one.well else f"{what} to end, be it well or not"
                rows[str(one.id)] = (right(str(one.id)), task_state(one.state), words)
            if len(neighbours) == _NEIGHBOURS:
                rows[f"more {what}"] = ("", "", f"the first {_NEIGHBOURS} are shown")
        self.query_one("#neighbour-table", Table).fill(rows)

    # -- keys -------------------------------------------------------------------------------------------------

    def on_data_table_row_selected(self, event: Table.RowSelected) -> None:
        """Show the output of an attempt, or open another task."""
        key = event.row_key.value or ""
        if event.data_table.id == "attempt-table":
            self._attempt = int(key)
            self._go_to("output")
        elif key.isdigit():
            self.mtc.open_task(int(key))

    def action_part(self, part: str) -> None:
        """Show another tab; the output is that of the newest attempt."""
        if part == "output":
            self._attempt = 0
        self._go_to(part)

    def _go_to(self, part: str) -> None:
        self.query_one("#parts", TabbedContent).active = part
        self.query_one(f"#{part}").query("Table, Pages, VerticalScroll").first().focus()


def _heading(name: str, stream: Stream, path: str | None) -> str:
    here = len(stream.lines.data)
    less = f", {here:,} of them are here" if here < stream.size else ""
    return f"── {name}: {stream.size:,} bytes{f' in {plain(path)}' if path else ''}{less}"


def _attempt(one: Attempt, now: float) -> tuple[Cell, ...]:
    """Return an attempt's cells, the most important ones first, because a small screen cuts off the last ones."""
    number, end, took, cpu, memory, started, pilot, node, cores, version, message = attempt_row(one, now)
    return (
        right(number), cell(end), right(took), cell(shorten(message, _MESSAGE)), started, right(memory), right(cpu),
        right(pilot), cell(node), cell(cores),
        cell(version),
    )  # fmt: skip
