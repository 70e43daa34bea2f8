"""The overview: pilots, campaigns, what needs attention, and the recent past."""

from collections.abc import Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import Static
from textual_plotext import PlotextPlot

from pilotmtc.errors import PilotMTCError
from pilotmtc.model import Campaign, Pilot
from pilotmtc.session.look.overview import Board, Notice, left_s
from pilotmtc.states import PILOT_FINAL, TASK_FINAL, TaskState
from pilotmtc.text.campaigns import marks_of
from pilotmtc.text.numbers import count, rate, span
from pilotmtc.tui.actions import pilots
from pilotmtc.tui.actions.near import NearLook
from pilotmtc.tui.widgets.campaign_pane import CampaignPane
from pilotmtc.tui.widgets.cells import (
    TASK_COLOURS,
    TASK_MARKS,
    TASK_ORDER,
    bar,
    campaign_bar,
    has_colours,
    parts_bar,
    pilot_state,
    right,
    style,
)
from pilotmtc.tui.widgets.pilot_pane import PilotPane
from pilotmtc.tui.widgets.plots import RecentPast
from pilotmtc.tui.widgets.tables.live_first import campaigns_first, is_over, is_running, pilots_first
from pilotmtc.tui.widgets.tables.notice_table import LINES, NoticeTable
from pilotmtc.tui.widgets.tables.table import Cell, Table

_TALL = 36  # from this number of lines on, there is room for the plots
_BESIDE = 160  # from this number of columns on, there is room for what the cursor is on
_RESTS_S = 0.15  # so long the cursor rests before it is looked at
_BAR = 10
_TICK_S = 5.0  # between two updates of ages without news


class PilotTable(Table):
    """The pilots; its keys are of no use while another table has the focus."""

    BINDINGS = [
        Binding("d", "screen.drain", "Drain pilot"),
        Binding("x", "screen.cancel_pilot", "Cancel pilot"),
        Binding("H", "screen.hold_pilot", "Hold, or release", show=False),
    ]


class CampaignTable(Table):
    """The campaigns, with the keys for the one under the cursor."""

    BINDINGS = [
        Binding("t", "screen.campaign_tasks", "Its tasks"),
        Binding("c", "screen.cancel_campaign", "Cancel campaign"),
        Binding("r", "screen.retry_campaign", "Retry failed"),
        Binding("s", "screen.report", "Report"),
        Binding("H", "screen.hold_campaign", "Hold, or release", show=False),
    ]


class OverviewScreen(NearLook, inherit_bindings=False):
    """The first screen: an overview of the store."""

    PLACE = "overview"
    HELP = """
    # Overview

    **Enter** opens what the cursor is on: a pilot, a campaign, what needs attention. **t** shows the tasks of the
    campaign under the cursor, if the campaigns have the focus, or else all tasks, as **T** always does.
    **Tab** goes from table to table. What is live comes first; **z** shows in the table with the focus what has ended.
    **a** marks what needs attention as seen: it is folded away until there is more of it.
    """
    BINDINGS = [
        Binding("t", "tasks", "Tasks"),
        Binding("T", "tasks", "All tasks", show=False),
        Binding("p", "submit", "New pilot"),
        Binding("z", "fold", "Ended too", show=False),
        Binding("slash", "find", "Find tasks", key_display="/", show=False),
        Binding("q", "app.quit", "Quit"),
        Binding("tab", "app.focus_next", show=False),
        Binding("shift+tab", "app.focus_previous", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._unfolded: set[str] = set()
        self._aside: tuple[str, int] | None = None  # what is shown beside the tables
        self._resting: Timer | None = None
        self._seen_live: set[int] = set()  # campaigns that were not over while the screen was open

    def body(self) -> ComposeResult:
        """Compose the tables."""
        yield Static(id="totals")
        with Vertical(id="plots"):
            yield PlotextPlot(id="paces")
            yield PlotextPlot(id="cores")
        with Horizontal(id="tables-and-side"):
            with Vertical(id="tables"):
                yield NoticeTable(id="notices")
                yield PilotTable(
                    (right("PILOT"), "STATE", "SITE", right("NODES"), right("BUSY/CORES"), "LEFT", right("TASKS/S"),
                     right("FAILED"), "REASON"), spare=(3,), id="pilots",
                )  # fmt: skip
                yield CampaignTable(
                    (right("CAMPAIGN"), "NAME", "PROGRESS", "", right("DONE"), right("OF"), right("FAILED"),
                     right("RUNNING"), right("TASKS/S"), right("ENDS IN")), flexible=(1,), spare=(4, 7), id="campaigns",
                )  # fmt: skip
            with Container(id="side"):
                yield CampaignPane(id="side-campaign")
                yield PilotPane(id="side-pilot")
        yield Static(id="hint", markup=False)

    def on_mount(self) -> None:
        """Focus the pilots."""
        self.query_one("#pilots").focus()
        self.call_after_refresh(self.take_news)
        self.set_interval(_TICK_S, self._tick)

    def on_screen_resume(self) -> None:
        """Update the clock after time in the background; `Base` draws."""
        self.set_clock()

    def on_resize(self, event: Resize) -> None:
        """Show the plots if there is room."""
        self.set_class(event.size.height >= _TALL, "-tall")
        self.set_class(event.size.width >= _BESIDE, "-side")
        self._look_aside()
        self.take_news()

    def on_board(self) -> None:
        """Draw after an update of the board."""
        self._show_tables()
        self.call_after_refresh(self._share_room)
        self._look_aside()
        if self.board.seq:
            self._show_totals()
            if self.has_class("-tall"):
                self._show_plots()

    def _tick(self) -> None:
        """Update ages, remaining times and paces; counts and plots stay the same."""
        if self.is_current and self._drawable and self.set_clock():
            self._show_tables()
            self._show_totals()
            self._look_aside()

    def _show_tables(self) -> None:
        board = self.board
        self.query_one(NoticeTable).show_notices(board, unfolded="notices" in self._unfolded)
        pilots, ended = pilots_first(board, unfolded="pilots" in self._unfolded)
        table = self.query_one("#pilots", Table)
        table.fill({str(one.id): self._pilot(one) for one in pilots})
        live = sum(pilot.state not in PILOT_FINAL for pilot in pilots)
        table.border_title = _title("Pilots", {"live": live}, ended, "ended", unfolded="pilots" in self._unfolded)
        campaigns, over = self._campaigns_first()
        table = self.query_one("#campaigns", Table)
        table.fill({str(one.id): self._campaign(one) for one in campaigns})
        runs = sum(is_running(campaign) for campaign in campaigns)
        waits = sum(not is_running(campaign) and not is_over(campaign) for campaign in campaigns)
        unfolded = "campaigns" in self._unfolded
        table.border_title = _title("Campaigns", {"running": runs, "waiting": waits}, over, "over", unfolded=unfolded)
        hint = self.query_one("#hint", Static)
        hint.update(_hint(board))
        hint.display = bool(board.seq) and bool(_hint(board))

    def _campaigns_first(self) -> tuple[list[Campaign], int]:
        """Return the campaigns to show, and how many are folded; those that end while the screen is open stay."""
        board = self.board
        for campaign in board.campaigns.values():
            if not is_over(campaign):
                self._seen_live.add(campaign.id)
        return campaigns_first(board, self._seen_live, unfolded="campaigns" in self._unfolded)

    def action_fold(self) -> None:
        """Show what is folded in the table with the focus, or fold it again."""
        table = self.focused.id if isinstance(self.focused, NoticeTable | PilotTable | CampaignTable) else None
        if table is not None:
            self._unfolded ^= {table}
            self._show_tables()
            self._share_room()

    def action_see(self) -> None:
        """Mark the notice under the cursor as seen, or as new again."""
        if (notice := self.query_one(NoticeTable).notice) is not None:
            self._mark({notice.key: None if notice.seen else notice.mark})

    def action_see_all(self) -> None:
        """Mark all notices as seen."""
        new = {key: notice.mark for key, notice in self.query_one(NoticeTable).notices.items() if not notice.seen}
        if new:
            self._mark(new)

    def _mark(self, marks: Mapping[str, float | None]) -> None:
        """Show at once what is marked, and tell the store."""
        before = self.board.seen
        self.board.seen = {key: mark for key, mark in {**before, **marks}.items() if mark is not None}
        self._show_tables()
        self.tell_if_cut()

        async def send() -> None:
            try:
                await self.mtc.gateway.do(lambda session: session.mark_seen(marks))
            except PilotMTCError:
                self.board.seen = before
                self._show_tables()
                raise

        self.begin_for_all(send)

    def action_find(self) -> None:
        """Write a filter for tasks."""
        self.mtc.open_tasks("", write=True)

    def _share_room(self) -> None:
        """Give what needs attention, if it is unfolded, the lines that other tables do not use."""
        if not self._drawable:
            return
        if "notices" not in self._unfolded:
            self.query_one("#notices").styles.max_height = LINES + 1  # the title
            return
        room = self.query_one("#tables").size.height
        pilots, campaigns = (self.query_one(f"#{id_}", Table).row_count + 1 for id_ in ("pilots", "campaigns"))
        free = room - min(pilots, room // 2) - campaigns - 3  # the titles
        self.query_one("#notices").styles.max_height = max(room // 3, free, LINES + 1)

    def on_data_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open the row under the cursor."""
        key = event.row_key.value or ""
        match event.data_table.id:
            case "pilots":
                self.mtc.open_pilot(int(key))
            case "campaigns":
                self.mtc.open_campaign(int(key))
            case _:
                self._open_notice(self.query_one(NoticeTable).notices[key])

    def on_data_table_row_highlighted(self) -> None:
        """Show what the cursor is on, once it rests."""
        self._look_soon()

    def on_descendant_focus(self) -> None:
        """Show what the cursor of the other table is on."""
        self._look_soon()

    def _look_soon(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_RESTS_S, self._look_aside)

    def _look_aside(self) -> None:
        """Show what the cursor is on beside the tables, if there is room."""
        if not (self.has_class("-side") and self.is_current and self._drawable):
            return
        table = self.focused
        if isinstance(table, PilotTable | CampaignTable) and table.current is not None:
            kind = "pilot" if isinstance(table, PilotTable) else "campaign"
            self._aside = kind, int(table.current)
        elif self._aside is None:
            key = self.query_one("#campaigns", Table).current
            self._aside = None if key is None else ("campaign", int(key))
        if self._aside is not None:
            self.look_near(*self._aside)

    def _open_notice(self, notice: Notice) -> None:
        if notice.pilot is not None:
            self.mtc.open_pilot(notice.pilot)
        elif notice.tasks:
            self.mtc.open_tasks(notice.tasks)

    def action_tasks(self) -> None:
        """Show all tasks."""
        self.mtc.open_tasks("")

    def action_submit(self) -> None:
        """Submit a pilot."""
        pilots.submit(self)

    def action_drain(self) -> None:
        """Drain the pilot under the cursor."""
        pilots.drain(self, self._current)

    def action_cancel_pilot(self) -> None:
        """Cancel the pilot under the cursor."""
        pilots.cancel(self, self._current)

    def action_hold_pilot(self) -> None:
        """Put the pilot under the cursor on hold, or release it."""
        pilots.hold(self, self._current)

    def campaign_key(self) -> int | None:
        """Return the campaign under the cursor."""
        key = self.query_one("#campaigns", Table).current
        if key is None:
            self.notify("There is no campaign under the cursor.", severity="warning")
        return None if key is None else int(key)

    @property
    def _current(self) -> Pilot | None:
        key = self.query_one("#pilots", Table).current
        return None if key is None else self.board.pilots.get(int(key))

    def _show_totals(self) -> None:
        board = self.board
        counts = [(state, board.tasks.get(state, 0)) for state in TASK_ORDER]
        total = sum(n for _, n in counts)
        busy, cores = board.cores
        line = Text()
        line.append(count(total, "task"), style="bold")
        for state, n in counts:
            if n:
                mark, look = TASK_MARKS[state]
                line.append("  ")
                line.append(f"{mark} {n:,}{f' {state.name.lower()}' if self.wide else ''}", style=style(look))
        width = max(10, self.size.width - 2)
        share = f"cores {busy:,}/{cores:,} busy {bar(busy / cores if cores else 0.0, 20)}"
        second = Text(f"{share}  {rate(board.pace, 'tasks')}")
        parts = parts_bar([(n, TASK_COLOURS[state]) for state, n in counts], width)
        self.query_one("#totals", Static).update(
            Text("\n", no_wrap=True, overflow="ellipsis").join([line, parts, second])
        )

    def _show_plots(self) -> None:
        series, past = self.board.series, RecentPast(self.board)
        ended, failed = past.a_second(series.ended), past.a_second(series.failed)
        paces = self._plot("paces", "tasks ended per second, against minutes", past, max([1.0, *ended[1]]))
        paces.plt.plot(*ended, marker="hd")
        if any(series.failed):
            paces.plt.plot(*failed, marker="hd" if has_colours() else "x", color="red", label="failed")
        cores = self._plot("cores", "busy cores of all cores, against minutes", past, max([1, *series.cores]))
        # Without colours, it is the marks that tell the lines apart.
        cores.plt.plot(*past.level(series.cores), marker="hd" if has_colours() else "dot", color="gray")
        cores.plt.plot(*past.level(series.busy), marker="hd", color="green")

    def _plot(self, id_: str, title: str, past: RecentPast, top: float) -> PlotextPlot:
        """Return an empty plot."""
        plot = self.query_one(f"#{id_}", PlotextPlot)
        plot.plt.clear_data()
        plot.plt.title(title)
        plot.plt.xlim(-past.minutes, 0)
        plot.plt.ylim(0, top)
        plot.plt.xticks(past.ticks(), [f"{age:.0f}" for age in past.ticks()])
        plot.refresh()
        return plot

    def _pilot(self, pilot: Pilot) -> tuple[Cell, ...]:
        pace, left = self.board.pilot_paces.get(pilot.id), left_s(pilot, self.board.clock)
        walltime = pilot.description.walltime_s
        return (
            right(str(pilot.id)), pilot_state(pilot.state), pilot.description.site,
            right(str(pilot.nodes or pilot.description.nodes)), right(f"{pilot.busy:,}/{pilot.cores:,}"),
            "" if left is None else f"{bar(left / walltime, _BAR)} {span(left)}" if self.wide else right(span(left)),
            right(rate(self.board.pilot_rate(pilot))) if pace else "",
            right(f"{pace.failed:,}") if pace and pace.failed else "",
            Text("on hold" if pilot.on_hold else pilot.trouble or pilot.reason or pilot.native_state),
        )  # fmt: skip

    def _campaign(self, campaign: Campaign) -> tuple[Cell, ...]:
        counts, eta = campaign.counts, self.board.eta_s(campaign)
        total, over = campaign.received, sum(counts.get(state, 0) for state in TASK_FINAL)
        return (
            right(str(campaign.id)), Text(f"{campaign.name}{marks_of(campaign)}".lstrip()),
            campaign_bar(campaign, 2 * _BAR if self.wide else _BAR),
            right(f"{100 * over // total}%" if total else ""),
            right(f"{counts.get(TaskState.DONE, 0):,}"),
            right(f"{total:,}{'' if campaign.sealed else '+'}"),
            right(f"{counts[TaskState.FAILED]:,}") if TaskState.FAILED in counts else "",
            right(f"{counts[TaskState.RUNNING]:,}" if TaskState.RUNNING in counts else ""),
            right(rate(self.board.campaign_rate(campaign))) if campaign.id in self.board.campaign_paces else "",
            right(span(eta)),
        )  # fmt: skip


def _title(name: str, live: dict[str, int], folded: int, word: str, *, unfolded: bool) -> Text:
    parts = [name, *(f"{number:,} {what}" for what, number in live.items() if number)]
    if unfolded:
        parts.append(f"all, z folds those that are {word}" if word == "over" else "all, z folds those that have ended")
    elif folded:
        parts.append(f"{folded:,} {word}: z")
    return Text(" · ".join(parts))


def _hint(board: Board) -> str:
    """Return what to do in a store in which nothing goes on yet."""
    if not board.campaigns:
        return "Nothing was submitted yet. In a shell, pilotmtc submit 'echo {}' ::: 1 2 3 submits three tasks."
    if not board.pilots:
        return "No pilot yet: p submits one, which runs the tasks."
    return ""
