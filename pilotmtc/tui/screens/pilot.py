"""The screen of a pilot: its nodes, running tasks, slots over time, events, job and log."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static, TabbedContent, TabPane

from pilotmtc.errors import NotPermitted, UsageError
from pilotmtc.host_lists import by_number
from pilotmtc.model import Pilot, PilotId
from pilotmtc.protocol.client.pilots import PilotFile, PilotView
from pilotmtc.protocol.records import NodeState, RunningTask, Span
from pilotmtc.text.numbers import clock, sentence, span
from pilotmtc.text.plain import plain, plain_lines
from pilotmtc.tui.actions import pilots
from pilotmtc.tui.base import Base
from pilotmtc.tui.widgets.cells import bar, right
from pilotmtc.tui.widgets.gantt import Gantt, Lanes, lanes_of, utilisation, with_running
from pilotmtc.tui.widgets.pilot_pane import node_map, pilot_head, taken_cores
from pilotmtc.tui.widgets.tables.table import Cell, Table
from pilotmtc.units import format_memory

_MAP = 40  # cells of a node's map
_WIDE_MAP = 64  # if there is room
_SPANS = 20_000  # number of the newest attempts that are drawn
_EVERY_S = 1.0
_TABS = ("nodes", "running", "slots", "events", "job", "log")


class PilotScreen(Base):
    """The screen of a pilot."""

    HELP = """
    # A pilot

    **1** to **6** change the part that is shown. In the slots' picture **+** and **-** zoom, **0** shows all of it.
    """
    BINDINGS = [
        Binding("d", "drain", "Drain"),
        Binding("x", "cancel", "Cancel"),
        Binding("H", "hold", "Hold, or release", show=False),
        Binding("p", "submit", "New pilot", show=False),
        Binding("y", "copy", "Copy ids", show=False),
        Binding("o", "page_log", "Page log"),
        *[Binding(str(number), f"part('{tab}')", tab, show=False) for number, tab in enumerate(_TABS, 1)],
    ]

    def __init__(self, pilot: int) -> None:
        super().__init__()
        self._number = PilotId(pilot)
        self._view: PilotView | None = None
        self._spans: dict[tuple[int, int], Span] = {}
        self._ended: Lanes | None = None  # what is drawn of `_spans`
        self._seq = 0  # spans after this number are still to be fetched
        self._before = 0  # spans of tasks before this one are still to be fetched; 0: none

    def body(self) -> ComposeResult:
        """Compose the tabs."""
        yield Static(id="head")
        with TabbedContent(id="parts"):
            with TabPane("1 Nodes", id="nodes"):
                yield Table(("NODE", right("BUSY"), "SLOTS", right("LOAD"), "MEMORY"), id="node-table")
            with TabPane("2 Running", id="running"):
                titles = (right("TASK"), right("ATTEMPT"), right("CAMPAIGN"), "NODE", "SLOT", right("FOR"))
                yield Table(titles, id="running-table")
            with TabPane("3 Slots", id="slots"):
                yield Static(id="slots-title")
                yield Gantt(id="gantt")
            with TabPane("4 Events", id="events"):
                yield Table(("TIME", "WHAT"), id="event-table")
            with TabPane("5 Job", id="job"), VerticalScroll():
                yield Static(id="job-text", markup=False)
            with TabPane("6 Log", id="log"), VerticalScroll(id="log-scroll"):
                yield Static(id="log-text", markup=False)

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return f"pilot {self._number}"

    @property
    def _record(self) -> Pilot | None:
        """The pilot's record: from this screen's own requests, or before their first answer from the overview."""
        return self._view.pilot if self._view is not None else self.board.pilots.get(self._number)

    @property
    def _part(self) -> str:
        return self.query_one("#parts", TabbedContent).active

    def on_mount(self) -> None:
        """Refresh regularly, because loads and logs change without an update of the board."""
        self.set_interval(_EVERY_S, self._again)

    def on_board(self) -> None:
        """Refresh at first, and after time in the background."""
        if self._view is None:
            self.look(self._load)

    def on_tabbed_content_tab_activated(self) -> None:
        """Fetch the data of the shown tab."""
        self.look(self._load, news=True)

    def _again(self) -> None:
        if self.is_current and not self.mtc.gateway.trouble:
            self.look(self._load)

    async def _load(self) -> None:
        try:
            view = await self.mtc.gateway.do(lambda session: session.pilots.inspect(self._number))
        except UsageError as error:
            self.query_one("#head", Static).update(plain(sentence(str(error))))
            return
        self._view = view
        assert view.pilot is not None  # otherwise the session would have raised
        self.query_one("#head", Static).update(pilot_head(view.pilot, view, wide=self.wide))
        match self._part:
            case "nodes":
                self._show_nodes(view)
            case "running":
                rows = {str(task.task): _running(task, view.now) for task in view.tasks}
                self.query_one("#running-table", Table).fill(rows)
            case "events":
                rows = {str(index): (clock(at), Text(plain(words))) for index, (at, words) in enumerate(view.events)}
                self.query_one("#event-table", Table).fill(rows)
            case "slots":
                await self._load_spans(view)
            case "job":
                await self._load_job(view.pilot)
            case "log":
                await self._load_log()

    def _show_nodes(self, view: PilotView) -> None:
        taken = taken_cores(view)
        nodes = sorted(view.nodes, key=lambda node: by_number(node.name))
        rows = {node.name: _node(node, taken.get(node.name, set()), wide=self.wide) for node in nodes}
        self.query_one("#node-table", Table).fill(rows)

    async def _load_spans(self, view: PilotView) -> None:
        """Fetch attempts that have ended since the last time, and a page of older ones; draw all of them."""
        do, number, seq = self.mtc.gateway.do, self._number, self._seq
        news = await do(lambda session: session.pilots.spans(number, since=seq))
        if news.reset:
            self._spans.clear()
            self._ended = None
            self._before = news.next
        self._seq = news.seq
        self._add(news.spans)
        while (before := self._before) and len(self._spans) < _SPANS and self._part == "slots":
            self._show_slots(view)
            older = await do(lambda session, before=before: session.pilots.spans(number, before=before))  # type: ignore[misc]
            self._before = older.next
            self._add(older.spans)
        self._show_slots(view)

    def _show_slots(self, view: PilotView) -> None:
        full = len(self._spans) >= _SPANS
        if full:
            newest = sorted(self._spans.items(), key=lambda item: item[1].started_at)[-_SPANS:]
            self._spans = dict(newest)
            self._ended = None
        more = ", the newest" if full else ", older ones are being fetched" if self._before else ""
        if self._ended is None:
            self._ended = lanes_of(self._spans.values(), (), view.now)
        lanes = with_running(self._ended, view.tasks, view.now)
        title = f"{len(lanes):,} cores, {100 * utilisation(lanes):.0f} % used, {len(self._spans):,} attempts{more}"
        self.query_one("#slots-title", Static).update(f"{title}.  █ done  X failed  ▚ lost  ▓ runs")
        self.query_one("#gantt", Gantt).show(lanes)

    def _add(self, spans: Sequence[Span]) -> None:
        if spans:
            self._ended = None
        self._spans.update(((one.task, one.attempt), one) for one in spans)

    async def _load_job(self, pilot: Pilot) -> None:
        record = [
            f"{name:>14}  {plain(str(value))}"
            for name, value in (
                ("scheduler", pilot.description.scheduler or "none: started on the store's host"),
                ("job", pilot.batch), ("state", pilot.native_state), ("reason", pilot.reason),
                ("submitted", clock(pilot.submitted_at)), ("started", clock(pilot.started_at)),
                ("ended", clock(pilot.ended_at)), ("last asked", clock(pilot.asked_at)), ("trouble", pilot.trouble),
                ("host", pilot.host), ("process", pilot.pid or None), ("directory", pilot.directory),
            )
            if value
        ]  # fmt: skip
        if pilot.description.scheduler:
            script = await self._file("job.sh")
            record += ["", script.path, script.trouble or plain_lines(script.data)]
        self.query_one("#job-text", Static).update("\n".join(record))

    async def _file(self, name: str, limit: int = 64 << 10) -> PilotFile:
        try:
            return await self.mtc.gateway.do(lambda session: session.pilots.file(self._number, name, limit))
        except NotPermitted as error:  # the other tabs are still of use
            return PilotFile(name, trouble=str(error))

    async def _load_log(self) -> None:
        log = await self._file("agent.log")
        scroll = self.query_one("#log-scroll", VerticalScroll)
        at_end = scroll.scroll_target_y >= scroll.max_scroll_y
        text = plain_lines(log.data) if not log.trouble else log.trouble
        self.query_one("#log-text", Static).update(f"{log.path} ({log.size:,} bytes)\n{text}")
        if at_end:
            scroll.scroll_end(animate=False)

    # -- keys -------------------------------------------------------------------------------------------------

    def on_data_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open the task under the cursor."""
        if event.data_table.id == "running-table":
            self.mtc.open_task(int(event.row_key.value or 0))

    def action_part(self, part: str) -> None:
        """Show another tab."""
        self.query_one("#parts", TabbedContent).active = part
        first = self.query_one(f"#{part}").query("Table, Gantt, VerticalScroll").first()
        first.focus()

    def action_drain(self) -> None:
        """Drain it."""
        pilots.drain(self, self._record)

    def action_hold(self) -> None:
        """Put it on hold, or release it."""
        pilots.hold(self, self._record)

    def action_cancel(self) -> None:
        """Cancel it."""
        pilots.cancel(self, self._record)

    def action_submit(self) -> None:
        """Submit another."""
        pilots.submit(self)

    def action_copy(self) -> None:
        """Copy its ids."""
        pilot = self._record
        ids = f"{self._number}{f' {pilot.batch}' if pilot and pilot.batch else ''}"
        self.app.copy_to_clipboard(ids)
        self.notify(f"Copied: {ids}")

    def action_page_log(self) -> None:
        """Open the agent's log in the pager."""

        async def page() -> None:
            log = await self._file("agent.log", 1 << 20)
            with TemporaryDirectory(prefix="pilotmtc-") as directory:
                copy = Path(directory) / "agent.log"
                copy.write_bytes(log.data if not log.trouble else log.trouble.encode())
                self.mtc.page([str(copy)])

        self.begin(page, "pager")


def _node(node: NodeState, taken: set[int], *, wide: bool) -> tuple[Cell, ...]:
    used = f"{bar(node.memory_used_bytes / node.memory_bytes, 6)} " if node.memory_bytes and wide else ""
    memory = f"{used}{format_memory(node.memory_used_bytes)}" if node.memory_bytes else ""
    # If no more tasks are started there, the reason is of more use than a map.
    slots = Text(plain(node.note), style="bold") if node.note else node_map(node, taken, _WIDE_MAP if wide else _MAP)
    return Text(plain(node.name)), right(f"{node.busy}/{node.cores}"), slots, right(f"{node.load:.1f}"), memory


def _running(task: RunningTask, now: float) -> tuple[Cell, ...]:
    return (
        right(str(task.task)), right(str(task.attempt)), right(str(task.campaign)), task.node, task.slot,
        right(span(max(now - task.started_at, 0.0)) if task.started_at else "waits"),
    )  # fmt: skip
