"""A campaign from near, as a text: on its page, and beside the tables of the overview."""

from collections.abc import Sequence

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from pilotmtc.model import Campaign, Task
from pilotmtc.report.records import Distribution
from pilotmtc.session.look.campaign import CampaignView, eta_between
from pilotmtc.session.look.overview import Board
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.text.campaigns import campaign_title, command_title, steering_rows
from pilotmtc.text.endings import how_failed
from pilotmtc.text.numbers import ago, count, rate, span
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import shorten
from pilotmtc.text.tasks import command_line
from pilotmtc.tui.widgets.cells import TASK_MARKS, TASK_ORDER, campaign_bar, even, style
from pilotmtc.tui.widgets.heat_map import heat_map
from pilotmtc.tui.widgets.tables.task_table import elapsed_s, ending

_BLOCKS = " ▁▂▃▄▅▆▇█"
_TALL = 4  # lines of a histogram
_BIN = 3  # cells of one of its bars
_LONGEST = 300  # characters of a command; no pane is wider
_FAILURES = 6
_END = 22  # characters of how a task ended
_BAR = 60


class CampaignPane(VerticalScroll):
    """A pane with one campaign."""

    BINDINGS = [
        Binding("j", "scroll_down", "Down", show=False),
        Binding("k", "scroll_up", "Up", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "Bottom", show=False),
        Binding("ctrl+d", "page_down", "Page down", show=False),
        Binding("ctrl+u", "page_up", "Page up", show=False),
        Binding("h", "screen.back", "Back", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(Static(classes="pane-text", markup=False), id=id, classes="pane")
        self._lines = -1
        self._timed = False  # the map shows durations
        self._shown: tuple[Campaign, Board, CampaignView | None] | None = None

    def show(self, campaign: Campaign, board: Board, view: CampaignView | None) -> None:
        """Show a campaign; until it is known what is seen from near, what the board says of it."""
        self._shown = campaign, board, view
        if self.size.width:  # before that it is not laid out: `on_resize` follows
            self.say(campaign_text(campaign, board, view, max(self.size.width - 3, 20), timed=self._timed))

    def turn_map(self) -> None:
        """Show durations on the map, or states again."""
        self._timed = not self._timed
        if self._shown is not None:
            self.show(*self._shown)

    def on_resize(self) -> None:
        """Use the new width."""
        if self._shown is not None:
            self.show(*self._shown)

    def say(self, text: Text | str) -> None:
        """Show a text."""
        lines = str(text).count("\n")
        # A layout of the whole screen costs more than all else: only if the text has become longer or shorter.
        self.query_one(".pane-text", Static).update(text, layout=lines != self._lines)
        self._lines = lines


def campaign_text(
    campaign: Campaign, board: Board, view: CampaignView | None, width: int, *, timed: bool = False
) -> Text:
    """Return all that is to be said of a campaign, on lines that are at most `width` wide or may be cut."""
    lines = [Text.assemble((f"campaign {campaign.id}", "bold"), f"  {even(campaign_title(campaign))}")]
    if campaign.name and (command := command_title(campaign)):
        lines.append(Text(even(command[:_LONGEST]), style=style("bright_black")))
    lines += [Text(f"{name} {words}") for name, words in steering_rows(campaign) if words]
    lines += [Text(), *_progress(campaign, board, view, width)]
    if view is not None and view.durations_s.count:
        lines += [
            Text(),
            _title(f"Durations of {_measured(campaign, view.durations_s)}"),
            *_histogram(view.durations_s),
        ]
    if failures := _failures(campaign, board):
        lines += [Text(), _title("Failures by cause"), *failures]
    if view is not None and view.grid is not None:
        lines += [Text(), *heat_map(view.grid, campaign.received, width, timed=timed)]
    if view is not None and view.running:
        running = campaign.counts.get(TaskState.RUNNING, 0)
        more = f" · {running:,}, longest first" if running > len(view.running) else ""
        lines += [Text(), _title(f"Running now{more}"), *_tasks(view.running, board.clock)]
    if view is not None and view.ended:
        lines += [Text(), _title("Ended last"), *_tasks(view.ended, board.clock)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _title(words: str) -> Text:
    return Text(f"── {words}", style="bold")


def _progress(campaign: Campaign, board: Board, view: CampaignView | None, width: int) -> list[Text]:
    counts, total = campaign.counts, campaign.received
    over = sum(counts.get(state, 0) for state in TASK_FINAL)
    percent = f" {100 * over // total}%" if total else ""
    numbers = Text(f"{over:,} of {total:,}{'' if campaign.sealed else '+'} over")
    for state in TASK_ORDER:
        if n := counts.get(state, 0):
            mark, look = TASK_MARKS[state]
            part = Text(f"{mark} {n:,} {state.name.lower()}", style=style(look))
            apart = "\n" if len(numbers.plain.rpartition("\n")[2]) + len(part) + 2 > width else "  "
            numbers.append(apart).append_text(part)
    lines = [
        Text.assemble(campaign_bar(campaign, min(width - len(percent), _BAR)), (percent, "bold")),
        *numbers.split("\n"),
    ]
    words = []
    if campaign.id in board.campaign_paces and over < total:
        words.append(rate(board.campaign_rate(campaign), "tasks"))
    if (eta := board.eta_s(campaign)) is not None:
        between = None if view is None else eta_between(eta, total - over, view.durations_s)
        words.append(f"ends in {span(eta)}" + (f" ({span(between[0])} to {span(between[1])})" if between else ""))
    return [*lines, Text("  ".join(words))] if words else lines


def _measured(campaign: Campaign, durations_s: Distribution) -> str:
    """Return of how many tasks the durations are."""
    done = campaign.counts.get(TaskState.DONE, 0)
    return f"{'the last ' if durations_s.count < done else ''}{count(durations_s.count, 'task')} that succeeded"


def _histogram(durations_s: Distribution) -> list[Text]:
    """Return a histogram with its ends below, and the numbers that it does not show."""
    words = Text(
        f"median {span(durations_s.median)}, 80 % between {span(durations_s.p10)} and {span(durations_s.p90)}"
    )  # fmt: skip
    if len(durations_s.counts) < 2:
        return [words]
    most = max(durations_s.counts)
    # Each bin with a task has a cell at least.
    eighths = [max(round(8 * _TALL * n / most), 1) if n else 0 for n in durations_s.counts]
    lines = [
        Text("".join(_BLOCKS[min(max(each - 8 * row, 0), 8)] * (_BIN - 1) + " " for each in eighths).rstrip(),
             style=style("green"))
        for row in reversed(range(_TALL))
    ]  # fmt: skip
    low, high = span(durations_s.least), span(durations_s.most)
    ends = low + high.rjust(max(_BIN * len(eighths) - 1 - len(low), len(high) + 1))
    return [*lines, Text(ends, style=style("bright_black")), words]


def _failures(campaign: Campaign, board: Board) -> list[Text]:
    failed = campaign.counts.get(TaskState.FAILED, 0)
    groups = sorted([one for one in board.failures if one.campaign == campaign.id], key=lambda one: -one.count)
    lines = []
    for one in groups[:_FAILURES]:
        how = how_failed(one.cause, one.exit_code, one.signal, one.count)
        when = f", {'the last ' * (one.count > 1)}{ago(one.newest_at, board.clock)}" if one.newest_at else ""
        lines.append(Text.assemble((f"{one.count:>8,}", style("bold red")), f"  {how}{when}"))
        if one.message and one.message not in how:
            lines[-1].append(f": {plain(one.message)}")
    rest = failed - sum(one.count for one in groups[:_FAILURES])
    if rest > 0 and failed:
        lines.append(Text(f"{rest:>8,}  {'in other ways, or longer ago' if lines else 'longer ago than others'}"))
    return lines


def _tasks(tasks: Sequence[Task], now: float) -> list[Text]:
    lines = []
    for task in tasks:
        mark, look = TASK_MARKS[task.state]
        node = task.last.node if task.last is not None and task.state in TASK_FINAL else ""
        when = ago(task.last.recorded_at, now) if task.last is not None and task.state in TASK_FINAL else ""
        line = Text.assemble((mark, style(look)), f" {task.id:<8} {span(elapsed_s(task, now)):>7}")
        if task.state in TASK_FINAL:
            line.append(f"  {shorten(plain(ending(task)), _END):<{_END}} {when:>11}  {plain(node)}")
        words = " ".join(f"{name}={value[:_LONGEST]}" for name, value in task.params.items())
        line.append(f"  {even(plain(words or command_line(task)[:_LONGEST]))}", style=style("bright_black"))
        lines.append(line)
    return lines
