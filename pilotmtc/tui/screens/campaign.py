"""The screen of a campaign: how far it is, when it ends, how long its tasks take, what failed, what runs."""

from time import monotonic

from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign
from pilotmtc.session.look.campaign import CampaignView
from pilotmtc.text.numbers import sentence
from pilotmtc.tui.actions.campaigns import CampaignActions
from pilotmtc.tui.widgets.campaign_pane import CampaignPane

_TICK_S = 1.0
_EVERY_S = 5.0  # between two requests, at least
_SHARE = 25  # a slow request is followed by a pause of so many times its duration


class CampaignScreen(CampaignActions, inherit_bindings=False):
    """The screen of a campaign."""

    HELP = """
    # A campaign

    How far it is, when it will end, how long its tasks take, what failed, what runs and what has ended last. **t**
    opens its tasks, **f** those that failed, **s** its report. **ENDS IN** is the time for the rest at the current
    rate; what stands behind it in parentheses is how much that may vary with the durations of tasks.
    """
    BINDINGS = [
        Binding("escape", "back", "Back"),
        Binding("q", "back", "Back", show=False),
        Binding("t,enter", "campaign_tasks", "Tasks"),
        Binding("f", "failed", "Failed tasks"),
        Binding("s", "report", "Report"),
        Binding("H", "hold_campaign", "Hold"),
        Binding("c", "cancel_campaign", "Cancel"),
        Binding("r", "retry_campaign", "Retry failed"),
    ]

    def __init__(self, campaign: int) -> None:
        super().__init__()
        self._number = campaign
        self._view: CampaignView | None = None
        self._seen: Campaign | None = None  # as it was when the view was read
        self._next_at = 0.0  # when the view may be read again, by the monotonic clock

    def body(self) -> ComposeResult:
        """Compose the pane."""
        yield CampaignPane(id="campaign")

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return f"campaign {self._number}"

    @property
    def _record(self) -> Campaign | None:
        return self.board.campaigns.get(self._number)

    def on_mount(self) -> None:
        """Let keys scroll it, and begin."""
        self.query_one("#campaign").focus()
        self.set_interval(_TICK_S, self._tick)

    def on_resize(self, _event: Resize) -> None:
        """Use the new width."""
        self.call_after_refresh(self.take_news)

    def on_board(self) -> None:
        """Draw the new numbers; what is seen from near is read again at most every few seconds."""
        self._show()
        self._read_if_due()

    def on_screen_resume(self) -> None:
        """Update the clock after time in the background; `Base` draws."""
        self.set_clock()

    def _tick(self) -> None:
        """Update ages and remaining times."""
        if self.is_current and self._drawable and self.set_clock():
            self._show()
            self._read_if_due()

    def changed(self) -> None:
        """Look again: something was done."""
        self._next_at = 0.0

    def _read_if_due(self) -> None:
        record = self._record
        if monotonic() >= self._next_at and (self._view is None or record is None or record != self._seen):
            self.look(self._read)

    async def _read(self) -> None:
        number, began = self._number, monotonic()
        self._next_at = began + _EVERY_S
        seen = self._record
        try:
            self._view = await self.mtc.gateway.do(lambda session: session.campaign_view(number))
        except UsageError as error:
            self.query_one(CampaignPane).say(sentence(str(error)))
            self._next_at = float("inf")
            return
        self._seen = seen
        self._next_at = max(self._next_at, monotonic() + _SHARE * (monotonic() - began))
        self._show()

    def _show(self) -> None:
        if self._drawable and (record := self._record) is not None:
            self.query_one(CampaignPane).show(record, self.board, self._view)

    def campaign_key(self) -> int | None:
        """Return this campaign."""
        return self._number

    def action_failed(self) -> None:
        """Show the tasks that failed."""
        self.mtc.open_tasks(f"state:failed campaign:{self._number}")
