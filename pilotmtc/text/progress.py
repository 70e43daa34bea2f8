"""Progress of a campaign: a bar on a terminal, otherwise a line now and then."""

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from pilotmtc.text.terminal import has_colour, screen_width, tell
from pilotmtc.units import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from pilotmtc.model import Campaign

_REFRESH_S = 0.1
_LINE_EVERY_S = 5.0
_SAME_LINE_EVERY_S = 60.0
_WINDOW_S = 15.0  # the time over which the rate is measured
_FOR_CONTROL_C = 4


class Rate:
    """How many tasks have ended per second recently."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, now: float, over: int) -> None:
        """Note that `over` tasks have finished at `now`."""
        if self._points and over < self._points[-1][1]:
            self._points.clear()  # some were retried
        self._points.append((now, over))
        while len(self._points) > 2 and self._points[1][0] < now - _WINDOW_S:
            self._points.popleft()

    @property
    def per_s(self) -> float:
        """Tasks per second."""
        if len(self._points) < 2:
            return 0.0
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0


class Tally:
    """A campaign's counts as users see them."""

    def __init__(self, campaign: "Campaign") -> None:
        counts = {state.name: n for state, n in campaign.counts.items()}
        self.total = campaign.received
        self.sealed = campaign.sealed
        self.done = counts.get("DONE", 0)
        self.failed = counts.get("FAILED", 0)
        self.canceled = counts.get("CANCELED", 0)
        self.skipped = counts.get("SKIPPED", 0)
        self.running = counts.get("RUNNING", 0)
        self.over = self.done + self.failed + self.canceled + self.skipped

    @property
    def bad(self) -> int:
        """How many tasks did not succeed."""
        return self.failed + self.canceled + self.skipped

    @property
    def complete(self) -> bool:
        """Whether every task of the whole campaign has run to an end."""
        return self.sealed and self.over == self.total and not self.canceled

    def words(self, *, left: bool = False) -> str:
        """Return text such as ``997 done, 3 failed``; with `left`, also how many have not finished."""
        parts = [f"{self.done:,} done"]
        for n, word in ((self.failed, "failed"), (self.skipped, "skipped"), (self.canceled, "canceled")):
            if n:
                parts.append(f"{n:,} {word}")
        if left:
            for n, word in ((self.running, "running"), (self.total - self.over - self.running, "to run")):
                if n:
                    parts.append(f"{n:,} {word}")
        return ", ".join(parts)


class Progress:
    """Shows progress on stderr.

    Parameters
    ----------
    total
        The final number of tasks, if known.
    quiet
        Show nothing.
    shared
        Others write to the same terminal, who know nothing of a bar: what they write is put above it.
    """

    def __init__(self, total: int | None = None, *, quiet: bool = False, shared: bool = False) -> None:
        self._shared = shared
        self._total = total
        self._quiet = quiet
        self._rate = Rate()
        self._bar: Bar | None = None
        self._id: TaskID | None = None
        self._shown_at = time.monotonic()
        self._live = not quiet and screen_width(sys.stderr) is not None
        self._shown = -1
        self._up = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_error: object) -> None:
        self.hide()

    def hide(self) -> None:
        """Remove the bar, so that something else can be written."""
        if self._bar is not None and self._up:
            self._bar.stop()
            self._up = False

    def show(self, campaign: "Campaign") -> None:
        """Show the progress of `campaign`."""
        if self._quiet:
            return
        now = time.monotonic()
        tally = Tally(campaign)
        self._rate.add(now, tally.over)
        if self._live:
            if self._bar is None or not self._up or now - self._shown_at >= _REFRESH_S:
                self._shown_at = now
                self._draw(tally)
        elif now - self._shown_at >= (_LINE_EVERY_S if tally.over != self._shown else _SAME_LINE_EVERY_S):
            self._shown_at = now
            self._shown = tally.over
            tell(f"pilotmtc: {self._line(tally)}")

    def line(self, campaign: "Campaign") -> str:
        """Return the progress of `campaign` as a line of text, for who shows it in another place."""
        tally = Tally(campaign)
        self._rate.add(time.monotonic(), tally.over)
        return self._line(tally)

    def _line(self, tally: Tally) -> str:
        return f"{tally.over:,}/{self._of(tally)} finished: {', '.join([tally.words(), *self._speed(tally)])}"

    def _of(self, tally: Tally) -> str:
        known = tally.sealed or self._total is not None
        return f"{max(tally.total, self._total or 0):,}" if known else f"{tally.total:,}+"

    def _speed(self, tally: Tally) -> list[str]:
        rate = self._rate.per_s
        if not rate:
            return []
        words = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s" if rate >= 0.1 else f"{rate * 60:.2g}/min"]
        if tally.sealed or self._total is not None:
            words.append(f"{format_duration((max(tally.total, self._total or 0) - tally.over) / rate)} left")
        return words

    def _draw(self, tally: Tally) -> None:
        if self._bar is None:
            self._bar, self._id = _make_bar(shared=self._shared)
        assert self._id is not None
        known = tally.sealed or self._total is not None
        facts = []
        if tally.bad:
            facts.append(f"[red]{tally.bad:,} failed[/red]" if has_colour(sys.stderr) else f"{tally.bad:,} failed")
        facts += self._speed(tally)
        self._bar.update(
            self._id,
            completed=tally.over,
            total=max(tally.total, self._total or 0) if known else None,
            facts="  ".join(facts),
            of=f"{tally.over:,}/{self._of(tally)}",
        )
        # A terminal writes ^C after the bar. That must not start a new line, or the bar could not be removed.
        self._bar.console.width = max(10, (screen_width(sys.stderr) or 80) - _FOR_CONTROL_C)
        if not self._up:
            self._bar.start()
            self._up = True
        self._bar.refresh()


def _make_bar(*, shared: bool) -> "tuple[Bar, TaskID]":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(stderr=True, no_color=not has_colour(sys.stderr), highlight=False)
    bar_width = max(5, min(40, console.width // 3))
    bar = Bar(
        BarColumn(bar_width=bar_width),
        TextColumn("{task.fields[of]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[facts]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=shared,
        redirect_stderr=shared,
        expand=True,
    )
    return bar, bar.add_task("", total=None, facts="", of="")
