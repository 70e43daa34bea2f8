"""The base of all screens: the status line, the keys, and how work is started."""

from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker

from pilotmtc.errors import PilotMTCError
from pilotmtc.session.look.overview import Board
from pilotmtc.text.numbers import span
from pilotmtc.tui.program import Program
from pilotmtc.tui.widgets.cells import style
from pilotmtc.tui.widgets.key_bar import KeyBar

Work = Callable[[], Coroutine[Any, Any, None]]

_WIDE = 100  # from this number of columns on, there is room for words and longer bars
_STALE_S = 30.0  # if there is a connection, the server answers earlier than that


def start_work(node: DOMNode, work: Work, group: str = "default", *, exclusive: bool = False) -> None:
    """Run `work` in the background for as long as `node` is there.

    It is called when it begins, so that what is canceled before leaves no coroutine behind that was never awaited.
    """
    _: Worker[None] = node.run_worker(work, group=group, exclusive=exclusive)


class StatusBar(Static):
    """The first line: place, connection and age of the data; below it, what is wrong."""

    def show(self, url: str, trouble: str, age_s: float | None, place: str) -> None:
        """Draw it."""
        dead = bool(trouble) or (age_s is not None and age_s > _STALE_S)
        of = "no data yet" if age_s is None else f"data of {span(age_s)} ago"
        if dead:
            link = Text(f"○ NO LINK, {of}", style="bold reverse")
        else:
            link = Text("● live" if age_s is not None else "◌ connecting", style="bold")
        where = url.partition("?")[0]  # without the options of the URL
        line = Text.assemble((place, "bold"), "  ", link, "  ", (where, style("bright_black")))
        width = self.size.width or self.app.size.width - 2  # before the layout: the screen's width without padding
        line.truncate(max(width, 1), overflow="ellipsis")
        if dead and not trouble:
            trouble = "The store's server does not answer. It is asked again; what is shown may be old."
        if trouble:
            line.append(f"\n{' '.join(trouble.split())}")
        self.set_class(dead, "-dead")
        self.update(line)


class Base(Screen[None]):
    """A screen of the app."""

    BINDINGS = [
        Binding("escape", "back", "Back"),
        Binding("q", "back", "Back", show=False),
    ]
    PLACE = ""
    _look_again = False

    def compose(self) -> ComposeResult:
        """Compose the frame with `body` in it."""
        yield StatusBar(id="status")
        yield from self.body()
        yield KeyBar(id="keys")

    def body(self) -> ComposeResult:
        """Compose the screen's own widgets."""
        yield from ()

    @property
    def mtc(self) -> Program:
        """The app."""
        return cast("Program", self.app)

    @property
    def wide(self) -> bool:
        """Whether there is room for words and longer bars."""
        return self.size.width >= _WIDE

    @property
    def board(self) -> Board:
        """The overview of the store."""
        return self.mtc.board

    @property
    def now(self) -> float:
        """The time on the store's host now."""
        heard = self.mtc.heard_at
        return self.board.now + (0.0 if heard is None else monotonic() - heard)

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return self.PLACE

    def action_back(self) -> None:
        """Go back to the screen before."""
        if self.is_current and len(self.app.screen_stack) > 2:  # below the overview is Textual's own empty screen
            self.app.pop_screen()

    def on_screen_resume(self) -> None:
        """Show what was missed in the background."""
        self.take_news()

    def take_news(self) -> None:
        """Draw after an update of the board."""
        if self._drawable:
            self.show_status()
            self.on_board()

    @property
    def _drawable(self) -> bool:
        """Whether widgets exist to draw on, which is not so while the screen appears or disappears."""
        return self.is_mounted and bool(self.query(StatusBar))

    def on_board(self) -> None:
        """Draw after an update of the board. Called only while this screen is on top."""

    def show_status(self) -> None:
        """Draw the first line."""
        heard = self.mtc.heard_at
        age_s = None if heard is None else monotonic() - heard
        gateway = self.mtc.gateway
        for bar in self.query(StatusBar):
            bar.show(gateway.url, self.mtc.trouble or gateway.trouble, age_s, self.place)

    def set_clock(self) -> bool:
        """Tell the board its age; return whether its time has advanced."""
        heard = self.mtc.heard_at
        if heard is None or (age_s := monotonic() - heard) >= _STALE_S:
            return False  # the connection has gone: ages stop growing
        self.board.age_s = float(round(age_s))  # less than a second is not visible
        return True

    def tell_if_cut(self) -> None:
        """If there is no connection, tell the user that the action has to wait."""
        if self.mtc.gateway.trouble:
            self.notify("There is no link now: this is done as soon as there is one.", severity="warning")

    def begin(self, work: Work, group: str = "default") -> None:
        """Run `work` in the background, and cancel earlier work of the same group. Errors are shown."""
        start_work(self, partial(self._told, work), group, exclusive=True)

    def begin_for_all(self, work: Work) -> None:
        """Run `work` in the background until it is done, whatever screen is shown by then. Errors are shown."""
        start_work(self.app, partial(self._told, work))

    def look(self, work: Work, *, news: bool = False) -> None:
        """Run `work` in the background unless it is running: requests must not pile up on a slow connection.

        With `news`, it then runs once more, because the data on its way may be older than the news.
        """
        if any(worker.group == "look" and worker.is_running for worker in self.workers):
            self._look_again |= news
        else:
            self.begin(partial(self._looked, work), "look")

    async def _looked(self, work: Work) -> None:
        self._look_again = True
        while self._look_again:
            self._look_again = False
            await work()

    async def _told(self, work: Work) -> None:
        try:
            await work()
        except PilotMTCError as error:
            self.notify(str(error), title="That did not work", severity="error", timeout=15, markup=False)
        except NoMatches:
            if self._drawable:
                raise
            # The screen is being removed; its widgets went first.
