"""The part of a session that steers campaigns: holds, limits, what they wait for, their names and their end."""

from collections.abc import Sequence
from typing import Unpack

from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import (
    DeleteCampaign,
    HoldCampaign,
    RenameCampaign,
    SetAfterCampaigns,
    SetMaxRunning,
    SetStartRate,
)
from pilotmtc.protocol.client.tasks import HoldTasks
from pilotmtc.session.arguments import amount, campaign_words, text, whole
from pilotmtc.session.halt import parse_halt, set_halt
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign, ids_of
from pilotmtc.session.look.select import Selection, as_choice
from pilotmtc.session.needs import about
from pilotmtc.session.submit.sending import new_key
from pilotmtc.session.submit.tasks import check_max_running
from pilotmtc.units import parse_rate


class Steering:
    """The part of a session that steers campaigns."""

    _link: StoreLink

    def delete(self, campaign: int | str, *, keep_results: bool = False) -> Changed:
        """Delete a campaign whose tasks have all finished: tasks, results, outputs and values.

        Parameters
        ----------
        keep_results
            Delete only what its tasks wrote and returned.

        Raises
        ------
        UsageError
            If there is no such campaign, or if tasks of it have not finished.
        """
        found = get_campaign(self._link, campaign).id
        return self._link.call(DeleteCampaign(new_key(), found, keep_results=keep_results))

    def hold(self, campaign: int | str) -> Changed:
        """Put a campaign on hold: what runs goes on, and no pilot takes more of its tasks until it is released."""
        return self._link.call(HoldCampaign(get_campaign(self._link, campaign).id))

    def release(self, campaign: int | str) -> Changed:
        """Let pilots take the tasks of a campaign again that was on hold."""
        return self._link.call(HoldCampaign(get_campaign(self._link, campaign).id, hold=False))

    def hold_tasks(self, **select: Unpack[Selection]) -> Changed:
        """Put tasks on hold that no pilot has taken: none takes them until they are released."""
        return self._link.call(HoldTasks(new_key(), as_choice(**select)))

    def release_tasks(self, **select: Unpack[Selection]) -> Changed:
        """Let pilots take tasks again that were on hold."""
        return self._link.call(HoldTasks(new_key(), as_choice(**select), hold=False))

    def set_halt(self, campaign: int | str, halt: str | int) -> None:
        """Put a campaign on hold as soon as so many of its tasks have failed; releasing it forgets this.

        Parameters
        ----------
        halt
            A number, or a part of all its tasks such as ``"5%"``, which counts once all have been submitted.
        """
        set_halt(self._link, get_campaign(self._link, campaign).id, *parse_halt(halt))

    def set_max_running(self, campaign: int | str, tasks: int) -> None:
        """Let at most so many tasks of a campaign be claimed or running at once, over all pilots; 0: no limit.

        What runs goes on, also if that is more.
        """
        self._link.call(SetMaxRunning(get_campaign(self._link, campaign).id, check_max_running(whole("tasks", tasks))))

    def set_start_rate(self, campaign: int | str, rate: str | float) -> None:
        """Let pilots be given at most so many tasks of a campaign a second, all together.

        Parameters
        ----------
        rate
            ``"5/s"``, ``"30/min"``, or a number a second; 0: no limit.
        """
        per_s = about("rate", parse_rate, amount("rate", rate))
        self._link.call(SetStartRate(get_campaign(self._link, campaign).id, per_s))

    def set_after_campaigns(self, campaign: int | str, after: int | str | Sequence[int | str]) -> None:
        """Let a campaign wait until all tasks of others are DONE, in place of those that it waits for.

        What pilots have taken already goes on.

        Parameters
        ----------
        after
            A campaign, or several, by id or name; an empty list: none.

        Raises
        ------
        UsageError
            If there is no such campaign, or if one of the others waits for it.
        """
        others = ids_of(self._link, campaign_words("after", after))
        self._link.call(SetAfterCampaigns(get_campaign(self._link, campaign).id, others))

    def rename(self, campaign: int | str, name: str) -> None:
        """Give a campaign another name; an empty one takes the name away.

        Raises
        ------
        UsageError
            If there is no such campaign, or if the name is a number.
        """
        self._link.call(RenameCampaign(get_campaign(self._link, campaign).id, text("name", name)))
