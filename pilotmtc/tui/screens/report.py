"""The summary of a campaign's report."""

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from pilotmtc.model import Campaign
from pilotmtc.report.records import Summary
from pilotmtc.report.show.text import lines
from pilotmtc.text.campaigns import steering_rows
from pilotmtc.text.tables import pairs
from pilotmtc.tui.base import Base
from pilotmtc.tui.widgets.cells import has_colours

_MARGIN = 4  # columns, with the scroll bar


class ReportScreen(Base):
    """Where the time of a campaign went, and what to ask for next time."""

    HELP = """
    # A report

    What holds a campaign back, where its time went, and what to ask for next time, as `pilotmtc report` prints it. It
    is read when the screen is opened, and again with **r**. `pilotmtc report --html FILE` has a chart of all slots
    besides.
    """
    BINDINGS = [Binding("r", "read", "Read again")]

    def __init__(self, campaign: int) -> None:
        super().__init__()
        self._campaign = campaign
        self._summary: Summary | None = None
        self._record: Campaign | None = None

    def body(self) -> ComposeResult:
        """Compose the text."""
        with VerticalScroll(id="report"):
            yield Static("reading all attempts...", id="report-text", markup=False)

    @property
    def place(self) -> str:
        """The name of this screen in the first line."""
        return f"report on campaign {self._campaign}"

    def on_mount(self) -> None:
        """Read the report, and let keys scroll it."""
        self.query_one("#report").focus()
        self.action_read()

    def on_resize(self, _event: Resize) -> None:
        """Fit the text to the new width."""
        self._show()

    def action_read(self) -> None:
        """Read the report from the store."""
        self.begin(self._read, group="report")

    async def _read(self) -> None:
        number = self._campaign
        self._record = await self.mtc.gateway.do(lambda session: session.campaign(number))
        self._summary = await self.mtc.gateway.do(lambda session: session.report(number).summary)
        self._show()

    def _show(self) -> None:
        if self._summary is None or not self._drawable:
            return
        said = lines(self._summary, width=max(self.size.width - _MARGIN, 40), colour=has_colours())
        if self._record is not None and any(words for _, words in steering_rows(self._record)):
            said = [*pairs(steering_rows(self._record), colour=has_colours()), "", *said]
        text = "\n".join(said)
        self.query_one("#report-text", Static).update(Text.from_ansi(text))
