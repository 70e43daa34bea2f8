"""The agent's loop: performs what `core` decides and tells it what came of it.

One epoll, by hand: with tasks of a quarter of a millisecond an event loop's own cost per task decides whether the agent
keeps pace with a C program. The link to the store has its own thread; its answers come in through a deque and an
eventfd. A crew runs the tasks: `crews.local` on one node, `crews.pool` on many. A crew may have threads of its own; one
lock lets one thread at a time decide and act.
"""

import gc
import logging
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import FrameType

from pilotmtc.agent.core import events as c
from pilotmtc.agent.core.core import Core
from pilotmtc.agent.core.node_health import crashed
from pilotmtc.agent.crews.interface import Crew
from pilotmtc.agent.outbox import Outbox
from pilotmtc.agent.spool import Spool
from pilotmtc.agent.store_requests import Exchange, Sender, StoreRequests
from pilotmtc.agent.value_files import ValueFiles
from pilotmtc.agent.values import Values
from pilotmtc.errors import ConfigError, PilotMTCError, StateError, StoreError, UsageError
from pilotmtc.model import PilotId, Result, TaskId
from pilotmtc.protocol.agent import (
    AttachPilot,
    Batch,
    Claim,
    EndPilot,
    Finish,
    Heartbeat,
    Orders,
    Release,
    ReportOutput,
    Started,
)
from pilotmtc.protocol.records import OutputTail
from pilotmtc.protocol.values import GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import Cause, PilotState

TICK_S = 0.25
HEARTBEAT_S = 10.0
RESEND_S = 2.0
LEAVE_S = 300.0  # how long a pilot that has ended waits for the store to take its results
LEAVE_WALLTIME_S = 5.0
LEAVE_REFUSED_S = 4.0  # if it was terminated, and the store is there but cannot take them: its disk is full, say
GC_S = 60.0

_log = logging.getLogger("pilotmtc.agent")


class Loop:
    """Runs a pilot's tasks until it is time to leave.

    Parameters
    ----------
    link
        The store.
    pilot
        Which pilot this is.
    core, crew, spool, values
        What decides, what runs the tasks, where results are safe, and where the values of calls are.
    guard_fd
        A pipe that ends when the guard dies; None without one.
    note
        What users should know about this pilot.

    Attributes
    ----------
    lock
        What a thread must hold to call anything of the loop's or the crew's.
    """

    def __init__(
        self, link: Sender, pilot: PilotId, core: Core, crew: Crew, spool: Spool, *, values: ValueFiles,
        guard_fd: int | None = None, note: str = "",
    ) -> None:  # fmt: skip
        self._store = StoreRequests(link, self._arrived)
        self._pilot = pilot
        self._core = core
        self._crew = crew
        self._commands: deque[c.Command] = deque()  # decided, and not done yet
        self._performing = False
        self._values = Values(pilot, values, self._store.send)
        self._outbox = Outbox(pilot, spool, self._store.send, self._values.bring)
        self._guard_fd = guard_fd
        self._note = note
        self.lock = threading.Lock()
        self._failure = ""
        self._sleep_until = -math.inf  # while the main thread sleeps, when it will look again
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._woken = False
        self._signals = 0
        self._terminated = False
        self._refused_at = -math.inf  # when the store last could not do what it was asked
        self._open_releases = 0
        self._seen = 0
        self._lease_s = math.inf
        self._beat_at = float("inf")  # when to send the next heartbeat, infinite while one is under way
        self._attached = False
        self._nodes = (0, 0)  # number and cores, as the store knows them
        self._returning = False  # the store has given this pilot up, and is asked to take it again
        self._lost = False  # it does not
        self._owing = False
        self._leave: c.Leave | None = None
        self._leave_by = 0.0
        self._ending = False
        self._exit: int | None = None

    def run(self) -> int:
        """Run; return 0 if the pilot ended as it should and the store knows all."""
        epoll = self._epoll
        epoll.register(self._wake, select.EPOLLIN)
        if self._guard_fd is not None:
            epoll.register(self._guard_fd, select.EPOLLIN)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            self._crew.open(self)
            self._attach()
            with self.lock:
                self._turn()
            self._crew.leave()
        finally:
            gc.enable()
            gc.unfreeze()
            for number, handler in before.items():
                signal.signal(number, handler)
            self._crew.close()
            self._outbox.close()
            self._values.close()
            epoll.close()
            os.close(self._wake)
        return self._exit if self._exit is not None else 1

    def _turn(self) -> None:
        crew = self._crew
        outbox = self._outbox
        monotonic = time.monotonic
        poll = self._epoll.poll
        wake = self._wake
        tick_at = collect_at = now = monotonic()
        collect_at += GC_S
        while self._exit is None:
            due = self._sleep_until = min(outbox.due(tick_at), crew.due(), self._beat_at)
            self.lock.release()
            try:
                ready = poll(max(due - now, 0.0))
            finally:
                self.lock.acquire()
            self._sleep_until = -math.inf
            if self._failure:
                raise RuntimeError(self._failure)
            for fd, _ in ready:
                if fd == wake:
                    os.eventfd_read(wake)
                    self._woken = False  # after the read: the other order could lose a wake-up for good
                elif fd == self._guard_fd:
                    self._guard_gone()
                else:
                    crew.ready(fd, monotonic())
            now = monotonic()
            while (exchange := self._store.answer()) is not None:
                self._answer(exchange, now)
            if crew.due() <= now:
                crew.poll(now)
            outbox.poll(now)
            if now >= self._beat_at:
                self._beat()
            if now >= tick_at or self._leave is not None:
                tick_at = now + TICK_S
                self._tick(now)
                if now >= collect_at:
                    collect_at = now + GC_S
                    gc.collect()

    # -- what the crew says ------------------------------------------------------------------------------------

    def started(self, task: TaskId, attempt: int, node: str, slot: str, now: float) -> None:
        """Note that an attempt runs, and where."""
        self._outbox.started(task, attempt, node, slot, now)

    def ended(self, result: Result, now: float) -> None:
        """Note how an attempt ended, and start what there is room for now."""
        self._over(result, now)
        self._outbox.hurry(now)
        self.tell(_event(result), now)
        self._outbox.be_patient(self._core.has_more, now)

    def ended_many(self, results: Sequence[Result], now: float) -> None:
        """Do as `ended` for attempts that have ended at once, such as calls that one worker ran."""
        for result in results:
            self._over(result, now)
        self._outbox.hurry(now)
        self._perform(self._core.react_to_ends([_event(result) for result in results], now), now)
        self._outbox.be_patient(self._core.has_more, now)

    def _over(self, result: Result, now: float) -> None:
        self._values.release((result.task,))
        self._outbox.ended(result, now)

    def tell(self, event: c.Event, now: float) -> None:
        """Let the core react to `event`, and do what it says: at once, or after what is being done already."""
        self._perform(self._core.react(event, now), now)

    def written(self, outputs: Sequence[OutputTail]) -> None:
        """Tell the store what running tasks have written so far."""
        if outputs:
            self._store.send(ReportOutput(self._pilot, tuple(outputs)))

    def watch(self, fd: int) -> None:
        """Have `Crew.ready` called when the descriptor is readable. Raises `OSError` if there is no room for it."""
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        self._epoll.unregister(fd)

    def wake(self) -> None:
        """Wake the main thread if there is something to do before it wakes by itself."""
        if self._outbox.due(self._crew.due()) < self._sleep_until or self._leave is not None:
            self._call()

    def fail(self, reason: str) -> None:
        """End the loop with an error, from any thread."""
        self._failure = reason
        self._call()

    # -- doing ------------------------------------------------------------------------------------------------

    def _arrived(self, exchange: Exchange) -> None:
        """Wake the main thread for an answer, in a thread of the link's; one that nothing waits for is seen later."""
        if not (self._outbox.patient and isinstance(exchange.request, Finish | Started)):
            self._call()

    def _call(self) -> None:
        """Wake the main thread."""
        if not self._woken:
            self._woken = True
            try:
                os.eventfd_write(self._wake, 1)
            except OSError:  # the loop has left
                return

    def _perform(self, commands: Iterable[c.Command], now: float) -> None:
        """Do what the core said. What the crew tells meanwhile is decided at once, and done after the rest."""
        todo = self._commands
        todo.extend(commands)
        if self._performing:
            return
        self._performing = True
        while todo:
            command = todo.popleft()
            if isinstance(command, c.Start):
                self._crew.start(command, now)
            elif isinstance(command, c.AskForTasks):
                self._store.send(Claim(self._pilot, command.number, command.total, command.want, command.limit,
                                 command.time_left_s, command.backfill, command.wait_s, command.nodes,
                                 command.within_s))  # fmt: skip
            elif isinstance(command, c.Stop):
                self._crew.stop(command, now)
            elif isinstance(command, c.GiveBack):
                self._open_releases += 1
                self._values.release([task for task, _ in command.tasks])
                self._store.send(Release(self._pilot, command.tasks))
            elif isinstance(command, c.Report):
                self._over(self._crew.report(command), now)
            else:
                self._leave = command
                wait_s = LEAVE_WALLTIME_S if now >= self._core.stop_at else LEAVE_S
                self._leave_by = now + wait_s
                _log.info("pilot %s leaves: %s", self._pilot, command.reason)
                self._outbox.flush(now)
        self._performing = False

    def _tick(self, now: float) -> None:
        if self._signals:
            self._signalled(now)
        self._store.poll(now)
        self._values.poll(now)
        if self._outbox.full is not self._owing:
            self._owing = not self._owing
            _log.info("the store %s", "must take results first" if self._owing else "has taken enough results")
            self.tell(c.ResultsOwed(self._owing), now)
        self.tell(c.Tick(), now)
        cluster = self._core.cluster
        if self._attached and self._leave is None and (len(cluster.nodes), cluster.cores) != self._nodes:
            self._attach()
        if self._leave is not None:
            self._go(now)

    def _go(self, now: float) -> None:
        """End the pilot once the store has all results; if that takes too long, they stay in the spool."""
        assert self._leave is not None
        if self._terminated and self._refuses(now):
            self._leave_by = min(self._leave_by, now + LEAVE_REFUSED_S)
        if now >= self._leave_by:
            _log.warning(
                "pilot %s leaves with results that the store has not taken; %s",
                self._pilot,
                "they are in the spool"
                if self._outbox.safe
                else "and the spool had no room for all of them: their tasks will run again",
            )
            self._exit = 1
        elif not self._ending and self._outbox.empty and (not self._open_releases or self._lost):
            self._ending = True
            self._leave_by = min(self._leave_by, now + LEAVE_S / 10)
            self._store.send(EndPilot(self._pilot, self._leave.state, self._leave.reason))

    def _refuses(self, now: float) -> bool:
        return now - self._refused_at < 2 * RESEND_S

    def _beat(self) -> None:
        self._beat_at = float("inf")
        busy = self._core.busy
        wait_s = min(HEARTBEAT_S, self._lease_s / 4)
        self._store.send(Heartbeat(self._pilot, self._seen, busy, wait_s, self._crew.states(busy)))

    def _attach(self) -> None:
        """Tell the store that the pilot is active, or that its nodes have changed."""
        cluster = self._core.cluster
        self._nodes = (len(cluster.nodes), cluster.cores)
        holds = tuple((task, run.attempts[task]) for task, run in self._core.running.items()) if self._returning else ()
        attach = AttachPilot(
            self._pilot, socket.gethostname(), os.getpid(), *self._nodes, holds, largest=cluster.total, note=self._note
        )  # fmt: skip
        self._store.send(attach)

    def _return(self, now: float) -> None:
        """Come back after the store has given this pilot up, as it does when the link was down for long."""
        _log.warning("the store had given up pilot %s; it comes back", self._pilot)
        self._returning = True
        self._attached = False
        self._store.forget_claims()
        self.tell(c.GivenUp(), now)
        self._values.keep_only(self._core.running)
        self._attach()

    def _guard_gone(self) -> None:
        """End all tasks: without the guard nobody would if this process were killed."""
        _log.error("the guard of pilot %s is gone", self._pilot)
        assert self._guard_fd is not None
        self._epoll.unregister(self._guard_fd)
        now = time.monotonic()
        self.tell(c.Quit(PilotState.FAILED, "its guard was killed"), now)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        os.eventfd_write(self._wake, 1)

    def _signalled(self, now: float) -> None:
        count, self._signals = self._signals, 0
        # Drained by an order, the pilot waits long for a store that takes no results; the first signal ends that.
        first = not self._core.warned or (not self._terminated and self._refuses(now))
        self._terminated = True
        if count == 1 and first:
            self.tell(c.TermReceived(), now)
            done = "drains: terminated" if self._core.draining else "was warned early: it drains when its time comes"
            _log.info("pilot %s %s", self._pilot, done)
        else:
            self.tell(c.Quit(PilotState.CANCELED, "terminated"), now)

    # -- the link ---------------------------------------------------------------------------------------------

    def _answer(self, exchange: Exchange, now: float) -> None:
        request, future = exchange.request, exchange.future
        assert future is not None
        # Else the two would refer to each other, and keep the results until the next collection.
        exchange.future = None
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._refused(exchange, error, now)
            return
        reply = future.result()
        if isinstance(reply, Batch):
            lacking = self._values.want(reply) if self._core.asked == reply.number else frozenset()
            self.tell(c.BatchReceived(reply, lacking), now)
        elif isinstance(request, GetValue) and isinstance(reply, ValuePart):
            for event in self._values.got(request, reply, now):
                self.tell(event, now)
        elif isinstance(request, PutValue) and isinstance(reply, ValueStatus):
            self._values.put(request, reply)
        elif isinstance(request, Finish):
            assert exchange.segment is not None
            self._outbox.acked(exchange.segment, now)
            if self._leave is not None and now < self._core.stop_at:  # the store takes them, however slowly
                self._leave_by = max(self._leave_by, now + LEAVE_S / 10)
            self._core.react(c.Answered(exchange.answered_at - exchange.sent_at), now)
        elif isinstance(reply, Orders):
            if isinstance(request, AttachPilot) and self._attached:
                return  # the next heartbeat is under way
            self._orders(reply, exchange.sent_at, now)
        elif isinstance(request, Release):
            self._open_releases -= 1
        elif isinstance(request, EndPilot):
            self._exit = 0

    def _orders(self, orders: Orders, sent_at: float, now: float) -> None:
        # The server holds an answer back until there is news. One that comes at once repeats cancels of tasks that have
        # not ended yet: then the next heartbeat waits.
        fresh = orders.number != self._seen or now - sent_at > 0.5
        self._seen = orders.number
        self._lease_s = orders.lease_s
        self._beat_at = now if fresh else now + 0.5
        if not self._attached:
            self._attached = True
            self._returning = False
            _log.info("pilot %s is active", self._pilot)
            self.tell(c.Attached(), now)
        self.tell(c.OrdersReceived(orders), now)
        self._crew.peek(orders.peek)

    def _refused(self, exchange: Exchange, error: BaseException, now: float) -> None:
        request = exchange.request
        if isinstance(request, ReportOutput):
            _log.warning("cannot tell the store what running tasks have written: %s", error)
        elif (isinstance(request, PutValue) and isinstance(error, UsageError)) or (
            isinstance(request, GetValue) and isinstance(error, UsageError | StoreError)
        ):
            for event in self._values.refused(request, error, now):
                self.tell(event, now)
        elif isinstance(error, StateError) and isinstance(request, Claim | Heartbeat) and not self._lost:
            if not self._returning:
                self._return(now)
        elif isinstance(error, StateError) and not isinstance(request, EndPilot):
            if isinstance(request, Finish) and exchange.segment is not None:
                self._outbox.acked(exchange.segment, now)  # the store does not want it
            if isinstance(request, Release):
                self._open_releases -= 1
            if not self._lost:
                self._lost = True
                _log.error("the store has given up pilot %s: %s", self._pilot, error)
                self.tell(c.Quit(PilotState.FAILED, str(error)), now)
        elif isinstance(error, PilotMTCError) and (
            # Once the store has answered, its name is right: what is wrong with its place may be mended.
            error.transient
            or isinstance(error, StoreError)
            or (self._lease_s < math.inf and isinstance(error, ConfigError))
        ):
            if not error.transient:
                self._refused_at = now
            _log.warning("%s: %s; again in %g s", type(request).__name__, error, RESEND_S)
            if not isinstance(request, Started):
                self._store.repeat(exchange, now + RESEND_S)
        elif isinstance(request, EndPilot):
            _log.error("EndPilot: %s", error)
            self._exit = 0 if isinstance(error, StateError) else 1
        elif isinstance(error, PilotMTCError):
            _log.error("%s: %s", type(request).__name__, error)
            self.tell(c.Quit(PilotState.FAILED, str(error)), now)
            self._leave_by = min(self._leave_by or now + 10.0, now + 10.0)
        else:
            raise error


def _event(result: Result) -> c.Ended:
    """Return what the core has to know of a result."""
    took_s = result.elapsed_s if result.cause is Cause.EXIT else 0.0
    return c.Ended(result.task, result.attempt, crashed(result), took_s)
