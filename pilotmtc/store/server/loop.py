"""The store server's loop.

One thread does the work. Each turn gathers what the clients have sent, does all of it in one commit, answers, and asks
again for the requests that wait for their answer (`long_poll`).
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

from pilotmtc import __version__
from pilotmtc.errors import LoginRefused, PilotMTCError, ProtocolError, StoreError
from pilotmtc.protocol.agent import Claim, Finish
from pilotmtc.protocol.base import TIME_LIMIT_S, Done, Execution, Reply, Role
from pilotmtc.protocol.client.campaigns import Campaigns
from pilotmtc.protocol.client.maintenance import RevokeKey, SetMode, StoreInfo
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.frames import MAGIC, Ping, decode_greeting, decode_request, encode_greeting
from pilotmtc.protocol.steward import ReportJobs
from pilotmtc.store.access.keys import is_valid, pilot_of
from pilotmtc.store.live.wakeups import Wakeup
from pilotmtc.store.ownership.takeover import Tell
from pilotmtc.store.requests.handlers import InThread
from pilotmtc.store.requests.slices import Pending
from pilotmtc.store.serve import roll_log
from pilotmtc.store.server.background import BackgroundThread
from pilotmtc.store.server.frame_budget import FrameBudget
from pilotmtc.store.server.listener import Listener
from pilotmtc.store.server.long_poll import LongPolls, Ticket
from pilotmtc.store.server.peer import Peer
from pilotmtc.store.server.permissions import NOBODY, STEWARD, USER, PeerIdentity, refusal
from pilotmtc.store.server.poll_schedule import PollSchedule
from pilotmtc.store.server.served_file import ServedFile
from pilotmtc.store.server.stewards import Stewards

log = logging.getLogger("pilotmtc.store.server")

LINGER_S = 60.0
_HOUSEKEEPING_S = 5.0
_FIRST_S = 5.0  # a server waits at least so long for the client that started it
_GREETING_TIMEOUT_S = 30.0
_UNREAD_S = 600.0  # a client that reads nothing of its answers for so long is taken for dead
_SILENT_S = 30.0  # in the middle of a large message, while others wait
_FAREWELL_S = 2.0
_UNTOLD_S = 3600.0  # so long a server that nobody needs tries to tell schedulers what they have to know
_REFUSED_S = 3.0  # a refusal is shown so long: agents try again after 2
_PER_TURN = 8  # requests of one client
_STALL_S = 0.1  # shorter delays do not count


class Server:
    """Serves the store at `path` (real and absolute) until it had no client for `linger_s`, or until `stop`.

    On a network file system `tell` hears what the start waits for.
    """

    def __init__(self, path: str, linger_s: float = LINGER_S, tell: Tell = lambda *_: None) -> None:
        self._path = path
        self._linger_s = linger_s
        self.file = ServedFile(path, tell)
        try:
            self._listener = Listener(path)
        except BaseException:
            self.file.give_up()
            raise
        self.file.ownership.advertise(self._listener.path)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._background = BackgroundThread()
        self._slow = BackgroundThread()  # for what may read all that there is, and take an hour
        self._values = BackgroundThread()
        self._threads = {thread.fileno(): thread for thread in (self._background, self._slow, self._values)}
        for fd in self._threads:
            self._epoll.register(fd, select.EPOLLIN)
        self._stewards = Stewards(self._epoll)
        self._poll_schedule = PollSchedule()
        self._arriving: dict[int, tuple[socket.socket, float]] = {}  # serves that have not handed over yet
        self._peers: dict[int, Peer] = {}  # by each of their descriptors
        self._clients: set[Peer] = set()
        self._helpers: set[Peer] = set()  # stewards
        self._backlog: set[Peer] = set()  # those with whole frames that are not handled yet
        self._touched: set[Peer] = set()
        self._long_polls: LongPolls[Peer] = LongPolls()
        self._frame_budget: FrameBudget[Peer] = FrameBudget()
        self._turn_tickets: list[Ticket[Peer]] = []
        self._pending: list[Ticket[Peer]] = []  # requests done in slices, answered when all is done
        self._numbers = 0
        now = time.monotonic()
        self._looked_at = now
        self._slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - now  # the host, since it was booted
        self._due_at = now
        self._not_due_before = -math.inf  # what could not be done is not tried at every turn
        self._housekeeping_at = now
        self._empty_since: float | None = now
        self._refusal = ""  # why results could not be kept
        self._refused_at = -math.inf
        self._accepting = True
        self._stopping = False

    def stop(self) -> None:
        """Finish the current turn and leave; a signal handler may call this."""
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
        # First clients that may leave, then those that may come: a descriptor's number is reused at once.
        for fd, mask in events:
            if (peer := self._peers.get(fd)) is not None:
                self._on_peer(peer, fd, mask, now)
        for fd, _ in events:
            if fd in self._arriving:
                self._on_arriving(fd)
            elif fd == self._listener.socket.fileno():
                self._accept()
            elif fd == self._values.fileno():
                self._on_values()
            elif fd in self._threads:
                for ticket, reply in self._threads[fd].done():
                    if reply is not None:
                        self._answer(ticket, reply)
            elif fd in self._stewards:
                self._on_steward(fd)
        now = time.monotonic()
        for peer in list(self._backlog):
            self._gather(peer, now)
        if self._turn_tickets:
            tickets, self._turn_tickets = self._turn_tickets, []
            self._perform(tickets, now)
        if now >= self._due_at:  # after the messages, which may be late only because this loop is
            with _bearing("what is due cannot be looked at"):
                self._do_due(now)
        # What this turn has brought goes to those who wait for it before the loop sleeps.
        if waiting := self._long_polls.take(time.monotonic()):
            began = time.monotonic()
            self._perform(waiting, began)
            now = time.monotonic()
            self._long_polls.spent(now - began, now)
        now = time.monotonic()
        with _bearing("schedulers cannot be asked"):
            self._ask_schedulers(now)
        self._flush(now)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + _HOUSEKEEPING_S
            with _bearing("the server cannot look after itself"):
                self._housekeeping(now)
        if now >= self._leave_at():
            self._try_to_leave()

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
        for peer in self._clients:
            if peer.pilot is not None:
                self.file.store.heard(peer.pilot, 0.0 if peer.held_up else now - peer.heard_at)
        pending = self.file.store.pending_changes
        try:
            pause_s = self.file.store.due()
        except PilotMTCError as error:  # a full disk, say: it may get better
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
        """Wake what waits for the changes of the last commits."""
        wakeup = self.file.store.take_wakeup()
        self._long_polls.tell(wakeup, now)
        with _bearing("what comes next is not known"):
            self._look_ahead(wakeup, now)

    def _look_ahead(self, wakeup: Wakeup, now: float) -> None:
        if wakeup.changed:  # a pause before a retry or a lease may end earlier than all that were there before
            self._due_at = max(min(self._due_at, now + self.file.store.nap()), self._not_due_before)
        if wakeup.schedulers:
            self._poll_schedule.look(self.file.store.open_jobs(), now)
            self._poll_schedule.happened(wakeup.schedulers, now)

    def _timeout(self, now: float) -> float:
        if any(not peer.full for peer in self._backlog):
            return 0.0
        at = min(self._due_at, self._housekeeping_at, self._long_polls.next_at(), self._leave_at())
        at = min(at, self._poll_schedule.next_at(), self._stewards.next_at())
        return max(0.0, at - now)

    def _leave_at(self) -> float:
        """Return when the server may leave, if nothing happens before."""
        if self._empty_since is None or self._arriving or self._stewards or self.file.store.pending_changes:
            return math.inf
        linger_s = max(self._linger_s, _UNTOLD_S if self._poll_schedule.untold else 0.0)
        return self._empty_since + (linger_s if self._numbers else max(linger_s, _FIRST_S))

    def _on_peer(self, peer: Peer, fd: int, mask: int, now: float) -> None:
        if fd == peer.control.fileno():
            self._part(peer, "its serve has ended")
        elif fd == peer.sink:
            self._touched.add(peer)
        elif not mask & select.EPOLLIN:
            self._part(peer, "hung up")
        elif peer.read(now):
            self._backlog.add(peer)
        else:
            # Whole requests that came before the end are still done: the client may only have been killed.
            self._backlog.add(peer)
            while peer in self._backlog and not peer.full:
                self._gather(peer, now)
            self._part(peer, "closed")

    def _gather(self, peer: Peer, now: float) -> None:
        """Take the next requests of `peer` into this turn."""
        try:
            for _ in range(_PER_TURN):
                if peer.full or peer.closed:
                    return
                frame = peer.decoder.next_frame()
                if frame is None:
                    self._backlog.discard(peer)
                    self._touched.add(peer)  # to be listened to again
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
                    self._touched.add(peer)
                elif isinstance(request, ProtocolError):
                    peer.answer(number, request)
                    self._touched.add(peer)
                elif (refused := refusal(peer.who, request)) is not None:
                    log.warning("client %d was refused: %s", peer.number, refused)
                    peer.answer(number, refused)
                    self._touched.add(peer)
                elif request.handling.execution is Execution.THREAD:
                    self._do_in_thread(Ticket(peer, number, request, now))
                else:
                    if isinstance(request, GetPilots) and peer in self._clients:
                        self._poll_schedule.watched(now)
                    ticket = Ticket(peer, number, request, now)
                    if request.handling.sign_of_life:
                        peer.pilot = ticket.pilot
                    self._turn_tickets.append(ticket)
                    if request.handling.bulky_reply:  # one per turn limits the memory for answers
                        return
        except PilotMTCError as error:
            self._dismiss(peer, error)

    def _do_in_thread(self, ticket: Ticket[Peer]) -> None:
        slow = ticket.request.handling.time_limit_s > TIME_LIMIT_S
        thread = self._slow if slow else self._background
        try:
            thread.submit(ticket, self.file.store.for_thread(ticket.request))
        except PilotMTCError as error:
            self._answer(ticket, error)

    def _do_values(self, ticket: Ticket[Peer], do: Callable[[], Reply | None]) -> None:
        """Do in a thread what a request about a value has to do with files."""
        try:
            self._values.submit(ticket, do)
        except PilotMTCError as error:
            self._answer(ticket, error)
        else:
            ticket.peer.in_thread += 1

    def _on_values(self) -> None:
        for ticket, reply in self._values.done():
            ticket.peer.in_thread -= 1
            self._touched.add(ticket.peer)
            if reply is None:
                self._turn_tickets.append(ticket)
            else:
                self._answer(ticket, reply)

    def _perform(self, tickets: Sequence[Ticket[Peer]], now: float) -> None:
        """Do requests in one commit; answer them, or let them wait."""
        tickets = [ticket for ticket in tickets if not (ticket.peer.closed and ticket.request.handling.bulky_reply)]
        for ticket, reply in zip(
            tickets, self.file.ask([ticket.request for ticket in tickets], self.log_path), strict=True
        ):
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
        self._tell(now)

    def _answer(self, ticket: Ticket[Peer], reply: Reply | PilotMTCError) -> None:
        if isinstance(reply, StoreError) and not reply.transient and isinstance(ticket.request, Claim | Finish):
            self._refusal, self._refused_at = str(reply), time.monotonic()
        if isinstance(ticket.request, RevokeKey):
            self._cut(ticket.request.name)
        if ticket.peer.closed:
            return
        if isinstance(reply, StoreInfo):
            reply = structs.replace(reply, clients=len(self._clients), owner=self.file.host)
        elif isinstance(reply, Campaigns) and time.monotonic() - self._refused_at < _REFUSED_S:
            reply = structs.replace(reply, trouble=self._refusal)
        elif isinstance(ticket.request, SetMode):
            self._housekeeping_at = 0.0  # checks whether the mode is another one now
        ticket.peer.answer(ticket.number, reply)
        self._touched.add(ticket.peer)

    def _flush(self, now: float) -> None:
        touched, self._touched = self._touched | self._backlog, set()
        for peer in touched:
            if peer.closed:
                continue
            if not peer.flush(now):
                self._part(peer, "hung up")
                continue
            if peer.writing:
                self._peers[peer.sink] = peer
            self._listen(peer)
        for peer in self._frame_budget.waiting():
            self._listen(peer)

    def _listen(self, peer: Peer) -> None:
        idle = peer not in self._backlog and not peer.full
        peer.listen(idle and self._frame_budget.admit(peer, peer.decoder.begun_bytes))

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
                steward.control.close()  # which tells it to end
                raise
            self._adopt(STEWARD, steward.control, *fds).say(encode_greeting(__version__))

    def _on_steward(self, pidfd: int) -> None:
        url, trouble = self._stewards.reap(pidfd)
        self._round_ended(url, trouble, time.monotonic())

    def _round_ended(self, url: str, trouble: str, now: float) -> None:
        if trouble:
            self.file.ask([ReportJobs(url, trouble=trouble)], self.log_path)
        self._poll_schedule.ended(url, now)
        self._poll_schedule.look(self.file.store.open_jobs(), now)

    # -- coming and going -------------------------------------------------------------------------------------

    def _on_arriving(self, fd: int) -> None:
        control, _ = self._arriving.pop(fd)
        self._epoll.unregister(control)
        fds: list[int] = []
        try:
            words, fds, _, _ = socket.recv_fds(control, 8192, 2)
            path, _, key = os.fsdecode(words).partition("\0")
            if len(fds) != 2 or path != self._path or self._stopping or not self.file.still_there():
                raise ProtocolError("nothing, or another store, is asked for")
            who = self._who(key)
            control.send(b"+")
            if who is not None:
                self._adopt(who, control, *fds).say(encode_greeting(__version__))
            else:
                refused = self._adopt(NOBODY, control, *fds)
                refused.say(MAGIC)
                self._dismiss(refused, LoginRefused(f"the key {key} opens nothing: it was revoked, or was never made"))
        except (OSError, PilotMTCError) as error:
            for passed in fds:
                os.close(passed)
            control.close()
            if fds:
                log.warning("a connection was refused: %s", error)

    def _who(self, key: str) -> PeerIdentity | None:
        """Return who connects with the store's key of that name, or with none; None if they may not."""
        if not key:
            return USER
        if not is_valid(self._path, key):
            return None
        if (pilot_key := pilot_of(key)) is None:
            return PeerIdentity(Role.KEY, key)
        pilot = self.file.store.find_pilot(pilot_key)
        return None if pilot is None else PeerIdentity(Role.AGENT, key, pilot)

    def _cut(self, key: str) -> None:
        """End the connections that were opened with a key that was revoked."""
        for peer in [peer for peer in self._clients if key and peer.who.key == key]:
            self._dismiss(peer, LoginRefused(f"the key {key} was revoked"))

    def _dismiss(self, peer: Peer, error: PilotMTCError) -> None:
        """Disconnect a client, and tell it why."""
        if not peer.closed:
            peer.answer(0, error)  # 0 speaks of the connection
            peer.flush(time.monotonic())
            self._part(peer, str(error))

    def _adopt(self, who: PeerIdentity, control: socket.socket, source: int, sink: int) -> Peer:
        """Take a connection as a client."""
        self._numbers += 1
        peer = Peer(self._numbers, who, control, source=source, sink=sink, epoll=self._epoll, now=time.monotonic())
        self._peers[peer.source] = self._peers[control.fileno()] = peer
        self._epoll.register(control, select.EPOLLIN)
        if who is STEWARD:
            self._helpers.add(peer)
        else:
            self._clients.add(peer)
            self._empty_since = None
            log.info("client %d has come", peer.number)
        self._touched.add(peer)
        return peer

    def _part(self, peer: Peer, why: str) -> None:
        if peer.closed:
            return
        for fd in (peer.source, peer.sink, peer.control.fileno()):
            self._peers.pop(fd, None)
        peer.close()
        if peer in self._helpers:
            self._helpers.discard(peer)
        else:
            self._clients.discard(peer)
            log.info("client %d has gone: %s", peer.number, why)
            if not self._clients:
                self._empty_since = time.monotonic()
        self._backlog.discard(peer)
        self._touched.discard(peer)
        self._frame_budget.leave(peer)
        self._long_polls.drop(peer)

    def _housekeeping(self, now: float) -> None:
        for thread in self._threads.values():
            thread.expire(now)
        if not self._accepting:
            self._accepting = True
            self._epoll.register(self._listener.socket, select.EPOLLIN)
        for fd, (control, since) in list(self._arriving.items()):
            if now - since > _GREETING_TIMEOUT_S:
                del self._arriving[fd]
                self._epoll.unregister(control)
                control.close()
        for peer in (*self._clients, *self._helpers):
            if not peer.software and now - peer.since > _GREETING_TIMEOUT_S:
                self._part(peer, "sent no greeting")
            elif peer.waiting_bytes and now - peer.moved_at > _UNREAD_S:
                self._part(peer, "does not read its answers")
        for peer in self._frame_budget.holders():
            if self._frame_budget.full and now - peer.heard_at > _SILENT_S:
                self._part(peer, "does not go on with a large message, and others wait for its room")
        roll_log(self.log_path)
        if self._stopping or not self.file.still_there():
            return
        if not self._listener.reachable():
            self._publish_again()

    @property
    def log_path(self) -> str:
        """The path of the log of a server that a serve has started."""
        return f"{os.path.splitext(self._listener.path)[0]}.log"

    def _accept(self) -> None:
        try:
            while (control := self._listener.accept()) is not None:
                self._arriving[control.fileno()] = (control, time.monotonic())
                self._epoll.register(control, select.EPOLLIN)
        except OSError as error:  # no descriptors left: connections that wait must not keep this loop busy
            log.error("nobody can be let in for now: %s", error.strerror)
            self._accepting = False
            self._epoll.unregister(self._listener.socket)

    def _publish_again(self) -> None:
        """Make the socket anew: its directory may be removed when the user logs out while the server runs."""
        listener = Listener(self._path)
        self._epoll.register(listener.socket, select.EPOLLIN)
        if self._accepting:
            self._epoll.unregister(self._listener.socket)
        self._listener.close()
        self._listener, self._accepting = listener, True
        self.file.ownership.advertise(self._listener.path)
        log.info("listening again, on %s", self._listener.path)

    def _try_to_leave(self) -> None:
        self._listener.hide()
        self._accept()
        if self._arriving or not self._accepting:  # a client came just before
            self._publish_again()
            return
        log.info("leaving: nobody has been here for %g s", self._linger_s)
        self._stopping = True

    def _leave(self) -> None:
        self._listener.close()
        deadline = time.monotonic() + _FAREWELL_S
        while any(peer.waiting_bytes for peer in self._clients) and time.monotonic() < deadline:
            for peer in list(self._clients):
                if not peer.flush(time.monotonic()):
                    self._part(peer, "hung up")
            time.sleep(0.01)
        for peer in (*self._clients, *self._helpers):
            self._part(peer, "the server leaves")
        self._stewards.close()
        for control, _ in self._arriving.values():
            control.close()
        for thread in self._threads.values():
            thread.close()
        self.file.close()
        self._epoll.close()
        log.info("left")


@contextlib.contextmanager
def _bearing(what: str) -> Iterator[None]:
    """Log that descriptors, memory or disk are short for now; clients that it concerns get an error."""
    try:
        yield
    except (OSError, PilotMTCError) as error:
        log.error("%s: %s", what, error)
