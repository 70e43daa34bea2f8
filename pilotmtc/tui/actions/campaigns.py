"""Actions on a campaign, for all screens that show campaigns."""

from functools import partial

from pilotmtc.model import Campaign
from pilotmtc.tui.actions.tasks import CANCEL, RETRY, Operation, TaskActions


class CampaignActions(TaskActions, inherit_bindings=False):
    """A screen with actions on a campaign: the one that `campaign_key` returns."""

    def campaign_key(self) -> int | None:
        """Return the number of the campaign to which the keys apply; None, with a notification, if there is none."""
        raise NotImplementedError

    def action_hold_campaign(self) -> None:
        """Put the campaign on hold, or release it."""
        if (key := self.campaign_key()) is not None and (campaign := self.board.campaigns.get(key)) is not None:
            self.begin(partial(self._hold, campaign), "hold")

    async def _hold(self, campaign: Campaign) -> None:
        hold, id_ = not campaign.on_hold, campaign.id
        self.tell_if_cut()
        await self.mtc.gateway.do(lambda session: session.hold(id_) if hold else session.release(id_))
        self.notify(f"Campaign {id_} is {'on hold: no pilot takes more of its tasks' if hold else 'released'}.")

    def action_cancel_campaign(self) -> None:
        """Cancel the campaign's tasks."""
        self._of_campaign(CANCEL)

    def action_retry_campaign(self) -> None:
        """Run the campaign's failed tasks again."""
        self._of_campaign(RETRY)

    def action_report(self) -> None:
        """Show the report on the campaign."""
        if (key := self.campaign_key()) is not None:
            self.mtc.open_report(key)

    def action_campaign_tasks(self) -> None:
        """Show the campaign's tasks."""
        if (key := self.campaign_key()) is not None:
            self.mtc.open_tasks(f"campaign:{key}")

    def _of_campaign(self, operation: Operation) -> None:
        if (key := self.campaign_key()) is not None:
            self._begin_operation(operation, f"campaign:{key}")
