"""Running a campaign to its end with pilots of its own."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator

import msgspec

from pilotmtc.errors import ConfigError, PilotMTCError, StoreError, SubmitRejected, UsageError
from pilotmtc.model import Campaign, CampaignId, Pilot, PilotDescription
from pilotmtc.pilots import start as start_pilot
from pilotmtc.pilots.agents import END_S, LocalAgent
from pilotmtc.pilots.capacity import why_never
from pilotmtc.protocol.client.maintenance import GetLimits
from pilotmtc.protocol.client.pilots import CancelPilot, DrainPilot, GetPilots
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.explain import obstacle
from pilotmtc.session.look.follow import follow, get_campaign, start_number
from pilotmtc.session.look.pages import pages
from pilotmtc.session.run.ended import EndedTasks
from pilotmtc.session.run.events import Advanced, Begun, Ended, PilotLost, PilotMoved, RunEvent, StoreTroubled
from pilotmtc.session.run.fitting import check_fit, limits_for
from pilotmtc.session.run.submission import Submission
from pilotmtc.session.submit.tasks import TaskStream
from pilotmtc.states import PILOT_FINAL, Cause, PilotState, TaskState
from pilotmtc.units import format_duration

IDLE_S = 10.0  # a pilot whose run was killed leaves after that long without work
QUEUED_IDLE_S = 60.0  # one of a scheduler, for which there was a queue
RESTARTS = 3  # in a row, without a task that ended in between
_LOOK_S = 1.0
_STEP_S = 0.3
_FETCH = 500
_SHARE = 5.0  # so many times as long as looking takes there is none
_JOIN_S = 5.0
# What a pilot's start and end may take of its walltime: a task that had the rest can have no more of another.
_SPARE = 0.2
_SPARE_S = 60.0


class Run:
    """One run: `events` does it; `drain` and `cancel` end it early and may be called by signal handlers.

    Parameters
    ----------
    link
        The store.
    tasks
        What to submit; None with `campaign` runs what is there.
    name
        The campaign's.
    campaign
        The one to go on with: what is left of it is run, and `tasks`, if given, are submitted from where it stopped.
    pilot
        What the pilots are to be; ``campaign`` and ``idle_s`` are set here.
    outputs
        Whether results of tasks that are DONE are wanted, with their outputs; if not, only bad ends are told.
    keep_order
        Tell of tasks in the order in which they were submitted.
    any_pilot
        Let all pilots of the store have the tasks. If not, new tasks are kept for the run's pilots, and those of a
        campaign are for whom they were.
    retry_failed
        Retry the campaign's tasks that failed, were canceled or skipped.
    start
        Starts a pilot.

    Attributes
    ----------
    campaign
        As last seen; None before the first task is in the store.
    interrupted
        Whether it ended early: it was told to, or its walltime ended.
    out_of_time
        Whether its walltime ended.
    """

    def __init__(
        self,
        link: StoreLink,
        tasks: TaskStream | None,
        *,
        name: str = "",
        campaign: Campaign | None = None,
        pilot: PilotDescription | None = None,
        outputs: bool = True,
        keep_order: bool = False,
        any_pilot: bool = False,
        retry_failed: bool = False,
        start: Callable[..., Pilot] = start_pilot,
    ) -> None:
        self.campaign = campaign
        self.interrupted = False
        self.out_of_time = False
        self._link = link
        self._description = pilot or PilotDescription()
        self._any_pilot = any_pilot
        self._start = start
        self._ended = EndedTasks(link, outputs=outputs, keep_order=keep_order)
        self._submission = Submission(
            link, tasks, campaign, name=name, pilot=self._description, any_pilot=any_pilot, retry_failed=retry_failed,
            asked=lambda: self._asked,
        )  # fmt: skip
        self._pilot: Pilot | None = None
        self._pilot_started_with = 0  # tasks that were over when it started
        self._looked_at = 0.0
        self._restarts = 0
        self._over_at_restart = 0
        self._asked = 0  # 1: drain, 2: cancel
        self._obeyed = 0
        self._trouble = ""  # why the store cannot keep results
        self._agent: LocalAgent | None = None  # which signals tell what the store cannot
        self._told = 0  # by signals, as `_asked`
        self._told_at = 0.0
        self._began_at = 0.0  # by the store's clock
        self._ends_at = math.inf

    def drain(self) -> None:
        """Let running tasks finish, start no more, and end."""
        self._asked = max(self._asked, 1)

    def cancel(self) -> None:
        """Kill running tasks, which will run again another time, and end."""
        self._asked = 2

    def events(self) -> Iterator[RunEvent]:
        """Run, and yield what happens.

        Raises
        ------
        UsageError
            If a task cannot be, or fits no pilot on this machine.
        ConfigError
            If pilots die again and again.
        """
        since = start_number(self._link)
        if self._description.walltime_s and not self._description.scheduler:
            # On this machine the walltime is the run's; a scheduler's pilots have one each, and follow each other.
            self._ends_at = time.monotonic() + self._description.walltime_s
        try:
            self._submission.begin()
            campaign = self._submission.first()
            if campaign is None:  # stopped before there was anything
                self.interrupted = True
                return
            self.campaign = campaign
            self._start_pilot()
            assert self._pilot is not None
            yield Begun(campaign.id, self._pilot, shared=self._any_pilot or not campaign.own_pilots)
            for step in follow(self._link, campaign.id, since, _STEP_S):
                self.campaign = step.campaign
                for result in self._ended.take(step, self._began_at):
                    yield Ended(result)
                yield Advanced(step.campaign)
                self._submission.raise_error()
                if step.complete:
                    return
                if step.trouble != self._trouble:
                    self._trouble = step.trouble
                    yield StoreTroubled(step.trouble)
                if time.monotonic() >= self._ends_at:
                    self._end_in_time()
                if self._asked > self._obeyed:
                    self._obey()
                if self._asked and (self._trouble or self._agent is not None):
                    self._tell_agent()
                before = self._pilot
                lost = self._look_at_pilot(step.campaign)
                if self._description.scheduler and _news(before, self._pilot):
                    yield PilotMoved(self._pilot)
                if lost is not None:
                    yield PilotLost(lost)
                if self.interrupted:
                    for result in self._ended.missed(step.campaign.id, self._began_at):
                        yield Ended(result)
                    self.campaign = get_campaign(self._link, campaign.id)
                    yield Advanced(self.campaign)
                    return
        finally:
            self._finish()

    # -- the pilot --------------------------------------------------------------------------------------------

    def _start_pilot(self) -> None:
        assert self.campaign is not None
        idle_s = self._description.idle_s or QUEUED_IDLE_S if self._description.scheduler else IDLE_S
        description = msgspec.structs.replace(self._description, campaign=self.campaign.id, idle_s=idle_s)
        if self._ends_at < math.inf:
            left_s = max(self._ends_at - time.monotonic(), _STEP_S)
            description = msgspec.structs.replace(description, walltime_s=left_s)
        self._pilot = self._start(self._link.store, self._link.url, description)
        self._began_at = self._began_at or self._pilot.created_at
        self._looked_at = time.monotonic()
        self._pilot_started_with = _over(self.campaign)

    def _end_in_time(self) -> None:
        self.out_of_time = True
        self._ends_at = math.inf
        self.drain()

    def _obey(self) -> None:
        self._obeyed = self._asked
        if self._pilot is not None:
            order = CancelPilot if self._asked > 1 else DrainPilot
            try:
                self._link.call(order(self._pilot.id))
            except StoreError as error:
                if error.transient or self._description.scheduler:
                    raise
                self._tell_agent()
        self._looked_at = 0.0

    def _tell_agent(self) -> None:
        """Tell the agent by signals what was asked for: if it has its order, it still waits long for such a store."""
        if self._pilot is None or self._description.scheduler:
            return
        if self._agent is None:
            self._agent = LocalAgent(self._pilot.directory)
        if self._told < self._asked:
            self._told = self._asked
            self._told_at = time.monotonic()
            (self._agent.cancel if self._asked > 1 else self._agent.drain)()
        elif self._told > 1 and time.monotonic() - self._told_at > END_S:
            self._agent.kill()

    def _look_at_pilot(self, campaign: Campaign) -> Pilot | None:
        """Start another pilot if there is none and work for one; return the old one if it had died."""
        now = time.monotonic()
        if now - self._looked_at < (0.05 if self._asked else _LOOK_S):
            return None
        self._looked_at = now
        assert self._pilot is not None
        pilot = self._link.call(GetPilots(id=self._pilot.id)).pilots[0]
        if why := why_never(pilot):
            raise SubmitRejected(f"pilot {pilot.id} can never start, and is canceled: {why}; ask for less")
        gone = self._agent is not None and self._agent.over  # which the store may be unable to note
        if pilot.state not in PILOT_FINAL and not gone:
            self._pilot = pilot
            if pilot.state is PilotState.ACTIVE and pilot.nodes >= pilot.description.nodes and not pilot.busy:
                self._has_use(pilot, campaign)
            return None
        if pilot.reason == "walltime" and self._ends_at < math.inf:
            self._end_in_time()
        if self._asked:
            self.interrupted = self._asked > 1 or not self._submission.active or not self._submission.repeatable
            return None
        if pilot.state is PilotState.CANCELED or (pilot.state is PilotState.DONE and pilot.reason == "drained"):
            self.interrupted = True  # by somebody else
            return None
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
            self._start_pilot()
            return pilot
        if campaign.counts.get(TaskState.READY) and self._may_start(campaign) and self._has_use(pilot, campaign):
            self._start_pilot()  # it had nothing to do for long, or its walltime was over
        return None

    def _check_walltime(self, pilot: Pilot) -> None:
        """Raise `UsageError` if all of a pilot's time was too short for its tasks: the next would begin them anew."""
        assert self.campaign is not None
        campaign = get_campaign(self._link, self.campaign.id)
        lasts_s = pilot.description.walltime_s
        if not campaign.counts.get(TaskState.READY) or _over(campaign) != self._pilot_started_with or not lasts_s:
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
            if all(task.not_before is not None for task in page):  # they pause
                continue
            if _over(campaign) == self._pilot_started_with:
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
        words, others = self._unfit(pilot, campaign.id)
        if not words or get_campaign(self._link, campaign.id).counts != counts:  # it has moved on meanwhile
            return True
        if not others and not self._submission.active:
            raise UsageError(
                f"{words}; ask for less, or for other nodes. What is left stays in campaign {campaign.id}, for "
                "pilotmtc edit and run --resume"
            )
        return False

    def _unfit(self, pilot: Pilot, campaign: CampaignId) -> tuple[str, bool]:
        """Return why nothing that is ready fits in `pilot`, empty if some does; and whether others may run it."""
        seen = [pilot, *self._link.call(GetPilots(live=True)).pilots]
        limited = {limit.name for limit in self._link.call(GetLimits()).limits}
        words, others = "", False
        for page in pages(self._link, Filter(campaign=campaign, states=(TaskState.READY,))):
            for task in page:
                # All of the walltime is before the next one.
                own = self.campaign is not None and self.campaign.own_pilots
                mine, *theirs = [
                    obstacle(one, task, one.started_at or time.time(), own=own, limits=limited) for one in seen
                ]
                if not mine:
                    return "", False
                words = words or f"task {task.id} can never run here: pilot {pilot.id} {mine}"
                others = others or not all(theirs)
        return words, others

    # -- the end ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let the pilot go, however the run ended; it has nothing more to do."""
        if self._asked == 0:
            self._asked = 1
        if self._submission.repeatable:
            self._asked = 2
            self._submission.join(_JOIN_S)
        if self._pilot is not None and self._obeyed == 0:
            self._let_go(self._pilot)
        if self._agent is not None:
            self._agent.close()

    def _let_go(self, pilot: Pilot) -> None:
        """Tell the pilot that there is nothing more to do; end it if the store cannot even keep what it has done."""
        refused = bool(self._trouble)
        try:
            self._link.send(DrainPilot(pilot.id)).result(_JOIN_S)
        except StoreError as error:
            refused = refused or not error.transient
        except (PilotMTCError, TimeoutError):
            pass  # it leaves by itself when it is idle: nothing is lost if it cannot be told
        if refused and not self._description.scheduler:
            self._agent = LocalAgent(pilot.directory)
            self._agent.end()


def _over(campaign: Campaign) -> int:
    return sum(n for state, n in campaign.counts.items() if state >= TaskState.DONE)


def _news(before: Pilot, pilot: Pilot) -> bool:
    """Return whether there is something to tell of a pilot that a scheduler was asked for."""

    def shown(one: Pilot) -> tuple[object, ...]:
        size = min(one.nodes, 1), one.nodes >= one.description.nodes  # the first node, and the last one
        return one.id, one.state, one.reason if one.started_at is None else "", one.trouble, size

    # An agent reports for duty before it has nodes: what it has is told when there is something.
    return shown(before) != shown(pilot) and (pilot.state is not PilotState.ACTIVE or pilot.nodes > 0)
