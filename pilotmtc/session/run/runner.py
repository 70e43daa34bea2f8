"""Running a campaign to its end with pilots of its own on this machine."""

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from pilotmtc.agent.node import allowance
from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.errors import ConfigError, PilotMTCError, StoreError, SubmitRejected, UsageError
from pilotmtc.model import Campaign, CampaignId, Pilot, PilotDescription, Resources
from pilotmtc.pilots import start as start_pilot
from pilotmtc.pilots.agents import END_S, LocalAgent
from pilotmtc.pilots.capacity import why_never
from pilotmtc.protocol.client.campaigns import ShareCampaign, Submitted
from pilotmtc.protocol.client.maintenance import GetLimits
from pilotmtc.protocol.client.pilots import CancelPilot, DrainPilot, GetPilots
from pilotmtc.protocol.client.tasks import Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.resources.amounts import UNKNOWN, Amounts, shares
from pilotmtc.resources.fit import Capacity, Kind, Lack, Request, fit
from pilotmtc.session.link import Link
from pilotmtc.session.look.explain import obstacle
from pilotmtc.session.look.follow import Step, follow, get_campaign, start_number
from pilotmtc.session.look.results import TaskResult, pages, results, with_outputs
from pilotmtc.session.run.order import InOrder, Seen
from pilotmtc.session.run.resume import rest
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.session.submit.tasks import TaskStream
from pilotmtc.states import PILOT_FINAL, Cause, PilotState, TaskState
from pilotmtc.units import format_duration, type_memory

IDLE_S = 10.0  # a pilot whose run was killed leaves after that long without work
QUEUED_IDLE_S = 60.0  # one of a scheduler, for which there was a queue
RESTARTS = 3  # in a row, without a task that ended in between
_LOOK_S = 1.0
_STEP_S = 0.3
_FETCH = 500
_SHARE = 5.0  # so many times as long as looking takes there is none
_BAD = frozenset({TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED})
_JOIN_S = 5.0
# What a pilot's start and end may take of its walltime: a task that had the rest can have no more of another.
_SPARE = 0.2
_SPARE_S = 60.0


class Begun(Struct, frozen=True):
    """The campaign is in the store and its pilot has been started; if it is `shared`, others may run its tasks, too."""

    campaign: CampaignId
    pilot: Pilot
    shared: bool = False


class Advanced(Struct, frozen=True):
    """How far the campaign is."""

    campaign: Campaign


class Ended(Struct, frozen=True):
    """A task has ended. ``result.stdout`` is there if the run was asked for outputs."""

    result: TaskResult


class PilotMoved(Struct, frozen=True):
    """There are news of the pilot that a scheduler was asked for: why it waits, or that it has begun."""

    pilot: Pilot


class PilotLost(Struct, frozen=True):
    """The pilot has died; another one has been started."""

    pilot: Pilot


class StoreTroubled(Struct, frozen=True):
    """The store cannot keep results, or, if `trouble` is empty, can again. Pilots keep them, and send them again."""

    trouble: str


RunEvent: TypeAlias = Begun | Advanced | Ended | PilotMoved | PilotLost | StoreTroubled


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
        Run those of the campaign again that ended badly.
    start
        Starts a pilot.

    Attributes
    ----------
    campaign
        As last seen; None before the first task is in the store.
    interrupted
        Whether it ended because it was told to, or its time was over.
    out_of_time
        Whether its walltime was over.
    """

    def __init__(
        self,
        link: Link,
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
        self._tasks = tasks
        self._name = name
        self._description = pilot or PilotDescription()
        self._outputs = outputs
        self._any_pilot = any_pilot
        self._start = start
        self._retry_failed = retry_failed
        self._in_order = InOrder(link) if keep_order else None
        self._key = campaign.key if campaign is not None else new_key()
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
        self._thread: threading.Thread | None = None
        self._submitted = threading.Event()  # something is in the store, or nothing will be
        self._submission: Submitted | None = None
        self._error: PilotMTCError | None = None
        self._seen = Seen()
        self._began_at = 0.0  # by the store's clock
        self._ends_at = math.inf

    def drain(self) -> None:
        """Let the tasks that run finish, start no more, and end."""
        self._asked = max(self._asked, 1)

    def cancel(self) -> None:
        """Kill the tasks that run, which go back to be run another time, and end."""
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
        self._begin_submission()
        try:
            self._wait_for_first()
            campaign = self.campaign
            if campaign is None or not self._submitted.is_set():  # stopped before there was anything
                self.interrupted = True
                return
            self._start_pilot()
            assert self._pilot is not None
            yield Begun(campaign.id, self._pilot, shared=self._any_pilot or not campaign.own_pilots)
            for step in follow(self._link, campaign.id, since, _STEP_S):
                self.campaign = step.campaign
                for result in self._results(step):
                    yield Ended(result)
                yield Advanced(step.campaign)
                self._raise_error()
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
                    for result in self._last_results(step.campaign):
                        yield Ended(result)
                    self.campaign = get_campaign(self._link, campaign.id)
                    yield Advanced(self.campaign)
                    return
        finally:
            self._finish()

    # -- submitting -------------------------------------------------------------------------------------------

    def _begin_submission(self) -> None:
        if self._tasks is None:
            assert self.campaign is not None
            if not self.campaign.sealed:
                seal(self._link, self._key, self.campaign.received)
            self._go_on()
            return
        # A daemon: it may be reading from something that will never end.
        self._thread = threading.Thread(target=self._submit, args=(self._tasks,), name="submission", daemon=True)
        self._thread.start()

    def _submit(self, tasks: TaskStream) -> None:
        try:
            offset, coming = (0, iter(tasks)) if self.campaign is None else rest(self._link, self.campaign, tasks)
            if self.campaign is not None:
                self._go_on()
            submit(
                self._link,
                TaskStream(lambda: self._fitting(coming), size=tasks.size),
                key=self._key,
                name=self._name,
                own_pilots=not self._any_pilot,
                offset=offset,
                on_submitted=self._on_submitted,
                stop=lambda: self._asked > (1 if tasks.again else 0),
            )
        except PilotMTCError as error:
            self._error = error
        finally:
            self._submitted.set()

    def _go_on(self) -> None:
        """Let a campaign go on that was there before, and is the right one."""
        assert self.campaign is not None
        if self._any_pilot and self.campaign.own_pilots:
            self._link.call(ShareCampaign(self.campaign.id))
        if self._retry_failed:
            self._link.call(Retry(new_key(), Filter(campaign=self.campaign.id, states=tuple(_BAD))))
            self.campaign = get_campaign(self._link, self.campaign.id)
        self._submitted.set()

    def _fitting(self, tasks: Iterable[TaskSpec]) -> Iterator[TaskSpec]:
        known: Resources | None = None
        for task in tasks:
            if task.resources is not known:
                check_fit(task.resources, self._description, self._limits(task.resources))
                known = task.resources
            yield task

    def _limits(self, needs: Resources) -> dict[str, float]:
        """Return the limits of the store, which matter to tasks with named resources only."""
        if not needs.named:
            return {}
        return {limit.name: limit.amount for limit in self._link.call(GetLimits()).limits}

    def _on_submitted(self, answer: Submitted) -> None:
        self._submission = answer
        self._submitted.set()

    def _wait_for_first(self) -> None:
        while not self._submitted.wait(0.1):
            if self._asked:
                return
        self._raise_error()
        if self.campaign is None and self._submission is not None:
            self.campaign = get_campaign(self._link, self._submission.campaign)

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

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
            self.interrupted = self._thread is None or self._asked > 1 or not self._thread.is_alive() or not self._again
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

    @property
    def _again(self) -> bool:
        return self._tasks is not None and self._tasks.again

    def _may_start(self, campaign: Campaign) -> bool:
        """Return whether a pilot has something to do now; it is an error if it will never have."""
        began = time.monotonic()
        for page in pages(self._link, Filter(campaign=campaign.id, states=(TaskState.READY,)), size=_FETCH):
            if all(task.not_before is not None for task in page):  # they pause
                continue
            if _over(campaign) == self._pilot_started_with:
                for task in page:
                    try:
                        check_fit(task.resources, self._description, self._limits(task.resources))
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
        if not others and not (self._thread is not None and self._thread.is_alive()):
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

    # -- results ----------------------------------------------------------------------------------------------

    def _results(self, step: Step) -> Iterator[TaskResult]:
        if self._in_order is not None:
            for task in self._in_order.take(step.campaign.id):
                if self._wanted(task.state):
                    yield from with_outputs(self._link, (task,))
            return
        fresh = [task for task, state in step.over if self._wanted(state) and self._seen.add(task)]
        for at in range(0, len(fresh), _FETCH):
            ids = tuple(fresh[at : at + _FETCH])
            yield from results(self._link, Filter(ids=ids), outputs=True)
        if step.missed:
            yield from self._missed(step.campaign.id)

    def _missed(self, campaign: CampaignId) -> Iterator[TaskResult]:
        """Yield what has ended since the run began and has not been told."""
        states = (*_BAD, TaskState.DONE) if self._outputs else tuple(_BAD)
        for page in pages(self._link, Filter(campaign=campaign, states=states)):
            fresh = [
                task
                for task in page
                if (task.last is None or task.last.recorded_at >= self._began_at) and self._seen.add(task.id)
            ]
            yield from with_outputs(self._link, fresh)

    def _last_results(self, campaign: Campaign) -> Iterator[TaskResult]:
        if self._in_order is None:
            yield from self._missed(campaign.id)

    def _wanted(self, state: TaskState) -> bool:
        return self._outputs or state in _BAD

    # -- the end ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let the pilot go, however the run ended; it has nothing more to do."""
        if self._asked == 0:
            self._asked = 1
        if self._thread is not None and self._again:
            self._asked = 2
            self._thread.join(_JOIN_S)
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


def check_fit(needs: Resources, pilot: PilotDescription, limits_of_store: Mapping[str, float]) -> None:
    """Raise `UsageError` if such a task can never run in such a pilot, as far as that is known."""
    # What a node has is known of this machine only.
    unknown = UNKNOWN if pilot.scheduler else 0
    cores = pilot.cores or unknown or allowance.cores(len(os.sched_getaffinity(0)), os.environ)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = pilot.memory_bytes or unknown or allowance.memory(whole, os.environ)
    node = Amounts.of(cores, pilot.gpus, memory, pilot.named)
    units = {name: shares(amount) for name, amount in limits_of_store.items()}
    lack = fit(Request.of(needs, units), Capacity(((pilot.nodes, node),), pilot.walltime_s or math.inf, units))
    if lack is not None:
        raise UsageError(_lacking(lack, needs, pilot))


def _lacking(lack: Lack, needs: Resources, pilot: PilotDescription) -> str:
    """Return why a task does not fit into any such pilot, and what to do."""
    if lack.kind is Kind.CORES:
        have = f"{'the pilot' if pilot.cores else 'this machine'} has {lack.has}"
        return f"a task needs {lack.needs} cores, and {have}: ask for fewer with --cores"
    if lack.kind is Kind.GPUS:
        gpus = f"{lack.needs:g} GPU{'s' * (lack.needs != 1)}"
        return f"a task needs {gpus}, and the pilot has {lack.has:g}: give it more with --pilot-gpus"
    if lack.kind is Kind.MEMORY:
        have = f"{'the pilot' if pilot.memory_bytes else 'this machine'} has {type_memory(int(lack.has))}"
        return f"a task needs {type_memory(int(lack.needs))} of memory, and {have}: ask for less with --memory"
    if lack.kind is Kind.NAMED:
        unknown = "" if lack.has else f"; of the whole store, with pilotmtc store limit {lack.name}=N"
        return (
            f"a task needs {lack.needs:g} of {lack.name}, and the pilot has {lack.has:g}: "
            f"give it more with --pilot-resource {lack.name}={lack.needs:g}{unknown}"
        )
    if lack.kind is Kind.LIMIT:
        return (
            f"a task needs {lack.needs:g} of {lack.name}, and no more than {lack.has:g} may be in use at a time: raise "
            f"that with pilotmtc store limit {lack.name}={lack.needs:g}"
        )
    if lack.kind is Kind.RANKS_PER_NODE:
        return f"a task needs room for {lack.needs} ranks a node, and the pilot has room for {lack.has}: ask for fewer"
    if lack.kind is Kind.RANKS:
        of = f"{lack.needs} rank{'s' * (lack.needs > 1)} of {needs.cores} core{'s' * (needs.cores > 1)}"
        return (
            f"a task needs {of}, and the pilot has room for {lack.has}: ask for fewer with --ranks, or for more nodes"
        )
    return "a task's time limit or expected duration, with its grace, is longer than the pilot's walltime"
