"""What all screens have: a line that says where one is and how old it is, the keys, and how work is started."""

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Static

from pilotmtc.errors import PilotMTCError
from pilotmtc.session.look.overview import Board
from pilotmtc.tui.program import Program
from pilotmtc.tui.widgets.words import span

_WIDE = 100  # columns from which on there is room for words and longer bars
_STALE_S = 30.0  # the server answers earlier than that if there is a link, news or not


class StatusBar(Static):
    """The first line: where, whether connected, and of when the data are. What is wrong stands below it."""

    def show(self, url: str, trouble: str, age_s: float | None, place: str) -> None:
        """Draw it."""
        dead = bool(trouble) or (age_s is not None and age_s > _STALE_S)
        of = "no data yet" if age_s is None else f"data of {span(age_s)} ago"
        if dead:
            link = Text(f"○ NO LINK, {of}", style="bold reverse")
        else:
            link = Text("● live" if age_s is not None else "◌ connecting", style="bold")
        where = url.partition("?")[0]  # without how to get there
        line = Text.assemble((place, "bold"), "  ", link, "  ", (where, "dim"))
        width = self.size.width or self.app.size.width - 2  # it is not laid out yet: the screen without the blanks
        line.truncate(max(width, 1), overflow="ellipsis")
        if dead and not trouble:
            trouble = "The store's server does not answer. It is asked again; what is shown may be old."
        if trouble:
            line.append(f"\n{' '.join(trouble.split())}")
        self.set_class(dead, "-dead")
        self.update(line)


class Base(Screen[None]):
    """A screen of the program."""

    PLACE = ""
    _look_again = False

    def compose(self) -> ComposeResult:
        """Make the frame, and in it `body`."""
        yield StatusBar(id="status")
        yield from self.body()
        yield Footer(show_command_palette=False)

    def body(self) -> ComposeResult:
        """Make what is this screen's own."""
        yield from ()

    @property
    def mtc(self) -> Program:
        """The program."""
        return cast("Program", self.app)

    @property
    def wide(self) -> bool:
        """Whether there is room for words and longer bars."""
        return self.size.width >= _WIDE

    @property
    def board(self) -> Board:
        """What is known of the store at a glance."""
        return self.mtc.board

    @property
    def now(self) -> float:
        """The store's clock now."""
        heard = self.mtc.heard_at
        return self.board.now + (0.0 if heard is None else monotonic() - heard)

    @property
    def place(self) -> str:
        """What the first line says of where one is."""
        return self.PLACE

    def on_screen_resume(self) -> None:
        """Catch up with what was missed in the background."""
        self.take_news()

    def take_news(self) -> None:
        """Draw what is new."""
        if self._drawable:
            self.show_status()
            self.on_board()

    @property
    def _drawable(self) -> bool:
        """Whether there is something to draw on: when the screen comes or goes there is not."""
        return self.is_mounted and bool(self.query(StatusBar))

    def on_board(self) -> None:
        """Draw what has changed: there is news on the board. Called only while this screen is the topmost."""

    def show_status(self) -> None:
        """Draw the first line."""
        heard = self.mtc.heard_at
        age_s = None if heard is None else monotonic() - heard
        gateway = self.mtc.gateway
        for bar in self.query(StatusBar):
            bar.show(gateway.url, self.mtc.trouble or gateway.trouble, age_s, self.place)

    def tell_if_cut(self) -> None:
        """Say that what was just ordered has to wait, if there is no link."""
        if self.mtc.gateway.trouble:
            self.notify("There is no link now: this is done as soon as there is one.", severity="warning")

    def begin(self, work: Coroutine[Any, Any, None], group: str = "default") -> None:
        """Do `work` beside the screen; what was begun in the same group before is given up. Errors are shown."""
        self.run_worker(self._told(work), group=group, exclusive=True)

    def look(self, work: Callable[[], Coroutine[Any, Any, None]], *, news: bool = False) -> None:
        """Do `work` beside the screen, but not while it is being done: a slow link is not asked ever more.

        With `news` it is then done once more: what is being fetched may be older than the news.
        """
        if any(worker.group == "look" and worker.is_running for worker in self.workers):
            self._look_again |= news
        else:
            self.run_worker(self._told(self._looked(work)), group="look")

    async def _looked(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._look_again = True
        while self._look_again:
            self._look_again = False
            await work()

    async def _told(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except PilotMTCError as error:
            self.notify(str(error), title="That did not work", severity="error", timeout=15, markup=False)
        except NoMatches:
            if self._drawable:
                raise
            # The screen goes, and its widgets went first.
