"""Running a campaign to its end with pilots of its own."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from pilotmtc.errors import StoreError
from pilotmtc.model import Campaign, Pilot, PilotDescription, PilotId
from pilotmtc.pilots import AgentAhead
from pilotmtc.pilots import start as start_pilot
from pilotmtc.pilots.agents import END_S, LocalAgent
from pilotmtc.protocol.client.pilots import CancelPilot, DrainPilot, GetPilots
from pilotmtc.protocol.records import Filter
from pilotmtc.session.halt import parse_halt, set_halt
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import follow, get_campaign, start_number
from pilotmtc.session.look.pages import pages
from pilotmtc.session.look.results import TaskResult
from pilotmtc.session.run.ended import EndedTasks
from pilotmtc.session.run.events import (
    Advanced,
    Begun,
    Ended,
    HeldElsewhere,
    PilotLost,
    PilotMoved,
    RunEvent,
    StoreTroubled,
)
from pilotmtc.session.run.live import LiveOutput
from pilotmtc.session.run.own_pilot import OwnPilot
from pilotmtc.session.run.submission import Submission
from pilotmtc.session.submit.tasks import TaskStream
from pilotmtc.states import PILOT_FINAL, PilotState, TaskState

IDLE_S = 10.0  # a pilot whose run was killed leaves after that long without work
QUEUED_IDLE_S = 60.0  # one of a scheduler, for which there was a queue
_LOOK_S = 1.0
_LOOK_WHEN_ASKED_S = 0.05
_STEP_S = 0.3
_JOIN_S = 5.0


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
    live
        Tell what tasks write while they run, too, if outputs are wanted.
    keep_order
        Tell of tasks in the order in which they were submitted.
    any_pilot
        Let all pilots of the store have the tasks. If not, new tasks are kept for the run's pilots, and those of a
        campaign are for whom they were.
    retry_failed
        Retry the campaign's tasks that failed, were canceled or skipped.
    halt
        End when so many tasks have failed, or such a part of them: 5 or ``"10%"``. What is left stays on hold.
    start
        Starts a pilot.
    ahead
        An agent for it that was started before.

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
        live: bool = False,
        any_pilot: bool = False,
        retry_failed: bool = False,
        halt: str | int | None = None,
        start: Callable[..., Pilot] = start_pilot,
        ahead: AgentAhead | None = None,
    ) -> None:
        self.campaign = campaign
        self.interrupted = False
        self.out_of_time = False
        self._link = link
        self._description = pilot or PilotDescription()
        self._any_pilot = any_pilot
        self._halt = None if halt is None else parse_halt(halt)
        self._start = start
        self._ahead = ahead
        self._live = LiveOutput(link) if live and outputs else None
        self._ended = EndedTasks(link, outputs=outputs, keep_order=keep_order)
        self._submission = Submission(
            link, tasks, campaign, name=name, pilot=self._description, any_pilot=any_pilot, retry_failed=retry_failed,
            asked=lambda: self._asked,
        )  # fmt: skip
        self._own: OwnPilot | None = None
        self._asked = 0  # 1: drain, 2: cancel
        self._obeyed = 0
        self._trouble = ""  # why the store cannot keep results
        self._agent: LocalAgent | None = None  # which signals tell what the store cannot
        self._told = 0  # by signals, as `_asked`
        self._told_at = 0.0
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
        with self._agent_ahead() as ahead:
            yield from self._events(ahead)

    @contextlib.contextmanager
    def _agent_ahead(self) -> Iterator[AgentAhead | None]:
        """Start the agent of a pilot on this machine while the store is found and the tasks are submitted."""
        if self._description.scheduler or self._start is not start_pilot:
            yield None
            return
        with contextlib.closing(self._ahead or AgentAhead(self._link.url)) as ahead:
            yield ahead

    def _events(self, ahead: AgentAhead | None) -> Iterator[RunEvent]:
        since = start_number(self._link)
        resumes = self.campaign is not None
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
            if self._halt is not None:
                set_halt(self._link, campaign.id, *self._halt)
            yield from self._wait_for_others(campaign, since)
            if self.interrupted:
                return
            campaign = self.campaign
            own = self._own = self._start_pilot(campaign, ahead)
            yield Begun(campaign.id, own.pilot, shared=self._any_pilot or not campaign.own_pilots)
            if resumes:
                for pilot, tasks in _held_elsewhere(self._link, campaign, own.pilot):
                    yield HeldElsewhere(pilot, tasks)
            for step in follow(self._link, campaign.id, since, _STEP_S):
                self.campaign = step.campaign
                for result in self._ended.take(step, own.began_at):
                    yield self._end(result)
                if self._live is not None:
                    yield from self._live.take(step)
                yield Advanced(step.campaign)
                self._submission.raise_error()
                if step.complete:
                    return
                if step.trouble != self._trouble:
                    self._trouble = step.trouble
                    yield StoreTroubled(step.trouble)
                if time.monotonic() >= self._ends_at:
                    self._end_in_time()
                if step.campaign.halted or any(one.failed for one in step.campaign.after):
                    self.drain()
                if self._asked > self._obeyed:
                    self._obey()
                if self._asked and (self._trouble or self._agent is not None):
                    self._tell_agent()
                before = own.pilot
                lost = self._look_at_pilot(own, step.campaign)
                if self._description.scheduler and _news(before, own.pilot):
                    yield PilotMoved(own.pilot)
                if lost is not None:
                    yield PilotLost(lost)
                if self.interrupted:
                    for result in self._ended.missed(step.campaign.id, own.began_at):
                        yield self._end(result)
                    self.campaign = get_campaign(self._link, campaign.id)
                    yield Advanced(self.campaign)
                    return
        finally:
            self._finish()

    def _wait_for_others(self, campaign: Campaign, since: int) -> Iterator[RunEvent]:
        """Let no pilot be queued as long as the campaign waits for others: it would begin, and have nothing to do."""
        if not (self._description.scheduler and campaign.waits):
            return
        for step in follow(self._link, campaign.id, since, _STEP_S):
            self.campaign = step.campaign
            yield Advanced(step.campaign)
            self._submission.raise_error()
            if step.complete or not step.campaign.waits:
                return
            if step.campaign.halted or any(one.failed for one in step.campaign.after):
                self.drain()
            if self._asked:
                self.interrupted = True
                return

    def _end(self, result: TaskResult) -> Ended:
        return Ended(result, (0, 0) if self._live is None else self._live.end(result.id, result.attempt))

    # -- the pilot --------------------------------------------------------------------------------------------

    def _start_pilot(self, campaign: Campaign, ahead: AgentAhead | None) -> OwnPilot:
        idle_s = self._description.idle_s or QUEUED_IDLE_S if self._description.scheduler else IDLE_S
        description = msgspec.structs.replace(self._description, campaign=campaign.id, idle_s=idle_s)
        start = self._start if ahead is None else partial(start_pilot, ahead=ahead)
        own = OwnPilot(self._link, description, submitting=lambda: self._submission.active, start=start)
        own.start(campaign, self._walltime_s())
        return own

    def _walltime_s(self) -> float | None:
        """Return what is left of the run's own walltime; None if it has none."""
        return max(self._ends_at - time.monotonic(), _STEP_S) if self._ends_at < math.inf else None

    def _end_in_time(self) -> None:
        self.out_of_time = True
        self._ends_at = math.inf
        self.drain()

    def _obey(self) -> None:
        self._obeyed = self._asked
        if self._own is not None:
            order = CancelPilot if self._asked > 1 else DrainPilot
            try:
                self._link.call(order(self._own.pilot.id))
            except StoreError as error:
                if error.transient or self._description.scheduler:
                    raise
                self._tell_agent()
            self._own.hasten()

    def _tell_agent(self) -> None:
        """Tell the agent by signals what was asked for: if it has its order, it still waits long for such a store."""
        if self._own is None or self._description.scheduler:
            return
        if self._agent is None:
            self._agent = LocalAgent(self._own.pilot.directory)
        if self._told < self._asked:
            self._told = self._asked
            self._told_at = time.monotonic()
            (self._agent.cancel if self._asked > 1 else self._agent.drain)()
        elif self._told > 1 and time.monotonic() - self._told_at > END_S:
            self._agent.kill()

    def _look_at_pilot(self, own: OwnPilot, campaign: Campaign) -> Pilot | None:
        """Start another pilot if there is none and work for one; return the old one if it had died."""
        if not own.is_due(_LOOK_WHEN_ASKED_S if self._asked else _LOOK_S):
            return None
        pilot = own.look()
        gone = self._agent is not None and self._agent.over  # which the store may be unable to note
        if pilot.state not in PILOT_FINAL and not gone:
            own.check_use(pilot, campaign)
            return None
        if pilot.reason == "walltime" and self._ends_at < math.inf:
            self._end_in_time()
        if self._asked:
            self.interrupted = self._asked > 1 or not self._submission.active or not self._submission.repeatable
            return None
        if pilot.state is PilotState.CANCELED or (pilot.state is PilotState.DONE and pilot.reason == "drained"):
            self.interrupted = True  # by somebody else
            return None
        return pilot if own.follow_up(pilot, campaign, self._walltime_s()) else None

    # -- the end ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let the pilot go, however the run ended; it has nothing more to do."""
        if self._asked == 0:
            self._asked = 1
        if self._submission.repeatable:
            self._asked = 2
            self._submission.join(_JOIN_S)
        if self._own is not None and self._obeyed == 0:
            self._own.let_go(refused=bool(self._trouble))
        if self._agent is not None:
            self._agent.close()


def _held_elsewhere(link: StoreLink, campaign: Campaign, own: Pilot) -> list[tuple[Pilot, int]]:
    """Return other pilots that have tasks of the campaign, and how many: they may have died unnoticed."""
    held: Counter[PilotId] = Counter()
    for page in pages(link, Filter(campaign=campaign.id, states=(TaskState.CLAIMED, TaskState.RUNNING))):
        held.update(task.pilot for task in page if task.pilot is not None and task.pilot != own.id)
    return [(link.call(GetPilots(id=pilot)).pilots[0], tasks) for pilot, tasks in sorted(held.items())]


def _news(before: Pilot, pilot: Pilot) -> bool:
    """Return whether there is something to tell of a pilot that a scheduler was asked for."""

    def shown(one: Pilot) -> tuple[object, ...]:
        size = min(one.nodes, 1), one.nodes >= one.description.nodes  # the first node, and the last one
        return one.id, one.state, one.reason if one.started_at is None else "", one.trouble, size

    # An agent reports for duty before it has nodes: what it has is told when there is something.
    return shown(before) != shown(pilot) and (pilot.state is not PilotState.ACTIVE or pilot.nodes > 0)
