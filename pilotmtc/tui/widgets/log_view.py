"""A view of outputs: only what is in sight is drawn, however long they are."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from pilotmtc.text.numbers import count
from pilotmtc.tui.widgets.cells import style
from pilotmtc.tui.widgets.log_lines import Lines, coloured

_WRAPPED = 200_000  # more lines are not wrapped, because all would have to be measured
_MEASURED = 2_000  # lines at the end by which the width is judged
_PLAIN = Style()

Part = tuple[str, Lines]  # a heading and what stands below it


class Pages(ScrollView, can_focus=True):
    """The lines, with their numbers."""

    BINDINGS = [
        Binding("j,down", "scroll_down", "Down", show=False),
        Binding("k,up", "scroll_up", "Up", show=False),
        Binding("h", "scroll_left", "Left", show=False),
        Binding("l", "scroll_right", "Right", show=False),
        Binding("ctrl+d", "page_down", "Page down", show=False),
        Binding("ctrl+u", "page_up", "Page up", show=False),
        Binding("g", "scroll_home", "Beginning", show=False),
        Binding("G,end", "follow", "Follow the end"),
        Binding("slash", "search", "Find", key_display="/"),
        Binding("n", "next(False)", "Next", show=False),
        Binding("N", "next(True)", "Last", show=False),
        Binding("w", "wrap", "Wrap"),
    ]

    class Looked(Message):
        """Another part is in sight."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: Sequence[Part] = ()
        self.wrap = False
        self.follows = True
        self.unseen = 0  # lines that came while the reader was elsewhere
        self.wanted: re.Pattern[bytes] | None = None
        self._counted = 0
        self._drawn: list[tuple[str, int, int]] = []  # what was laid out: it is done again only for something new
        self._tops: list[int] = []  # the first row of each line, if lines are wrapped

    def show(self, parts: Sequence[Part], *, anew: bool, live: bool) -> None:
        """Show parts; `anew`: they are of something else than before; `live`: they grow."""
        drawn = [(heading, id(lines), len(lines.data)) for heading, lines in parts]
        if drawn == self._drawn and not anew:
            return
        self._drawn, self.parts = drawn, parts
        before, self._counted = self._counted, self._lines
        if anew:
            self.follows, self.unseen = live, 0
            self.scroll_to(0, 0, animate=False, immediate=True, force=True)
        elif not self.follows:
            self.unseen += max(self._counted - before, 0)
        self._measure()
        self._stay_at_end()

    @property
    def _lines(self) -> int:
        return sum(len(lines) + 1 for _, lines in self.parts)

    def _measure(self) -> None:
        width = max(self.size.width - self._gutter - 1, 10)
        if self.wrap and self._lines <= _WRAPPED:
            rows = [1 if at < 0 else -(-max(lines.width(at), 1) // width)
                    for _, lines in self.parts for at in range(-1, len(lines))]  # fmt: skip
            self._tops = [0, *accumulate(rows)]
            self.virtual_size = Size(0, self._tops[-1])
        else:
            self._tops = []
            ends = [(lines, at) for _, lines in self.parts for at in range(max(len(lines) - _MEASURED, 0), len(lines))]
            widest = max((lines.width(at) for lines, at in ends), default=0)
            self.virtual_size = Size(min(widest, 4000) + self._gutter + 1, self._lines)
        self.refresh()

    @property
    def _gutter(self) -> int:
        return len(str(max((len(lines) for _, lines in self.parts), default=0))) + 2

    def on_resize(self) -> None:
        """Adapt to the new size."""
        self._measure()
        self._stay_at_end()

    def _stay_at_end(self) -> None:
        """Go to the end if it is followed: now, and when what has changed is laid out."""
        if self.follows:
            self.scroll_end(animate=False, immediate=True, force=True)
            self.call_after_refresh(self._go_to_end)

    def _go_to_end(self) -> None:
        if self.follows:
            self.scroll_end(animate=False, immediate=True, force=True)
            # The bar may have come into sight only behind the move, of which it then knows nothing.
            self.vertical_scrollbar.position = round(self.scroll_y)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Stop following when the reader goes up, follow again at the end."""
        super().watch_scroll_y(old_value, new_value)
        at_end = self.scroll_target_y >= self.max_scroll_y
        if at_end:
            self.unseen = 0
        elif new_value < old_value:
            self.follows = False
        self.post_message(self.Looked())

    def action_follow(self) -> None:
        """Go to the end, and stay there."""
        self.follows, self.unseen = True, 0
        self.scroll_end(animate=False, immediate=True, force=True)
        self.post_message(self.Looked())

    def action_scroll_home(self) -> None:
        """Go to the beginning."""
        self.follows = False
        self.scroll_home(animate=False, immediate=True)

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them off."""
        self.wrap = not self.wrap
        if self.wrap and self._lines > _WRAPPED:
            self.notify(f"More than {_WRAPPED:,} lines are not wrapped.", severity="warning")
            self.wrap = False
        self._measure()

    def action_search(self) -> None:
        """Ask what to find."""
        view = self.parent
        assert isinstance(view, LogView)
        view.ask()

    def action_next(self, back: bool) -> None:
        """Go to the next line that was searched for, or to the one before."""
        if self.wanted is None:
            self.action_search()
            return
        row = int(self.scroll_offset.y)
        here, at = self._line_of(row)[:2]
        order = range(here, -1, -1) if back else range(here, len(self.parts))
        for index in order:
            lines = self.parts[index][1]
            since = at if index == here else (len(lines) if back else -1)
            found = lines.find(self.wanted, since, back=back)
            if found is not None:
                before = sum(len(others) + 1 for _, others in self.parts[:index])
                line = before + 1 + found
                self.follows = False
                self.scroll_to(y=self._tops[line] if self._tops else line, animate=False, immediate=True, force=True)
                self.refresh()
                return
        self.notify(f"{'Nothing before' if back else 'Nothing after'} this line.", severity="warning", timeout=3)

    def _line_of(self, row: int) -> tuple[int, int, int]:
        """Return the part, the number of the line in it (-1: its heading), and which row of the line it is."""
        line, extra = row, 0
        if self._tops:
            line = bisect_right(self._tops, row) - 1
            extra = row - self._tops[line]
        for index, (_, lines) in enumerate(self.parts):
            if line <= len(lines):
                return index, line - 1, extra
            line -= len(lines) + 1
        return len(self.parts), -1, 0

    def render_line(self, y: int) -> Strip:
        """Draw a row."""
        left, top = self.scroll_offset
        width = self.size.width
        index, at, extra = self._line_of(top + y)
        base = self.rich_style
        if index >= len(self.parts):
            return Strip.blank(width, base)
        heading, lines = self.parts[index]
        if at < 0:
            text = Text(heading, style=style("bold"), no_wrap=True, end="")
            text.truncate(width, overflow="ellipsis")
        else:
            text = coloured(lines.raw(at))
            if self.wanted is not None:
                text.highlight_regex(re.compile(self.wanted.pattern.decode(), re.IGNORECASE), "reverse")
            room = max(width - self._gutter - 1, 10)
            begin = extra * room if self._tops else left
            text = text[begin : begin + room]
            number = f"{at + 1}" if not extra else ""
            text = Text(f"{number:>{self._gutter - 1}} ", style=style("bright_black"), end="").append_text(text)
        console = self.app.console
        segments = [Segment(one.text, base + (one.style or _PLAIN)) for one in text.render(console)]
        return Strip(segments).adjust_cell_length(width, base)


class _Search(Input):
    BINDINGS = [Binding("escape", "leave", "Back", show=False)]

    def action_leave(self) -> None:
        """Search for nothing."""
        view = self.parent
        assert isinstance(view, LogView)
        view.found("")


class LogView(Vertical):
    """A view of outputs, with a title that says whether it follows the end, and a line to search."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id)
        self._title = ""
        self._shown: object = None
        self._live = False

    def compose(self) -> ComposeResult:
        """Compose the parts."""
        yield Static(classes="log-title", markup=False)
        yield Pages()
        yield _Search(placeholder="find; Enter, then n and N", compact=True, select_on_focus=True)

    def on_mount(self) -> None:
        """Show nothing to search yet."""
        self.query_one(_Search).display = False

    def show(self, title: str, parts: Sequence[Part], what: object, *, live: bool = False) -> None:
        """Show `parts`, which belong to `what`: if that is another one than before, from the beginning."""
        self._title, self._live = title, live
        self.query_one(Pages).show(parts, anew=what != self._shown, live=live)
        self._shown = what
        self.on_pages_looked()

    def begin(self) -> None:
        """Take the focus."""
        self.query_one(Pages).focus()

    def on_pages_looked(self) -> None:
        """Say whether the end is followed."""
        pages = self.query_one(Pages)
        more = f"  paused, +{count(pages.unseen, 'line')}: End" if pages.unseen else ""
        badge = "  ● follows" if self._live and pages.follows else more
        self.query_one(".log-title", Static).update(f"{self._title}{badge}")

    def ask(self) -> None:
        """Ask what to find."""
        line = self.query_one(_Search)
        line.display = True
        self.screen.set_focus(line)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Find it."""
        event.stop()
        self.found(event.value)

    def found(self, text: str) -> None:
        """Go to the first line with `text`; search for nothing if it is empty."""
        pages = self.query_one(Pages)
        self.query_one(_Search).display = False
        pages.wanted = re.compile(re.escape(text).encode(), re.IGNORECASE) if text else None
        self.screen.set_focus(pages)
        pages.refresh()
        if text:
            pages.action_next(False)
