"""A pilot of one's own for a campaign: started, followed by another when it has ended before its time, and let go."""

import itertools
import os
import time
from collections.abc import Callable

import msgspec

from pilotmtc.errors import ConfigError, PilotMTCError, StoreError, SubmitRejected, UsageError
from pilotmtc.model import Campaign, CampaignId, Pilot, PilotDescription, TaskId
from pilotmtc.pilots import start as start_pilot
from pilotmtc.pilots.agents import LocalAgent
from pilotmtc.pilots.capacity import why_never
from pilotmtc.protocol.client.maintenance import GetLimits
from pilotmtc.protocol.client.pilots import DrainPilot, GetPilots
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.explain import obstacle
from pilotmtc.session.look.follow import get_campaign
from pilotmtc.session.look.pages import pages
from pilotmtc.session.run.fitting import check_fit, limits_for
from pilotmtc.states import PILOT_FINAL, Cause, PilotState, TaskState
from pilotmtc.units import format_duration

RESTARTS = 3  # in a row, without a task that ended in between
_FETCH = 500
_SHARE = 5.0  # so many times as long as looking takes there is none
_TELL_S = 5.0
# What a pilot's start and end may take of its walltime: a task that had the rest can have no more of another.
_SPARE = 0.2
_SPARE_S = 60.0


class NothingFits(UsageError):
    """Nothing that is left of a campaign can run in its pilots: `why`, as for the first of these `tasks`."""

    def __init__(self, campaign: CampaignId, why: str, tasks: list[TaskId]) -> None:
        super().__init__(f"{why}. What is left stays in campaign {campaign}, for pilotmtc edit and run --resume")
        self.why = why
        self.tasks = tasks


class OwnPilot:
    """A pilot that works on one campaign as long as somebody looks after it; one at a time.

    Parameters
    ----------
    description
        What it is to be; its ``campaign`` says for which tasks, its ``idle_s`` when it ends if nobody looks after it.
    submitting
        Returns whether more tasks may come.
    start
        Starts a pilot.

    Attributes
    ----------
    began_at
        When the first one was created, by the store's clock.
    """

    def __init__(
        self,
        link: StoreLink,
        description: PilotDescription,
        *,
        submitting: Callable[[], bool],
        start: Callable[..., Pilot] = start_pilot,
    ) -> None:
        assert description.campaign is not None
        self.began_at = 0.0
        self._campaign: CampaignId = description.campaign
        self._link = link
        self._description = description
        self._submitting = submitting
        self._start = start
        self._pilot: Pilot | None = None
        self._started_with = 0  # tasks that were over when it started
        self._looked_at = 0.0
        self._restarts = 0
        self._over_at_restart = 0

    @property
    def pilot(self) -> Pilot:
        """As last seen before it ended."""
        assert self._pilot is not None
        return self._pilot

    def start(self, campaign: Campaign, walltime_s: float | None = None) -> None:
        """Start one, of another walltime than the description says if it is given."""
        description = self._description
        if walltime_s is not None:
            description = msgspec.structs.replace(description, walltime_s=walltime_s)
        self._pilot = self._start(self._link.store, self._link.url, description)
        self.began_at = self.began_at or self._pilot.created_at
        self._looked_at = time.monotonic()
        self._started_with = _over(campaign)

    def is_due(self, every_s: float) -> bool:
        """Return whether it is time to look at it."""
        return time.monotonic() - self._looked_at >= every_s

    def hasten(self) -> None:
        """Have it looked at soon."""
        self._looked_at = 0.0

    def look(self) -> Pilot:
        """Return what has become of it.

        Raises
        ------
        SubmitRejected
            If it can never start.
        """
        self._looked_at = time.monotonic()
        pilot = self._link.call(GetPilots(id=self.pilot.id)).pilots[0]
        if why := why_never(pilot):
            raise SubmitRejected(f"pilot {pilot.id} can never start, and is canceled: {why}; ask for less")
        if pilot.state not in PILOT_FINAL:
            self._pilot = pilot
        return pilot

    def check_use(self, pilot: Pilot, campaign: Campaign) -> None:
        """Raise `UsageError` if nothing that is left can run in it, nor elsewhere, as far as that can be told now."""
        if campaign.on_hold or campaign.waits:
            return
        if pilot.state is PilotState.ACTIVE and pilot.nodes >= pilot.description.nodes and not pilot.busy:
            self._has_use(pilot, campaign)

    def follow_up(self, pilot: Pilot, campaign: Campaign, walltime_s: float | None = None) -> bool:
        """Start another one if there is work for it, after one that ended by itself; return whether that had died.

        Raises
        ------
        PilotMTCError
            If the next one would fare no better.
        """
        self._check_walltime(pilot)
        if pilot.state is PilotState.FAILED:
            if pilot.description.scheduler and pilot.started_at is None:  # the next one would end like this one
                raise SubmitRejected(f"pilot {pilot.id} never started: {pilot.reason}")
            over = _over(campaign)
            self._restarts = self._restarts + 1 if over == self._over_at_restart else 1
            self._over_at_restart = over
            if self._restarts > RESTARTS:
                raise ConfigError(
                    f"{RESTARTS + 1} pilots died one after the other, the last one ({pilot.id}): {pilot.reason}; see "
                    f"{os.path.join(pilot.directory, 'agent.log')}"
                )
            self.start(campaign, walltime_s)
            return True
        if campaign.on_hold or campaign.waits:
            return False
        if campaign.counts.get(TaskState.READY) and self._may_start(campaign) and self._has_use(pilot, campaign):
            self.start(campaign, walltime_s)  # it had nothing to do for long, or its walltime was over
        return False

    def let_go(self, *, refused: bool = False) -> None:
        """Tell it that there is nothing more to do; end it if the store cannot even keep results (`refused`)."""
        pilot = self.pilot
        try:
            self._link.send(DrainPilot(pilot.id)).result(_TELL_S)
        except StoreError as error:
            refused = refused or not error.transient
        except (PilotMTCError, TimeoutError):
            pass  # it leaves by itself when it is idle: nothing is lost if it cannot be told
        if refused and not self._description.scheduler:
            agent = LocalAgent(pilot.directory)
            agent.end()
            agent.close()

    # -- whether another one would be of use ------------------------------------------------------------------

    def _check_walltime(self, pilot: Pilot) -> None:
        """Raise `UsageError` if all of a pilot's time was too short for its tasks: the next would begin them anew."""
        campaign = get_campaign(self._link, self._campaign)
        lasts_s = pilot.description.walltime_s
        if not campaign.counts.get(TaskState.READY) or _over(campaign) != self._started_with or not lasts_s:
            return
        select = Filter(campaign=campaign.id, states=(TaskState.READY,), causes=(int(Cause.WALLTIME),))
        for task in itertools.chain.from_iterable(pages(self._link, select)):
            last = task.last
            if last is None or last.pilot != pilot.id or lasts_s - last.elapsed_s > max(_SPARE * lasts_s, _SPARE_S):
                continue
            if task.resources.signal_first:  # it may have saved its state, and go on in the next pilot
                continue
            raise UsageError(
                f"task {task.id} ran for {format_duration(last.elapsed_s)}, until the walltime of pilot {pilot.id} "
                f"({format_duration(lasts_s)}) was over, and in all that time no task ended: ask for a longer "
                f"--walltime. What is left stays in campaign {campaign.id}, for run --resume"
            )

    def _may_start(self, campaign: Campaign) -> bool:
        """Return whether a pilot has something to do now; it is an error if it will never have."""
        began = time.monotonic()
        for page in pages(self._link, Filter(campaign=campaign.id, states=(TaskState.READY,)), size=_FETCH):
            if all(task.not_before is not None or task.on_hold for task in page):  # they pause
                continue
            if _over(campaign) == self._started_with:
                for task in page:
                    try:
                        check_fit(task.resources, self._description, limits_for(self._link, task.resources))
                    except UsageError as error:
                        raise UsageError(f"task {task.id}: {error}") from error
            return True
        # Among millions of tasks it takes a while to find that the few that are left pause: look the less often.
        self._looked_at += _SHARE * (time.monotonic() - began)
        return False

    def _has_use(self, pilot: Pilot, campaign: Campaign) -> bool:
        """Return whether such a pilot is of use; it is an error if nothing that is left fits in it, nor in others.

        What a scheduler's nodes have is known once there was one.
        """
        counts = campaign.counts
        if not self._description.scheduler or not pilot.node_cores or not counts.get(TaskState.READY):
            return True
        if counts.get(TaskState.CLAIMED) or counts.get(TaskState.RUNNING):
            return True
        words, tasks, others = self._unfit(pilot, campaign)
        if not words or get_campaign(self._link, campaign.id).counts != counts:  # it has moved on meanwhile
            return True
        if not others and not self._submitting():
            raise NothingFits(campaign.id, f"{words}; ask for less, or for other nodes", tasks)
        return False

    def _unfit(self, pilot: Pilot, campaign: Campaign) -> tuple[str, list[TaskId], bool]:
        """Return why nothing that is ready fits in `pilot`, empty if some does; what that is; and whether others may
        run it.
        """
        seen = [pilot, *self._link.call(GetPilots(live=True)).pilots]
        limited = {limit.name for limit in self._link.call(GetLimits()).limits}
        words, others = "", False
        tasks: list[TaskId] = []
        for page in pages(self._link, Filter(campaign=campaign.id, states=(TaskState.READY,))):
            for task in page:
                # All of the walltime is before the next one.
                mine, *theirs = [
                    obstacle(one, task, one.started_at or time.time(), own=campaign.own_pilots, limits=limited)
                    for one in seen
                ]
                if not mine:
                    return "", [], False
                tasks.append(task.id)
                words = words or f"task {task.id} can never run here: pilot {pilot.id} {mine}"
                others = others or not all(theirs)
        return words, tasks, others


def _over(campaign: Campaign) -> int:
    return sum(n for state, n in campaign.counts.items() if state >= TaskState.DONE)
