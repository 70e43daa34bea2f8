"""The agent's decisions: what to claim, what to start where, what to stop, what to give back, when to leave.

Pure: no clock, no I/O. `Core.react(event, now)` changes the state and says what to do; `loop` does it and turns
what comes of it into events. `now` is monotonic seconds. Only the end takes time in proportion to the slots.
"""

import math
from collections.abc import Iterable
from typing import assert_never

from pilotmtc.agent.core import walltime_warning
from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.events import (
    Answered,
    AskForTasks,
    Attached,
    BatchReceived,
    Command,
    Drain,
    Ended,
    Event,
    GiveBack,
    GivenUp,
    Leave,
    NodeJoined,
    NodeLost,
    NodeUnfit,
    NoMoreNodes,
    NoRoom,
    OrdersReceived,
    Quit,
    Report,
    ResultsOwed,
    Stop,
    TermReceived,
    Tick,
    Unbegun,
    ValuesCame,
    ValuesMissing,
)
from pilotmtc.agent.core.node_health import NodeHealth
from pilotmtc.agent.core.queue import Queue, Queued
from pilotmtc.agent.core.rates import CLAIM_MAX, Rates
from pilotmtc.agent.core.running import Running
from pilotmtc.agent.core.starting import Starter
from pilotmtc.model import GRACE_S, Resources, TaskId
from pilotmtc.protocol.agent import Orders
from pilotmtc.resources.amounts import SHARE
from pilotmtc.states import Cause, PilotState

CLAIM_WAIT_S = 20.0
CLAIM_WAIT_GROWING_S = 2.0  # while nodes are still to come: they may have room for what does not fit yet
CLAIM_WAIT_BLOCKED_S = 2.0  # there may soon be more room than this claim can ask for, and only one is under way
EMPTY_PAUSE_S = 0.05  # so that a server that answers at once with nothing is not asked without a pause
HOLD_S = 1.0  # when the machine has no room for another process
_NOT_STARTED = "canceled before it was started"


class Core:
    """The state of one agent.

    Parameters
    ----------
    cluster
        The nodes that it may use.
    start
        When the pilot began.
    walltime_s, idle_s
        As in `PilotDescription`.
    expected
        How many nodes there will be.
    warning_s
        How long before the end of the walltime the scheduler was asked for a warning; 0 is not.
    """

    def __init__(
        self,
        cluster: Cluster,
        start: float,
        walltime_s: float = 0.0,
        idle_s: float = 0.0,
        *,
        expected: int = 1,
        warning_s: float = 0.0,
    ) -> None:
        self.cluster = cluster
        self.idle_s = idle_s
        self._expected = expected
        self._no_more = ""  # why no node will come any more
        self._resting: list[tuple[float, str]] = []
        self._blame = NodeHealth()
        # Tasks are stopped early enough for TERM, KILL and the last results.
        self.stop_at = start + max(walltime_s - 2 * GRACE_S, walltime_s * 0.8) if walltime_s else math.inf
        self._warn_at = start + walltime_s - warning_s if walltime_s and warning_s else math.inf
        self._drain_at = math.inf  # after a warning that came early
        self.queue = Queue(cluster)
        self.starter = Starter(cluster, self.queue)
        self.running = self.starter.running
        self._attached = False
        self._asked = 0  # number of the claim under way, 0 if none
        self._asked_at = start
        self._number = 0
        self._pause_until = 0.0
        self._hold_until = 0.0
        self._owing = False  # results, so many that nothing new is started
        self._leaving: tuple[PilotState, str] | None = None
        self._left = False
        self._idle_since = start
        self._nothing_at = start  # when the store last said that there is nothing to do
        self.rates = Rates(start)

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken any more."""
        return self._leaving is not None

    @property
    def warned(self) -> bool:
        """Whether a TERM has come before, or the pilot drains for another reason."""
        return self.draining or self._drain_at < math.inf

    @property
    def left(self) -> bool:
        """Whether `Leave` has been said."""
        return self._left

    @property
    def asked(self) -> int:
        """The number of the claim that is under way, 0 if there is none."""
        return self._asked

    @property
    def busy(self) -> int:
        """Cores in use."""
        return self.cluster.busy

    @property
    def has_more(self) -> bool:
        """Whether tasks wait here that could be started if there were room."""
        return self.queue.waiting.count > 0

    def react(self, event: Event, now: float) -> list[Command]:
        """Take `event` in and return what to do about it."""
        out: list[Command] = []
        if isinstance(event, Ended):
            self._ended(event, now)
        elif isinstance(event, BatchReceived):
            self._gave(event, now, out)
        elif isinstance(event, Tick):
            self._tick(now, out)
        elif isinstance(event, Answered):
            self.rates.answered(event.latency_s)
            return out
        elif isinstance(event, Unbegun):
            self._unbegun(event, out)
        elif isinstance(event, ValuesCame):
            self._values_came(event)
        elif isinstance(event, ValuesMissing):
            self._values_missing(event, out)
        elif isinstance(event, OrdersReceived):
            self._ordered(event.orders, out)
        elif isinstance(event, NoRoom):
            self._no_room(event, now, out)
        elif isinstance(event, NodeJoined):
            self._joined(event, now)
        elif isinstance(event, NodeLost):
            self._lost(event, out)
        elif isinstance(event, NodeUnfit):
            self._set_aside(event.name, event.reason)
            if self._leaving is None and len(self.cluster.nodes) == len(self.cluster.aside) >= self._expected:
                self._drain(PilotState.FAILED, f"node {event.name} cannot run tasks: {event.reason}", out)
        elif isinstance(event, NoMoreNodes):
            self._no_more = event.reason
        elif isinstance(event, Attached):
            self._attached = True
        elif isinstance(event, ResultsOwed):
            self._owing = event.full
        elif isinstance(event, GivenUp):
            self._given_up()
        elif isinstance(event, Drain):
            self._drain(PilotState.DONE, event.reason, out)
        elif isinstance(event, TermReceived):
            self._warned(now, out)
        elif isinstance(event, Quit):
            self._quit(event.state, event.reason, Cause.PREEMPTED, out, at_once=True)
        else:
            assert_never(event)
        return self._decide(now, out)

    def react_to_ends(self, events: Iterable[Ended], now: float) -> list[Command]:
        """Do as `react` for many attempts that have ended at once."""
        for event in events:
            self._ended(event, now)
        return self._decide(now, [])

    def _decide(self, now: float, out: list[Command]) -> list[Command]:
        """Start and claim what there is room for, or leave when nothing is left."""
        if self._no_more and self._leaving is None and len(self.cluster.nodes) == len(self.cluster.aside):
            self._drain(PilotState.FAILED, self._no_more, out)
        if self._leaving is None:
            if now >= self._hold_until and not self._owing:
                if self.queue.tasks:
                    self._fill(now, out)
                self._ask(now, out)
        elif not self.running and not self._left:
            self._left = True
            out.append(Leave(*self._leaving))
        return out

    # -- events -----------------------------------------------------------------------------------------------

    def _ended(self, event: Ended, now: float) -> None:
        run = self.running.get(event.task)
        if run is None or run.attempts[event.task] != event.attempt:
            return
        if run.pace is not None and event.took_s:
            run.pace.took(event.took_s)
        if len(self.cluster.nodes) > 1:
            self._judge(run, event)
        self.starter.over(event.task, run)
        self.rates.ended(now)
        if not self.running:
            self._idle_since = now

    def _no_room(self, event: NoRoom, now: float, out: list[Command]) -> None:
        """Give back what was to be started, and start nothing there for a moment: others use up the node."""
        run = self.running.get(event.task)
        if run is None or run.attempts[event.task] != event.attempt:
            return
        back = tuple(run.attempts.items())
        for task, _ in back:
            self.starter.over(task, run)
        if len(self.cluster.nodes) == 1:
            self._hold_until = now + HOLD_S
        else:
            for name in {slot.node for slot in run.slots}:
                self.cluster.rest(name)
                self._resting.append((now + HOLD_S, name))
        out.append(GiveBack(back))

    def _unbegun(self, event: Unbegun, out: list[Command]) -> None:
        """Take calls back into the queue, where they come first; those that were to be stopped are over."""
        back: list[tuple[TaskId, int]] = []
        for task, attempt in event.tasks:
            run = self.running.get(task)
            if run is None or run.attempts[task] != attempt:
                continue
            cause = run.stopping.get(task)
            self.starter.over(task, run)
            if run.attempts and run.pace is not None:  # the call that runs has held them up
                run.pace.slow()
            queued = run.mates.get(task)
            if cause is Cause.CANCELED:
                out.append(Report(task, attempt, cause, _NOT_STARTED))
            elif self._leaving is not None or queued is None or not self.queue.add_again(queued):
                back.append((task, attempt))
        if back:
            out.append(GiveBack(tuple(back)))

    def _stop(self, task: TaskId, run: Running, cause: Cause, grace_s: float, out: list[Command]) -> None:
        run.stopping[task] = cause
        out.append(Stop(task, run.attempts[task], cause, grace_s))

    def _judge(self, run: Running, event: Ended) -> None:
        """Set a node aside on which tasks crash one after the other while they do not on others."""
        if len(run.slots) == 1 and event.task not in run.stopping:
            name = run.slots[0].node
            reason = self._blame.ended(name, event.crashed)
            if reason:
                self._set_aside(name, reason)

    def _set_aside(self, name: str, reason: str) -> None:
        if name in self.cluster.nodes and name not in self.cluster.aside:
            self.cluster.set_aside(name, reason)
            self.starter.blocked = None
            self.queue.refit()

    def _given_up(self) -> None:
        self._attached = False
        self._asked = 0
        for queued in list(self.queue.tasks.values()):
            self.starter.remove(queued)

    def _joined(self, event: NodeJoined, now: float) -> None:
        if not self.cluster.nodes:
            self._idle_since = now
        self.cluster.add(event.node)
        self.starter.blocked = None
        self.queue.refit()

    def _lost(self, event: NodeLost, out: list[Command]) -> None:
        """End what ran there: tasks of one rank at once, wide ones when their other ranks have been stopped."""
        if event.name not in self.cluster.nodes:
            return
        self.cluster.remove(event.name)
        self._blame.forget(event.name)
        for run in self.starter.lost(event.name):
            if run.need.ranks == 1:
                for task, attempt in run.attempts.items():
                    out.append(Report(task, attempt, Cause.NODE_LOST, event.reason, event.name))
            else:
                run.slots = tuple(slot for slot in run.slots if slot.node != event.name)
                for task in run.attempts:
                    self._stop(task, run, Cause.NODE_LOST, 0.0, out)
        self.starter.blocked = None
        unfit = self.queue.refit()
        if unfit:
            out.append(self._give_back(unfit))

    def _gave(self, event: BatchReceived, now: float, out: list[Command]) -> None:
        batch = event.batch
        if batch.number != self._asked:
            return
        self._asked = 0
        if not batch.tasks:
            self._pause_until = self._asked_at + EMPTY_PAUSE_S
            if batch.limited:
                self._idle_since = now  # there is work as soon as others end theirs
            self._nothing_at = now
            return
        if self._leaving is not None:
            out.append(GiveBack(tuple((claimed.task, claimed.attempt) for claimed in batch.tasks)))
            return
        self._idle_since = now
        unfit: list[tuple[TaskId, int]] = []
        queue = self.queue
        for claimed in batch.tasks:
            if claimed.task in queue.tasks or claimed.task in self.running:
                continue
            try:
                if not queue.add(claimed, batch, lacking=claimed.task in event.lacking):
                    unfit.append((claimed.task, claimed.attempt))
            except (ArithmeticError, ValueError) as error:  # it is not a number: only this task fails
                message = f"what it needs cannot be counted: {error}"
                out.append(Report(claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, message))
        if unfit:
            out.append(GiveBack(tuple(unfit)))

    def _values_came(self, event: ValuesCame) -> None:
        for task in event.tasks:
            queued = self.queue.tasks.get(task)
            if queued is not None and queued.lacking:
                self.queue.has_values(queued)

    def _values_missing(self, event: ValuesMissing, out: list[Command]) -> None:
        for task in event.tasks:
            queued = self.queue.tasks.get(task)
            if queued is not None and queued.lacking:
                self.starter.remove(queued)
                out.append(Report(task, queued.claimed.attempt, event.cause, event.message))

    def _ordered(self, orders: Orders, out: list[Command]) -> None:
        if orders.kill:
            self._quit(PilotState.CANCELED, "canceled", Cause.PREEMPTED, out)
        elif orders.drain:
            self._drain(PilotState.DONE, "drained", out)
        for task, attempt in orders.cancel:
            run = self.running.get(task)
            if run is not None:
                if run.attempts[task] == attempt and task not in run.stopping:
                    self._stop(task, run, Cause.CANCELED, run.grace_s, out)
                continue
            queued = self.queue.tasks.get(task)
            if queued is not None and queued.claimed.attempt == attempt:
                self.starter.remove(queued)
                out.append(Report(task, attempt, Cause.CANCELED, _NOT_STARTED))

    def _tick(self, now: float, out: list[Command]) -> None:
        if now >= self.stop_at and (self._leaving is None or self.running):
            self._quit(PilotState.DONE, "walltime", Cause.WALLTIME, out)
        elif now >= self.stop_at - self.queue.longest_grace_s:
            for task, run in self.running.items():
                if task not in run.stopping and now >= self.stop_at + GRACE_S - run.grace_s:
                    self._stop(task, run, Cause.WALLTIME, run.grace_s, out)
        if now >= self._drain_at:
            self._drain(PilotState.DONE, "walltime", out)
        if self._leaving is not None:
            return
        # A link that is down brings no tasks, which does not mean that there are none.
        if (
            self.idle_s
            and not self.running
            and not self.queue.tasks
            and self._nothing_at - self._idle_since >= self.idle_s
        ):
            self._leaving = (PilotState.DONE, "idle")
            return
        if self._resting:
            for _, name in [rest for rest in self._resting if rest[0] <= now]:
                self.cluster.wake(name)
            self._resting = [rest for rest in self._resting if rest[0] > now]
        extra = len(self.queue.tasks) - 4 * self.rates.backlog(now) - 2 * self.cluster.cores
        if extra > 0:  # the tasks got slower: others may have what this pilot will not start soon
            out.append(self._give_back(self.queue.last(extra)))

    def _warned(self, now: float, out: list[Command]) -> None:
        """Drain when the warning was asked for, by this clock: it may come early, and would cost a short walltime."""
        at = walltime_warning.drain_at(self._warn_at, now)
        if at is None:
            self._drain(PilotState.DONE, "terminated", out)
        elif at > now:
            self._drain_at = at
        else:
            self._drain(PilotState.DONE, "walltime", out)

    def _drain(self, state: PilotState, reason: str, out: list[Command]) -> None:
        if self._leaving is None:
            self._leaving = (state, reason)
            if self.queue.tasks:
                out.append(self._give_back(list(self.queue.tasks.values())))

    def _quit(self, state: PilotState, reason: str, cause: Cause, out: list[Command], *, at_once: bool = False) -> None:
        self._drain(state, reason, out)
        if cause is not Cause.WALLTIME or self._leaving == (PilotState.DONE, "terminated"):
            self._leaving = (state, reason)  # a scheduler's warning comes before the end that it warns of
        for task, run in self.running.items():
            if task not in run.stopping or at_once:
                self._stop(task, run, cause, 0.0 if at_once else run.grace_s, out)

    # -- queue ------------------------------------------------------------------------------------------------

    def _give_back(self, some: list[Queued]) -> GiveBack:
        for queued in some:
            self.starter.remove(queued)
        return GiveBack(tuple((queued.claimed.task, queued.claimed.attempt) for queued in some))

    def _fill(self, now: float, out: list[Command]) -> None:
        """Start what there is room for, and give back what there is no time for."""
        late = self.starter.fill(now, self.stop_at, out)
        if late:
            out.append(GiveBack(tuple((queued.claimed.task, queued.claimed.attempt) for queued in late)))

    # -- claiming ---------------------------------------------------------------------------------------------

    def _ask(self, now: float, out: list[Command]) -> None:
        """Claim when slots are free beyond what is queued, or the backlog is half gone. One claim at a time."""
        if self._asked or not self._attached or now < self._pause_until:
            return
        cluster = self.cluster
        starter = self.starter
        waiting = self.queue.waiting
        # Slots need not stay free for what waits for its values, but not all of the store's tasks shall do so here.
        free = cluster.free_cores - max(self.queue.lacking.cores - cluster.cores, 0)
        blocked, hold, typical = starter.blocked is not None, starter.hold, starter.typical
        ahead = 0
        within_s = 0.0
        if blocked:  # what waits includes the blocked one itself
            cores = min(free, cluster.cores - starter.overtakers.cores - waiting.cores)
            if cores <= 0 and now + GRACE_S < hold.until < math.inf:  # but there may be tasks that end in time
                head = hold.need
                cores = free - (waiting.cores - head.cores * head.ranks)
                within_s = hold.until - now - GRACE_S
        else:
            cores = free - waiting.cores
            lacking = self.queue.lacking.count
            backlog = self.rates.backlog(now) if free > 0 or waiting.count < CLAIM_MAX else 0
            if cores > 0:
                ahead = max(backlog - lacking, 0)
            elif (waiting.count + lacking) * 2 < backlog:
                ahead = backlog - waiting.count - lacking
            cores = max(cores, 0) + ahead * typical.cores * typical.ranks
        if cores <= 0:
            return
        self._number += 1
        self._asked = self._number
        self._asked_at = now
        queued_gpus = 0 if blocked else waiting.gpus
        queued_memory = 0 if blocked else waiting.memory
        gpus = max(cluster.free_gpus - queued_gpus, 0) + ahead * typical.gpus if cluster.gpus else 0
        memory = max(cluster.free_memory - queued_memory, 0) + ahead * typical.memory
        named = {name: amount / SHARE * (1 + ahead) for name, amount in cluster.free_named.items()}
        want = Resources(cores=cores, gpus=gpus / SHARE, memory_bytes=memory, named=named)
        left_s = max(self.stop_at - now, 0.001) if self.stop_at != math.inf else 0.0
        growing = not self._no_more and len(cluster.nodes) < self._expected
        wait_s = CLAIM_WAIT_GROWING_S if growing or within_s else CLAIM_WAIT_S
        if blocked:
            wait_s = min(wait_s, CLAIM_WAIT_BLOCKED_S)
        if self.idle_s:
            wait_s = min(wait_s, self.idle_s)
        limit = min(cores, CLAIM_MAX)
        out.append(
            AskForTasks(self._number, cluster.total, want, limit, left_s, blocked, wait_s, cluster.kinds, within_s)
        )
