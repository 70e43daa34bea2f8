"""What is seen of a campaign or a pilot from near, for screens with a pane for it: when it is read, and drawn."""

from functools import partial
from math import inf
from time import monotonic

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign
from pilotmtc.protocol.client.pilots import PilotView
from pilotmtc.session.look.campaign import CampaignView
from pilotmtc.text.numbers import sentence
from pilotmtc.tui.actions.campaigns import CampaignActions
from pilotmtc.tui.widgets.campaign_pane import CampaignPane
from pilotmtc.tui.widgets.pilot_pane import PilotPane

_EVERY_S = 5.0  # between two requests for the same, at least
_SHARE = 25  # a slow request is followed by a pause of so many times its duration


class NearLook(CampaignActions, inherit_bindings=False):
    """A screen with a `CampaignPane`, and perhaps a `PilotPane`, of which one is shown."""

    WITH_GRID = False  # whether a campaign is shown over two of its parameters

    def __init__(self) -> None:
        super().__init__()
        self._near: tuple[str, int] | None = None  # "campaign" or "pilot", and its number
        self._view: CampaignView | PilotView | None = None
        self._seen: Campaign | None = None  # as it was when the view was read
        self._next_at = 0.0  # when the view may be read again, by the monotonic clock

    def look_near(self, kind: str, number: int) -> None:
        """Show a campaign or a pilot as it is known, and read more if it has changed, but not at every news."""
        if self._near != (kind, number):
            self._near, self._view, self._seen, self._next_at = (kind, number), None, None, 0.0
        self._draw_near(kind, number)
        record = self.board.campaigns.get(number) if kind == "campaign" else None
        if monotonic() >= self._next_at and (self._view is None or record is None or record != self._seen):
            self._next_at = inf
            self.begin(partial(self._read_near, kind, number, record), "near")

    async def _read_near(self, kind: str, number: int, record: Campaign | None) -> None:
        began = monotonic()
        pause_s = _EVERY_S
        try:
            view: CampaignView | PilotView
            if kind == "campaign":
                view = await self.mtc.gateway.do(lambda session: session.campaign_view(number, grid=self.WITH_GRID))
            else:
                view = await self.mtc.gateway.do(lambda session: session.pilots.inspect(number))
        except UsageError as error:  # it was deleted
            if self._near == (kind, number):
                pane = self.query_one(CampaignPane) if kind == "campaign" else self.query_one(PilotPane)
                pane.say(sentence(str(error)))
                pause_s = inf
        else:
            if self._near == (kind, number):
                self._view, self._seen = view, record
                self._draw_near(kind, number)
        finally:
            if self._near == (kind, number):
                self._next_at = monotonic() + max(pause_s, _SHARE * (monotonic() - began))

    def _draw_near(self, kind: str, number: int) -> None:
        if not self._drawable:
            return
        view = self._view
        for pilot_pane in self.query(PilotPane):
            pilot_pane.display = kind == "pilot"
            if isinstance(view, PilotView) and view.pilot is not None:
                pilot_pane.show(view.pilot, view)
            elif kind == "pilot" and self._next_at < inf:  # else an answer is on its way, or there is none
                pilot_pane.wait(number)
        pane = self.query_one(CampaignPane)
        pane.display = kind == "campaign"
        if kind == "campaign" and (record := self.board.campaigns.get(number)) is not None:
            pane.show(record, self.board, view if isinstance(view, CampaignView) else None)
