"""The app: its screens, its connection, and the board that all screens read."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from typing import Any

from rich.terminal_theme import TerminalTheme
from textual.app import SuspendNotSupported, SystemCommand
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen

from pilotmtc.errors import LoginRefused, PilotMTCError, UsageError
from pilotmtc.text.plain import plain_text
from pilotmtc.tui.base import Base, start_work
from pilotmtc.tui.gateway import Answers, Gateway
from pilotmtc.tui.pager import pager_command, run_pager
from pilotmtc.tui.program import Program
from pilotmtc.tui.screens.campaign import CampaignScreen
from pilotmtc.tui.screens.overview import OverviewScreen
from pilotmtc.tui.screens.pilot import PilotScreen
from pilotmtc.tui.screens.report import ReportScreen
from pilotmtc.tui.screens.task import TaskScreen
from pilotmtc.tui.screens.tasks import TasksScreen
from pilotmtc.tui.widgets.command_line import Command, CommandLine, parse_command
from pilotmtc.tui.widgets.palette import OWN_VARIABLES, terminal_theme, variables_of
from pilotmtc.tui.widgets.windows.dialogs import Form
from pilotmtc.tui.widgets.windows.key_list import KeysWindow, own_bindings
from pilotmtc.tui.widgets.windows.notice_list import KEPT, NoticesWindow, Said

_SPAN_S = 1800.0  # the length of the past in the plots
_HELD_S = 20.0  # how long the server may wait for something new
_PAUSE_S = 1.0  # between two answers
_AGAIN_S = 60.0  # after an error other than of the connection


class Question(Message):
    """The login asks the user a question."""

    def __init__(self, prompts: Sequence[str], seen: Sequence[bool], answers: Answers) -> None:
        super().__init__()
        self.prompts = prompts
        self.seen = seen
        self.answers = answers


class QuestionOver(Message):
    """A question was answered, or can no longer be answered."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form


class MtcApp(Program):
    """The app of ``pilotmtc tui``."""

    TITLE = "pilotmtc"
    CSS_PATH = "pilotmtc.tcss"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS = [
        Binding("question_mark", "keys", "Keys", key_display="?"),
        Binding("colon", "command", "Go to", key_display=":"),
        Binding("exclamation_mark", "notices", "Notices so far", key_display="!", show=False),
        Binding("ctrl+r", "reconnect", "Connect again", show=False),
        Binding("ctrl+t", "light_or_dark", "Light or dark", show=False),
    ]

    def __init__(self, gateway: Gateway) -> None:
        self._cell_colours: dict[tuple[str, bool], TerminalTheme] = {}
        super().__init__(gateway)
        self._is_open = False
        self._again = asyncio.Event()
        self.said: list[Said] = []

    def notify(self, message: str, *, title: str = "", **more: Any) -> None:
        """Show a notification, which may quote a task, a file's name or another host, and keep it in mind."""
        said = Said(time.time(), plain_text(title), plain_text(message), more.get("severity", "information"))
        self.said = [*self.said[1 - KEPT :], said]
        super().notify(said.text, title=said.title, **more)

    def on_mount(self) -> None:
        """Start."""
        self._refresh_truecolor_filter(self.ansi_theme)
        self.push_screen(OverviewScreen())
        self.set_interval(1.0, self._show_status)
        start_work(self, self._watch, "watch")

    def get_css_variables(self) -> dict[str, str]:
        """Return the theme's variables, with texts that can be read."""
        variables = super().get_css_variables()
        if not self.current_theme.ansi:
            variables = variables_of(variables, dark=self.current_theme.dark)
        self.theme_variables = {**OWN_VARIABLES, **variables}
        return self.theme_variables

    @property
    def ansi_theme(self) -> TerminalTheme:
        """What names of colours in cells mean."""
        if self.current_theme.ansi:
            return super().ansi_theme
        key = self.current_theme.name, self.console.color_system in ("standard", "windows")
        if key not in self._cell_colours:  # widgets ask for it whenever they draw
            colours = terminal_theme(self.get_css_variables(), dark=self.current_theme.dark, few=key[1])
            self._cell_colours[key] = colours
        return self._cell_colours[key]

    def on_unmount(self) -> None:
        """Disconnect from the store."""
        self.gateway.close()

    # -- the store --------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Keep the board up to date while the app runs."""
        while True:
            self._again.clear()  # before `_wait_after`: the user may press the key as soon as the trouble is shown
            try:
                await self._look()
            except PilotMTCError as error:
                await self._wait_after(error)
            else:
                self.trouble = ""
                await asyncio.sleep(_PAUSE_S)

    async def _wait_after(self, error: PilotMTCError) -> None:
        """Show what is wrong, and wait until it is time to try again."""
        self.trouble = f"{error} (Ctrl-R tries again)"
        self._show_status()
        refused = isinstance(error, LoginRefused)
        # A refused login is not repeated automatically, because that can lock the account.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._again.wait(), None if refused else _AGAIN_S)
        if refused:
            self._is_open = False
            self.trouble = "logging in"
            self._show_status()

    async def _look(self) -> None:
        if not self._is_open:
            await self.gateway.open(self._question)
            self._is_open = True
            self._show_status()
        since = self.board.seq
        news = await self.gateway.do(
            lambda session: session.overview(since, span_s=_SPAN_S, wait_s=_HELD_S if since else 0.0)
        )
        self.board.take(news)
        self.heard_at = time.monotonic()
        if isinstance(self.screen, Base):
            self.screen.take_news()

    def _question(self, prompts: Sequence[str], seen: Sequence[bool], answers: Answers) -> None:
        self.post_message(Question(prompts, seen, answers))

    def on_question(self, message: Question) -> None:
        """Ask the user."""

        def answered(texts: list[str] | None) -> None:
            with contextlib.suppress(InvalidStateError):  # the time is up
                if texts is None:
                    message.answers.set_exception(LoginRefused("the login was given up"))
                else:
                    message.answers.set_result(texts)

        *introduction, _ = [*message.prompts[0].splitlines(), ""][:-1] or [""]
        labels = [prompt.splitlines()[-1] if prompt.strip() else "Answer:" for prompt in message.prompts]
        form = Form(
            "\n".join(["The store's host asks:", *introduction]),
            [(label, "") for label in labels],
            hidden=[not one for one in message.seen],
        )
        self.push_screen(form, answered)
        # After a timeout, or if the connection has ended, the answer is of no use.
        message.answers.add_done_callback(lambda _: self.post_message(QuestionOver(form)))

    def on_question_over(self, message: QuestionOver) -> None:
        """Remove a question that was not answered."""
        if message.form is self.screen:
            message.form.dismiss(None)

    def _show_status(self) -> None:
        for screen in reversed(self.screen_stack):  # other dialogs may be on top of it
            if isinstance(screen, Base):
                screen.show_status()
                break

    # -- screens ----------------------------------------------------------------------------------------------

    def open_tasks(self, filter_: str, *, write: bool = False) -> None:
        """Show the tasks of a filter, which the user goes on to `write`."""
        self.push_screen(TasksScreen(filter_, write=write))

    def open_task(self, task: int) -> None:
        """Show one task."""
        self.push_screen(TaskScreen(task))

    def open_pilot(self, pilot: int) -> None:
        """Show one pilot."""
        self.push_screen(PilotScreen(pilot))

    def open_campaign(self, campaign: int) -> None:
        """Show one campaign."""
        self.push_screen(CampaignScreen(campaign))

    def open_report(self, campaign: int) -> None:
        """Show the report on one campaign."""
        self.push_screen(ReportScreen(campaign))

    def page(self, files: Sequence[str]) -> None:
        """Show files in the user's pager, which uses the terminal meanwhile."""
        try:
            command = pager_command(os.environ)
            with self.suspend():
                trouble = run_pager(command, files)
        except UsageError as error:
            trouble = str(error)
        except SuspendNotSupported:
            trouble = "There is no terminal for a pager here."
        if trouble:
            self.notify(trouble, title="No pager", severity="error", markup=False)

    # -- keys -------------------------------------------------------------------------------------------------

    def action_keys(self) -> None:
        """Show a list of all keys."""
        self.push_screen(KeysWindow(self.screen))

    def action_command(self) -> None:
        """Ask for a command, and do it."""

        def answered(line: str | None) -> None:
            if not line or not line.strip():
                return
            try:
                command = parse_command(line, {one.id: one.name for one in self.board.campaigns.values()})
            except UsageError as error:
                self.notify(str(error), title="No command", severity="error", markup=False)
                return
            self._go(command)

        self.push_screen(CommandLine(), answered)

    def _go(self, command: Command) -> None:
        match command.verb:
            case "task":
                self.open_task(command.number)
            case "tasks":
                self.open_tasks(command.text)
            case "campaign":
                self.open_campaign(command.number)
            case "pilot":
                self.open_pilot(command.number)
            case "overview":
                while not isinstance(self.screen, OverviewScreen):
                    self.pop_screen()
            case _:
                self.exit()

    def action_notices(self) -> None:
        """Show all notifications so far."""
        self.push_screen(NoticesWindow(self.said))

    def action_reconnect(self) -> None:
        """Try to connect again at once."""
        self._again.set()

    def action_light_or_dark(self) -> None:
        """Switch between light and dark."""
        self.theme = "textual-dark" if self.theme == "textual-light" else "textual-light"

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield the actions of the screen's keys for the command palette."""
        seen: set[str] = set()
        for active in own_bindings(screen):
            if (action := active.binding.action) not in seen:
                seen.add(action)
                key = self.get_key_display(active.binding)
                yield SystemCommand(active.binding.description, f"key {key}", self._runner(action))

    def _runner(self, action: str) -> Callable[[], None]:
        def run() -> None:
            target = self.screen.focused or self.screen
            self.call_later(self.run_action, action, target)

        return run
