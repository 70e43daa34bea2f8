"""The loop of the store's server.

One thread does the work. Each turn collects what the clients have sent, performs all of it in one commit, answers, and
tries again the requests that wait for their answers (`long_poll`). `connections` knows the clients.
"""

import contextlib
import logging
import math
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from msgspec import UNSET, structs

from pilotmtc.errors import PilotMTCError, ProtocolError, StoreError
from pilotmtc.protocol.agent import Claim, Finish
from pilotmtc.protocol.base import TIME_LIMIT_S, Done, Execution, Reply
from pilotmtc.protocol.client.campaigns import Campaigns
from pilotmtc.protocol.client.maintenance import RevokeKey, SetMode, StoreInfo
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.frames import Ping, decode_greeting, decode_request
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.protocol.steward import ReportJobs
from pilotmtc.store.live.wakeups import Wakeup
from pilotmtc.store.ownership.takeover import Tell
from pilotmtc.store.requests.handlers import InThread
from pilotmtc.store.requests.steer.slices import Pending
from pilotmtc.store.serve import roll_log
from pilotmtc.store.server.background import BackgroundThread
from pilotmtc.store.server.connections import Connections
from pilotmtc.store.server.long_poll import LongPolls, Ticket
from pilotmtc.store.server.peer import Peer
from pilotmtc.store.server.permissions import STEWARD, refusal
from pilotmtc.store.server.poll_schedule import PollSchedule
from pilotmtc.store.server.served_file import ServedFile
from pilotmtc.store.server.stewards import Stewards

log = logging.getLogger("pilotmtc.store.server")

LINGER_S = 60.0
_HOUSEKEEPING_S = 5.0
_FIRST_S = 5.0  # the least time to wait for the client that started the server
_UNTOLD_S = 3600.0  # how long a server without clients stays to tell schedulers what they must know
_REFUSED_S = 3.0  # how long a refusal is shown; agents try again after 2 s
_PER_TURN = 8  # requests of one client
_STALL_S = 0.1  # shorter delays do not count


class Server:
    """Serves the store at `path` (real and absolute) until `stop`, or until there was no client for `linger_s`.

    On a network file system, `tell` is called with what the start waits for.
    """

    def __init__(self, path: str, linger_s: float = LINGER_S, tell: Tell = lambda *_: None) -> None:
        self._linger_s = linger_s
        self._stopping = False
        self._long_polls: LongPolls[Peer] = LongPolls()
        self.file = ServedFile(path, tell)
        self._epoll = select.epoll()
        try:
            self.connections = Connections(path, self.file, self._epoll, self._long_polls.drop, lambda: self._stopping)
        except BaseException:
            self._epoll.close()
            self.file.give_up()
            raise
        self._background = BackgroundThread()
        self._slow = BackgroundThread()  # for requests that may read everything, and take an hour
        self._values = BackgroundThread()
        self._threads = {thread.fileno(): thread for thread in (self._background, self._slow, self._values)}
        for fd in self._threads:
            self._epoll.register(fd, select.EPOLLIN)
        self._stewards = Stewards(self._epoll)
        self._poll_schedule = PollSchedule()
        self._turn_tickets: list[Ticket[Peer]] = []
        self._joined: list[Ticket[Peer]] = []  # that waited, and were performed with those that wake them
        self._pending: list[Ticket[Peer]] = []  # changes made in slices, answered when complete
        now = time.monotonic()
        self._looked_at = now
        self._slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - now  # how long the host was suspended since its boot
        self._due_at = now
        self._not_due_before = -math.inf  # after an error, do not try again before this time
        self._housekeeping_at = now
        self._refusal = ""  # why results could not be recorded
        self._refused_at = -math.inf

    def stop(self) -> None:
        """Finish the current turn and exit; a signal handler may call this."""
        self._stopping = True

    def wake_by(self, wake: socket.socket) -> None:
        """Wake the loop when something can be read from `wake`."""
        self._epoll.register(wake, select.EPOLLIN | select.EPOLLET)

    def run(self) -> None:
        """Serve."""
        try:
            while not (self._stopping or self.file.over):
                self._turn()
        finally:
            self._leave()

    # -- a turn -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now, events = self._look()
        # First clients that may go, then those that come, because numbers of descriptors are reused at once.
        for fd, mask in events:
            if (peer := self.connections.peer(fd)) is not None:
                self._on_peer(peer, fd, mask, now)
        for fd, _ in events:
            if self.connections.admit(fd):
                continue
            if fd == self._values.fileno():
                self._on_values()
            elif fd in self._threads:
                for ticket, reply in self._threads[fd].done():
                    if reply is not None:
                        self._answer(ticket, reply)
            elif fd in self._stewards:
                self._on_steward(fd)
        now = time.monotonic()
        for peer in list(self.connections.backlog):
            self._gather(peer, now)
        if self._turn_tickets:
            tickets, self._turn_tickets = self._turn_tickets, []
            self._perform(tickets, now)
        if now >= self._due_at:  # after the messages, which may be late only because of this loop
            with _tolerating("what is due cannot be looked at"):
                self._do_due(now)
        # Before sleeping, answer those who wait for what this turn has changed.
        if waiting := self._long_polls.take(time.monotonic()):
            began = time.monotonic()
            self._perform(waiting, began)
            now = time.monotonic()
            self._long_polls.spent(now - began, now)
        now = time.monotonic()
        with _tolerating("schedulers cannot be asked"):
            self._ask_schedulers(now)
        self.connections.flush(now)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + _HOUSEKEEPING_S
            with _tolerating("the server cannot look after itself"):
                self._housekeeping(now)
        if now >= self._leave_at() and self.connections.hide():
            log.info("leaving: nobody has been here for %g s", self._linger_s)
            self._stopping = True

    def _look(self) -> tuple[float, list[tuple[int, int]]]:
        """Wait for something to happen; return the time and what has happened."""
        began = time.monotonic()
        timeout = self._timeout(began)
        events = self._epoll.poll(timeout)
        now = time.monotonic()
        # Nothing was received while this process was stopped, suspended with its host, or waiting for a disk.
        slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - now
        stalled_s = began - self._looked_at + max(0.0, now - began - timeout) + slept_s - self._slept_s
        self._looked_at, self._slept_s = now, slept_s
        if stalled_s > _STALL_S and self.file.store.extend_leases(stalled_s):
            log.warning("the server stalled for %.1f s: all pilots' leases start again", stalled_s)
        return now, events

    def _do_due(self, now: float) -> None:
        for peer in self.connections.clients:
            if peer.pilot is not None:
                self.file.store.heard(peer.pilot, 0.0 if peer.held_up else now - peer.heard_at)
        pending = self.file.store.pending_changes
        try:
            pause_s = self.file.store.due()
        except PilotMTCError as error:  # such as a full disk, which may be temporary
            log.error("what is due cannot be done: %s", error)
            for ticket in self._pending:
                self._answer(
                    ticket, StoreError(f"{error}; it is only done in part, the rest as soon as that is possible")
                )
            self._pending.clear()
            pause_s = 1.0
            self._not_due_before = now + pause_s
        self._due_at = now + pause_s
        if self._pending and self.file.store.pending_changes < pending:
            tickets, self._pending = self._pending, []
            self._perform(tickets, now)
        self._poll_schedule.look(self.file.store.open_jobs(), now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """Wake requests that wait for the changes of the last commits."""
        wakeup = self.file.store.take_wakeup()
        self._long_polls.tell(wakeup, now)
        self._prepare(wakeup, now)

    def _prepare(self, wakeup: Wakeup, now: float) -> None:
        with _tolerating("what comes next is not known"):
            self._look_ahead(wakeup, now)

    def _look_ahead(self, wakeup: Wakeup, now: float) -> None:
        if wakeup.changed:  # a new lease or pause may end before all others
            self._due_at = max(min(self._due_at, now + self.file.store.nap()), self._not_due_before)
        if wakeup.schedulers:
            self._poll_schedule.look(self.file.store.open_jobs(), now)
            self._poll_schedule.happened(wakeup.schedulers, now)

    def _timeout(self, now: float) -> float:
        if any(not peer.full for peer in self.connections.backlog):
            return 0.0
        at = min(self._due_at, self._housekeeping_at, self._long_polls.next_at(), self._leave_at())
        at = min(at, self._poll_schedule.next_at(), self._stewards.next_at())
        return max(0.0, at - now)

    def _leave_at(self) -> float:
        """Return when the server may exit if nothing happens before."""
        since = self.connections.empty_since
        if since is None or self.connections.some_arrive or self._stewards or self.file.store.pending_changes:
            return math.inf
        linger_s = max(self._linger_s, _UNTOLD_S if self._poll_schedule.untold else 0.0)
        return since + (linger_s if self.connections.had_any else max(linger_s, _FIRST_S))

    def _on_peer(self, peer: Peer, fd: int, mask: int, now: float) -> None:
        if fd == peer.control.fileno():
            self.connections.part(peer, "its serve has ended")
        elif fd == peer.sink:
            self.connections.touched.add(peer)
        elif not mask & select.EPOLLIN:
            self.connections.part(peer, "hung up")
        elif peer.read(now):
            self.connections.backlog.add(peer)
        else:
            # Perform complete requests that came before the end: the client may have been killed.
            self.connections.backlog.add(peer)
            while peer in self.connections.backlog and not peer.full:
                self._gather(peer, now)
            self.connections.part(peer, "closed")

    def _gather(self, peer: Peer, now: float) -> None:
        """Take the next requests of `peer` into this turn."""
        try:
            for _ in range(_PER_TURN):
                if peer.full or peer.closed:
                    return
                frame = peer.decoder.next_frame()
                if frame is None:
                    self._read_on(peer)
                    return
                if not peer.software:
                    greeting = decode_greeting(frame)
                    peer.software = f"{greeting.software} {greeting.version}"
                    if greeting.pilot is not UNSET:
                        peer.who = peer.who.agent_of(greeting.pilot)
                    continue
                number, request = decode_request(frame)
                if isinstance(request, Ping):
                    peer.answer(number, Done())
                    self.connections.touched.add(peer)
                elif isinstance(request, ProtocolError):
                    peer.answer(number, request)
                    self.connections.touched.add(peer)
                elif (refused := refusal(peer.who, request)) is not None:
                    log.warning("client %d was refused: %s", peer.number, refused)
                    peer.answer(number, refused)
                    self.connections.touched.add(peer)
                elif request.handling.execution is Execution.THREAD:
                    self._do_in_thread(Ticket(peer, number, request, now))
                else:
                    if isinstance(request, GetPilots) and peer in self.connections.clients:
                        self._poll_schedule.watched(now)
                    ticket = Ticket(peer, number, request, now)
                    if request.handling.sign_of_life:
                        peer.pilot = ticket.pilot
                    self._turn_tickets.append(ticket)
                    if request.handling.bulky_reply:  # one per turn limits the memory for answers
                        if not peer.decoder.held_bytes:  # or another turn would be needed to see that
                            self._read_on(peer)
                        return
        except PilotMTCError as error:
            self.connections.dismiss(peer, error)

    def _read_on(self, peer: Peer) -> None:
        """Read from a client again: what it has sent so far is being done."""
        self.connections.backlog.discard(peer)
        self.connections.touched.add(peer)

    def _do_in_thread(self, ticket: Ticket[Peer]) -> None:
        slow = ticket.request.handling.time_limit_s > TIME_LIMIT_S
        thread = self._slow if slow else self._background
        try:
            thread.submit(ticket, self.file.store.for_thread(ticket.request))
        except PilotMTCError as error:
            self._answer(ticket, error)

    def _do_values(self, ticket: Ticket[Peer], do: Callable[[], Reply | None]) -> None:
        """Let a thread perform the part of a request that deals with files of values."""
        try:
            self._values.submit(ticket, do)
        except PilotMTCError as error:
            self._answer(ticket, error)
        else:
            ticket.peer.in_thread += 1

    def _on_values(self) -> None:
        for ticket, reply in self._values.done():
            ticket.peer.in_thread -= 1
            self.connections.touched.add(ticket.peer)
            if reply is None:
                self._turn_tickets.append(ticket)
            else:
                self._answer(ticket, reply)

    def _perform(self, tickets: Sequence[Ticket[Peer]], now: float) -> None:
        """Perform requests and those that they wake in one commit; answer them, or let them wait."""
        tickets = [ticket for ticket in tickets if not (ticket.peer.closed and ticket.request.handling.bulky_reply)]
        self._joined = []
        replies = self.file.ask([ticket.request for ticket in tickets], self.connections.log_path, self._join)
        self._settle(tickets, replies, now)
        wakeup = self.file.store.take_wakeup()
        self._long_polls.tell(wakeup, now)
        if self._joined:  # what goes on waiting now has seen all that was told
            self._settle(self._joined, replies[len(tickets) :], now)
        self.connections.flush(now)  # before all else that there is to do
        self._prepare(wakeup, now)

    def _join(self, wakeup: Wakeup) -> Iterator[AnyRequest]:
        began = time.monotonic()
        self._joined = self._long_polls.join(wakeup, began)
        for ticket in self._joined:
            yield ticket.request
        if self._joined:
            now = time.monotonic()
            self._long_polls.spent(now - began, now)

    def _settle(self, tickets: Sequence[Ticket[Peer]], replies: Sequence[Reply | PilotMTCError], now: float) -> None:
        """Answer requests, or let them wait, as those do of which there is no reply."""
        for ticket in tickets[len(replies) :]:
            self._long_polls.put(ticket)
        for ticket, reply in zip(tickets, replies, strict=False):
            if isinstance(reply, Pending):
                self._pending.append(ticket)
                self._due_at = now
            elif isinstance(reply, InThread):
                self._do_values(ticket, reply.do)
            elif (
                ticket.deadline > now
                and not ticket.peer.closed
                and not isinstance(reply, PilotMTCError)
                and not ticket.request.worth_sending(reply)
            ):
                self._long_polls.put(ticket)
            else:
                self._answer(ticket, reply)

    def _answer(self, ticket: Ticket[Peer], reply: Reply | PilotMTCError) -> None:
        if isinstance(reply, StoreError) and not reply.transient and isinstance(ticket.request, Claim | Finish):
            self._refusal, self._refused_at = str(reply), time.monotonic()
        if isinstance(ticket.request, RevokeKey):
            self.connections.cut(ticket.request.name)
        if ticket.peer.closed:
            return
        if isinstance(reply, StoreInfo):
            reply = structs.replace(reply, clients=len(self.connections.clients), owner=self.file.host)
        elif isinstance(reply, Campaigns) and time.monotonic() - self._refused_at < _REFUSED_S:
            reply = structs.replace(reply, trouble=self._refusal)
        elif isinstance(ticket.request, SetMode):
            self._housekeeping_at = 0.0  # check soon whether the mode has changed
        ticket.peer.answer(ticket.number, reply)
        self.connections.touched.add(ticket.peer)

    # -- schedulers -------------------------------------------------------------------------------------------

    def _ask_schedulers(self, now: float) -> None:
        self._stewards.expire(now)
        for url in self._poll_schedule.due(now):
            try:
                steward = self._stewards.start(url, now)
            except StoreError as error:
                log.error("%s", error)
                self._round_ended(url, str(error), now)
                continue
            try:
                fds = os.dup(steward.stream.fileno()), steward.stream.detach()
            except OSError:
                steward.stream.close()
                steward.control.close()  # it exits then
                raise
            self.connections.adopt(STEWARD, steward.control, *fds)

    def _on_steward(self, pidfd: int) -> None:
        url, trouble = self._stewards.reap(pidfd)
        self._round_ended(url, trouble, time.monotonic())

    def _round_ended(self, url: str, trouble: str, now: float) -> None:
        if trouble:
            self.file.ask([ReportJobs(url, trouble=trouble)], self.connections.log_path)
        self._poll_schedule.ended(url, now)
        self._poll_schedule.look(self.file.store.open_jobs(), now)

    # -- the end ----------------------------------------------------------------------------------------------

    def _housekeeping(self, now: float) -> None:
        for thread in self._threads.values():
            thread.expire(now)
        self.connections.look_after(now)
        roll_log(self.connections.log_path)
        if not self._stopping and self.file.still_there():
            self.connections.stay_reachable()

    def _leave(self) -> None:
        self.connections.close()
        self._stewards.close()
        for thread in self._threads.values():
            thread.close()
        self.file.close()
        self._epoll.close()
        log.info("left")


@contextlib.contextmanager
def _tolerating(what: str) -> Iterator[None]:
    """Log errors for want of descriptors, memory or disk space; affected clients get errors of their own."""
    try:
        yield
    except (OSError, PilotMTCError) as error:
        log.error("%s: %s", what, error)
