"""The screen of a campaign: how far it is, when it ends, how long its tasks take, what failed, what runs."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize

from pilotmtc.tui.actions.near import NearLook
from pilotmtc.tui.widgets.campaign_pane import CampaignPane

_TICK_S = 1.0


class CampaignScreen(NearLook, inherit_bindings=False):
    """The screen of a campaign."""

    HELP = """
    # A campaign

    How far it is, when it will end, how long its tasks take, what failed, what runs and what has ended last. **t**
    opens its tasks, **f** those that failed, **s** its report. **ENDS IN** is the time for the rest at the current
    rate; what stands behind it in parentheses is how much that may vary with the durations of tasks. Where two
    parameters have few values there is a map of the tasks over both; **m** shows durations there in place of states.
    """
    WITH_GRID = True
    BINDINGS = [
        Binding("escape", "back", "Back"),
        Binding("q", "back", "Back", show=False),
        Binding("t,enter", "campaign_tasks", "Tasks"),
        Binding("f", "failed", "Failed tasks"),
        Binding("s", "report", "Report"),
        Binding("m", "map", "Map: durations or states", show=False),
        Binding("H", "hold_campaign", "Hold"),
        Binding("c", "cancel_campaign", "Cancel"),
        Binding("r", "retry_campaign", "Retry failed"),
    ]

    def __init__(self, campaign: int) -> None:
        super().__init__()
        self._number = campaign

    def body(self) -> ComposeResult:
        """Compose the pane."""
        yield CampaignPane(id="campaign")

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return f"campaign {self._number}"

    def on_mount(self) -> None:
        """Let keys scroll it, and begin."""
        self.query_one("#campaign").focus()
        self.set_interval(_TICK_S, self._tick)

    def on_resize(self, _event: Resize) -> None:
        """Use the new width."""
        self.call_after_refresh(self.take_news)

    def on_board(self) -> None:
        """Draw the new numbers."""
        self.look_near("campaign", self._number)

    def on_screen_resume(self) -> None:
        """Update the clock after time in the background; `Base` draws."""
        self.set_clock()

    def _tick(self) -> None:
        """Update ages and remaining times."""
        if self.is_current and self._drawable and self.set_clock():
            self.look_near("campaign", self._number)

    def campaign_key(self) -> int | None:
        """Return this campaign."""
        return self._number

    def action_map(self) -> None:
        """Show durations on the map, or states again."""
        self.query_one(CampaignPane).turn_map()

    def action_failed(self) -> None:
        """Show the tasks that failed."""
        self.mtc.open_tasks(f"state:failed campaign:{self._number}")
