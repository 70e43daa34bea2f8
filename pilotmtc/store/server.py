"""The store server: ``python -m pilotmtc.store.server STORE``, started by `pilotmtc.store.serve`.

One process owns the store's file, one thread does the work. Each turn of its loop gathers what the clients have sent,
does all of it in one commit, answers, and asks again for the requests that wait for their answer (`parking`).
"""

import argparse
import contextlib
import logging
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

from msgspec import UNSET, structs

from pilotmtc import __version__
from pilotmtc.errors import LoginRefused, PilotMTCError, ProtocolError, StoreError
from pilotmtc.here import speak_utf8
from pilotmtc.store.apart import APART
from pilotmtc.store.keys import is_valid, keyed_pilots, pilot_of
from pilotmtc.store.listener import Listener, Ownership
from pilotmtc.store.offload import Offload
from pilotmtc.store.owner import EXIT_MOVED, Lease
from pilotmtc.store.parking import Parking, Ticket, has_something
from pilotmtc.store.peer import Peer
from pilotmtc.store.place import NETWORK, place_of
from pilotmtc.store.rights import NOBODY, STEWARD, USER, Who, refusal
from pilotmtc.store.room import Room
from pilotmtc.store.rounds import Rounds
from pilotmtc.store.serve import close_inherited, roll_log
from pilotmtc.store.sqlite import News, SqliteStore
from pilotmtc.store.stewards import Stewards
from pilotmtc.store.takeover import ServedHere, Tell, become_owner
from pilotmtc.store.wishes import Underway
from pilotmtc.wire.base import Role
from pilotmtc.wire.frames import MAGIC, decode_hello, decode_request, hello
from pilotmtc.wire.messages import (
    AnyRequest,
    AttachPilot,
    Campaigns,
    Claim,
    Done,
    Finish,
    GetCampaigns,
    GetChanges,
    GetOutput,
    GetPilots,
    GetTask,
    GetTasks,
    Heartbeat,
    Ping,
    Release,
    Reply,
    ReportJobs,
    RevokeKey,
    SetMode,
    Started,
    StoreInfo,
)
from pilotmtc.wire.views import GetOverview, GetPilotFile, GetPilotView, GetSpans

log = logging.getLogger("pilotmtc.store.server")

LINGER_S = 60.0
LINGER_VARIABLE = "PILOTMTC_SERVER_LINGER_S"
LEASE_S = 60.0  # a pilot that is silent for so long is given up
LEASE_VARIABLE = "PILOTMTC_SERVER_LEASE_S"
_HOUSEKEEPING_S = 5.0
_FIRST_S = 5.0  # so long a server waits at least for who has started it
_HELLO_TIMEOUT_S = 30.0
_STALLED_S = 600.0  # a client that has taken nothing of its answers for so long has died somehow
_SILENT_S = 30.0  # in the middle of a large message, while others wait
_FAREWELL_S = 2.0
_UNTOLD_S = 3600.0  # so long a server that nobody needs tries to tell schedulers what they have to know
_REFUSED_S = 3.0  # so long a refusal is told of: agents try again after 2
_PER_TURN = 8  # requests of one client
_DEAF_S = 0.1  # what is less does not count
_OF_AGENTS = (AttachPilot, Claim, Finish, Heartbeat, Release, Started)
# Their answers may be large: one of them a client and turn bounds what waits to be read.
_BULKY = (Claim, GetTasks, GetTask, GetOutput, GetChanges, GetCampaigns, GetPilots, GetOverview, GetPilotView, GetSpans)


class Server:
    """Serves the store at `path` (real and absolute) until nobody has been there for `linger_s`, or `stop`.

    On a network file system `tell` hears what the start waits for.
    """

    def __init__(self, path: str, linger_s: float = LINGER_S, tell: Tell = lambda *_: None) -> None:
        self._path = path
        self._linger_s = linger_s
        self._place = place_of(path)
        self.exclusive = self._place.mode == NETWORK
        self.ousted = False  # whether the names beside the store may be those of another server
        with contextlib.ExitStack() as undo:
            self._ownership: Ownership | Lease = become_owner(path, tell) if self.exclusive else Ownership(path)
            undo.callback(self._ownership.release)
            self._identity: tuple[int, int] | None = None
            self._store = self._open()
            undo.callback(self._store.close)
            self._identity = _identity(path)
            self._take_up_keys()
            self._listener = Listener(path)
            undo.pop_all()
        self._ownership.advertise(self._listener.path)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._offload = Offload(self._do_beside)
        self._epoll.register(self._offload, select.EPOLLIN)
        self._stewards = Stewards(self._epoll)
        self._rounds = Rounds()
        self._arriving: dict[int, tuple[socket.socket, float]] = {}  # serves that have not handed over yet
        self._peers: dict[int, Peer] = {}  # by each of their descriptors
        self._clients: set[Peer] = set()
        self._helpers: set[Peer] = set()  # stewards
        self._backlog: set[Peer] = set()  # those of which whole frames are here already
        self._touched: set[Peer] = set()
        self._parking: Parking[Peer] = Parking()
        self._room: Room[Peer] = Room()
        self._turn_tickets: list[Ticket[Peer]] = []
        self._wishing: list[Ticket[Peer]] = []  # they are answered when what they want is done
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

    def _open(self) -> SqliteStore:
        lease_s = float(os.environ.get(LEASE_VARIABLE, LEASE_S))
        return SqliteStore(self._path, lease_s=lease_s, exclusive=self.exclusive, prove=self._prove)

    def _prove(self) -> None:
        """Return if nobody else can have the store, and its name still leads to the file that is open.

        Raises
        ------
        StoreError
            If not: nothing may be written, and nothing that was may be told.
        """
        self._ownership.prove()
        if self._identity is None:  # it is only being opened
            return
        try:
            there = _identity(self._path)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be looked at: {error.strerror}; nothing may be written") from error
        if there != self._identity:
            self._stopping = True
            raise StoreError(
                f"{self._path} was moved, removed or replaced under its server, which leaves; what it has acknowledged "
                "is in the file that was there: put that back, or name its new place with --store"
            )

    def _take_up_keys(self) -> None:
        """See to the keys of pilots that are over, which who should have taken them away has left."""
        try:
            self._store.watch_keys(keyed_pilots(self._path))
        except StoreError as error:
            log.error("keys of pilots that are over are not looked for: %s", error)

    def stop(self) -> None:
        """Finish what is at hand and leave; may be called by a signal handler."""
        self._stopping = True

    def wake_by(self, wake: socket.socket) -> None:
        """Let the loop look around when something can be read from `wake`."""
        self._epoll.register(wake, select.EPOLLIN | select.EPOLLET)

    def run(self) -> None:
        """Serve."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._leave()

    # -- a turn -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now, events = self._look()
        # First those that may go, then those that may come: a descriptor's number is used again at once.
        for fd, mask in events:
            if (peer := self._peers.get(fd)) is not None:
                self._on_peer(peer, fd, mask, now)
        for fd, _ in events:
            if fd in self._arriving:
                self._on_arriving(fd)
            elif fd == self._listener.socket.fileno():
                self._accept()
            elif fd == self._offload.fileno():
                for ticket, reply in self._offload.done():
                    self._answer(ticket, reply)
            elif fd in self._stewards:
                self._on_steward(fd)
        now = time.monotonic()
        for peer in list(self._backlog):
            self._gather(peer, now)
        if self._turn_tickets:
            tickets, self._turn_tickets = self._turn_tickets, []
            self._perform(tickets, now)
        if now >= self._due_at:  # after what has been heard, which may be late for no other reason than that we are
            with _bearing("what is due cannot be looked at"):
                self._do_due(now)
        # What this very turn has brought is given to those who wait for it before the loop sleeps.
        if waiting := self._parking.take(time.monotonic()):
            began = time.monotonic()
            self._perform(waiting, began)
            now = time.monotonic()
            self._parking.spent(now - began, now)
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
        # Stopped, suspended with its host, or held up by a disk, the server has heard nobody.
        slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - now
        deaf_s = began - self._looked_at + max(0.0, now - began - timeout) + slept_s - self._slept_s
        self._looked_at, self._slept_s = now, slept_s
        if deaf_s > _DEAF_S and self._store.was_deaf(deaf_s):
            log.warning("nobody could be heard for %.1f s: all pilots' leases begin anew", deaf_s)
        return now, events

    def _do_due(self, now: float) -> None:
        for peer in self._clients:
            if peer.pilot is not None:
                self._store.heard(peer.pilot, now - peer.heard_at)
        wishes = self._store.wishes
        try:
            pause_s = self._store.due()
        except PilotMTCError as error:  # a full disk, say: it may get better
            log.error("what is due cannot be done: %s", error)
            for ticket in self._wishing:
                self._answer(
                    ticket, StoreError(f"{error}; it is only done in part, the rest as soon as that is possible")
                )
            self._wishing.clear()
            pause_s = 1.0
            self._not_due_before = now + pause_s
        self._due_at = now + pause_s
        if self._wishing and self._store.wishes < wishes:
            tickets, self._wishing = self._wishing, []
            self._perform(tickets, now)
        self._rounds.look(self._store.open_jobs(), now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """Pass on what commits have brought."""
        news = self._store.take_news()
        self._parking.tell(news, now)
        with _bearing("what comes next is not known"):
            self._look_ahead(news, now)

    def _look_ahead(self, news: News, now: float) -> None:
        if news.changed:  # a pause before a retry or a lease may end earlier than all that were there before
            self._due_at = max(min(self._due_at, now + self._store.nap()), self._not_due_before)
        if news.jobs:
            self._rounds.look(self._store.open_jobs(), now)
            self._rounds.happened(news.jobs, now)

    def _timeout(self, now: float) -> float:
        if any(not peer.full for peer in self._backlog):
            return 0.0
        at = min(self._due_at, self._housekeeping_at, self._parking.next_at(), self._leave_at())
        at = min(at, self._rounds.next_at(), self._stewards.next_at())
        return max(0.0, at - now)

    def _leave_at(self) -> float:
        """Return when there will be no use in being here any more, as things are."""
        if self._empty_since is None or self._arriving or self._stewards or self._store.wishes:
            return math.inf
        linger_s = max(self._linger_s, _UNTOLD_S if self._rounds.untold else 0.0)
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
                    greeting = decode_hello(frame)
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
                elif isinstance(request, APART):
                    self._aside(Ticket(peer, number, request, now))
                elif isinstance(request, GetPilotFile):
                    self._read_file(Ticket(peer, number, request, now), request)
                else:
                    if isinstance(request, GetPilots) and peer in self._clients:
                        self._rounds.watched(now)
                    elif isinstance(request, _OF_AGENTS):
                        peer.pilot = request.pilot
                    self._turn_tickets.append(Ticket(peer, number, request, now))
                    if isinstance(request, _BULKY):
                        return
        except PilotMTCError as error:
            self._dismiss(peer, error)

    def _read_file(self, ticket: Ticket[Peer], request: GetPilotFile) -> None:
        """Have a file read by the side: it may lie on a file system that hangs."""
        try:
            directory = self._store.pilot_directory(request.pilot)
        except PilotMTCError as error:
            self._answer(ticket, error)
        else:
            self._aside(ticket, directory)

    def _do_beside(self, request: AnyRequest) -> Reply:
        return self._store.aside(request)

    def _aside(self, ticket: Ticket[Peer], directory: str = "") -> None:
        try:
            self._offload.submit(ticket, directory)
        except StoreError as error:
            self._answer(ticket, error)

    def _perform(self, tickets: Sequence[Ticket[Peer]], now: float) -> None:
        """Do requests in one commit; answer those that have an answer, park the others."""
        tickets = [ticket for ticket in tickets if not (ticket.peer.closed and isinstance(ticket.request, _BULKY))]
        for ticket, reply in zip(tickets, self._ask([ticket.request for ticket in tickets]), strict=True):
            if isinstance(reply, Underway):
                self._wishing.append(ticket)
                self._due_at = now
            elif (
                ticket.deadline > now
                and not ticket.peer.closed
                and not isinstance(reply, PilotMTCError)
                and not has_something(ticket.request, reply)
            ):
                self._parking.put(ticket)
            else:
                self._answer(ticket, reply)
        self._tell(now)

    def _ask(self, requests: list[AnyRequest]) -> list[Reply | PilotMTCError]:
        if not requests:
            return []
        try:
            return list(self._store.call_many(requests))
        except PilotMTCError as error:
            return [error] * len(requests)
        except Exception:
            # A bug that one request brings out must not take the store away from everybody: clients ask again, and
            # so would bring down every server after this one. It is logged, and the request is told so.
            log.exception("a request could not be done; trying each by itself")
        return [self._ask_one(request) for request in requests]

    def _ask_one(self, request: AnyRequest) -> Reply | PilotMTCError:
        try:
            return self._store.call_many([request])[0]
        except PilotMTCError as error:
            return error
        except Exception as error:
            log.exception("a request cannot be done: %.1000r", request)
            try:
                self._store.close()
                self._store = self._open()  # whatever was half done is undone
            except PilotMTCError as failure:  # the next server may be able to
                self._stopping = True
                return failure
            return StoreError(
                f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it with the log "
                f"{self.log_path}"
            )

    def _answer(self, ticket: Ticket[Peer], reply: Reply | PilotMTCError) -> None:
        if isinstance(reply, StoreError) and not reply.transient and isinstance(ticket.request, Claim | Finish):
            self._refusal, self._refused_at = str(reply), time.monotonic()
        if isinstance(ticket.request, RevokeKey):
            self._cut(ticket.request.name)
        if ticket.peer.closed:
            return
        if isinstance(reply, StoreInfo):
            owner = self._ownership.host if isinstance(self._ownership, Lease) else ""
            reply = structs.replace(reply, clients=len(self._clients), owner=owner)
        elif isinstance(reply, Campaigns) and time.monotonic() - self._refused_at < _REFUSED_S:
            reply = structs.replace(reply, trouble=self._refusal)
        elif isinstance(ticket.request, SetMode):
            self._housekeeping_at = 0.0  # looks whether it is another one
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
        for peer in self._room.waiting():
            self._listen(peer)

    def _listen(self, peer: Peer) -> None:
        idle = peer not in self._backlog and not peer.full
        peer.listen(idle and self._room.admit(peer, peer.decoder.begun_bytes))

    # -- schedulers -------------------------------------------------------------------------------------------

    def _ask_schedulers(self, now: float) -> None:
        self._stewards.expire(now)
        for url in self._rounds.due(now):
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
                steward.control.close()  # by which it knows that it has to end
                raise
            self._adopt(STEWARD, steward.control, *fds).say(hello(__version__))

    def _on_steward(self, pidfd: int) -> None:
        url, trouble = self._stewards.reap(pidfd)
        self._round_ended(url, trouble, time.monotonic())

    def _round_ended(self, url: str, trouble: str, now: float) -> None:
        if trouble:
            self._ask([ReportJobs(url, trouble=trouble)])
        self._rounds.ended(url, now)
        self._rounds.look(self._store.open_jobs(), now)

    # -- coming and going -------------------------------------------------------------------------------------

    def _on_arriving(self, fd: int) -> None:
        control, _ = self._arriving.pop(fd)
        self._epoll.unregister(control)
        fds: list[int] = []
        try:
            words, fds, _, _ = socket.recv_fds(control, 8192, 2)
            path, _, key = os.fsdecode(words).partition("\0")
            if len(fds) != 2 or path != self._path or not self._still_there():
                raise ProtocolError("nothing, or another store, is asked for")
            who = self._who(key)
            control.send(b"+")
            if who is not None:
                self._adopt(who, control, *fds).say(hello(__version__))
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

    def _who(self, key: str) -> Who | None:
        """Return who comes with the store's key of that name, or with none; None if they may not."""
        if not key:
            return USER
        if not is_valid(self._path, key):
            return None
        if (pilot_key := pilot_of(key)) is None:
            return Who(Role.KEY, key)
        pilot = self._store.find_pilot(pilot_key)
        return None if pilot is None else Who(Role.AGENT, key, pilot)

    def _cut(self, key: str) -> None:
        """End the connections that were opened with a key that opens nothing any more."""
        for peer in [peer for peer in self._clients if key and peer.who.key == key]:
            self._dismiss(peer, LoginRefused(f"the key {key} was revoked"))

    def _dismiss(self, peer: Peer, error: PilotMTCError) -> None:
        """Tell a client why it has to go."""
        if not peer.closed:
            peer.answer(0, error)  # 0 speaks of the connection
            peer.flush(time.monotonic())
            self._part(peer, str(error))

    def _adopt(self, who: Who, control: socket.socket, source: int, sink: int) -> Peer:
        """Make a client of whoever is at the other end."""
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
        self._room.leave(peer)
        self._parking.drop(peer)

    def _still_there(self) -> bool:
        """Return whether the file at the store's path is the one that is open, and opened as it should be.

        If not, leave.
        """
        if self._stopping:
            return False
        if _identity(self._path) != self._identity or not self._ownership.held():
            log.warning("leaving: %s was moved, removed or replaced", self._path)
            if self.exclusive:
                os._exit(EXIT_MOVED)  # nothing under its name is ours any more
            self._stopping = True
        elif place_of(self._path).mode != self._place.mode:
            log.info("leaving: %s is to be opened in another mode", self._path)
            self._stopping = True
        return not self._stopping

    def _housekeeping(self, now: float) -> None:
        self._offload.expire(now)
        if not self._accepting:
            self._accepting = True
            self._epoll.register(self._listener.socket, select.EPOLLIN)
        for fd, (control, since) in list(self._arriving.items()):
            if now - since > _HELLO_TIMEOUT_S:
                del self._arriving[fd]
                self._epoll.unregister(control)
                control.close()
        for peer in (*self._clients, *self._helpers):
            if not peer.software and now - peer.since > _HELLO_TIMEOUT_S:
                self._part(peer, "said no hello")
            elif peer.waiting_bytes and now - peer.moved_at > _STALLED_S:
                self._part(peer, "does not read its answers")
        for peer in self._room.holders():
            if self._room.full and now - peer.heard_at > _SILENT_S:
                self._part(peer, "does not go on with a large message, and others wait for its room")
        roll_log(self.log_path)
        if not self._still_there():
            return
        if not self._listener.reachable():
            self._publish_again()

    @property
    def log_path(self) -> str:
        """Where the log is of a server that was started by a serve."""
        return f"{os.path.splitext(self._listener.path)[0]}.log"

    def _accept(self) -> None:
        try:
            while (control := self._listener.accept()) is not None:
                self._arriving[control.fileno()] = (control, time.monotonic())
                self._epoll.register(control, select.EPOLLIN)
        except OSError as error:  # no descriptors left: who waits to come in must not keep this loop busy
            log.error("nobody can be let in for now: %s", error.strerror)
            self._accepting = False
            self._epoll.unregister(self._listener.socket)

    def _publish_again(self) -> None:
        """Make a socket anew: its directory may be removed when its owner logs out, with the server still there."""
        listener = Listener(self._path)
        self._epoll.register(listener.socket, select.EPOLLIN)
        if self._accepting:
            self._epoll.unregister(self._listener.socket)
        self._listener.close()
        self._listener, self._accepting = listener, True
        self._ownership.advertise(self._listener.path)
        log.info("listening again, on %s", self._listener.path)

    def _try_to_leave(self) -> None:
        self._listener.hide()
        self._accept()
        if self._arriving or not self._accepting:  # somebody came in just before
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
        self._offload.close()
        self._let_go()
        self._ownership.release()
        self._epoll.close()
        log.info("left")

    def _let_go(self) -> None:
        """Bring the log into the file, and remove it unless its name may be another server's by now."""
        try:
            if self.exclusive:
                self._store.complete()
            elif not self._ownership.held():
                self.ousted = True
            elif _identity(self._path) != self._identity:
                self._store.close_moved()
            else:
                self._store.close()
        except (StoreError, OSError) as error:  # whoever opens the file next does it
            log.error("the store was not closed: %s", error)
            self.ousted = True


@contextlib.contextmanager
def _bearing(what: str) -> Iterator[None]:
    """Bear that there are no descriptors left, no room, or no disk for now: clients are told when it concerns them."""
    try:
        yield
    except (OSError, PilotMTCError) as error:
        log.error("%s: %s", what, error)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        seen = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_dev, seen.st_ino


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the store that `argv` names; return the exit code."""
    parser = argparse.ArgumentParser(prog="pilotmtc.store.server", description="Started by serve, not by people.")
    parser.add_argument("store")
    parser.add_argument("--ready-fd", type=int, help="where to say 'ready', or what is wrong")
    parser.add_argument("--lock-fd", type=int, help="the lock of those that start, kept until this one serves")
    parser.add_argument("--linger", type=float, default=float(os.environ.get(LINGER_VARIABLE, LINGER_S)))
    options = parser.parse_args(argv)
    close_inherited(options.ready_fd, options.lock_fd)
    with contextlib.suppress(PermissionError):  # a leader already
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level=logging.INFO)
    path = os.path.realpath(options.store)
    os.chdir("/")
    report = Report(options.ready_fd, options.lock_fd)
    try:
        server = Server(path, options.linger, report.tell)
    except ServedHere as error:
        log.info("not needed: %s", error)
        report.end("served" if error.socket else "StoreBusy", error.socket or str(error))
        return error.exit_code
    except PilotMTCError as error:
        log.error("%s cannot be served: %s", path, error)
        report.end(type(error).__name__, str(error))
        return error.exit_code
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.wake_by(woken)
    log.info("serving %s", path)
    report.end("ready", "")
    server.run()
    if server.exclusive or server.ousted:
        os._exit(0)  # SQLite, asked to close, would remove by name what may be the next owner's by now
    return 0


class Report:
    """How the start goes: its first word goes to the serve that asked, through a pipe; later ones into the lock's file,
    where the serves that wait find them."""

    def __init__(self, ready_fd: int | None, lock_fd: int | None) -> None:
        self._ready_fd = ready_fd
        self._lock_fd = lock_fd
        self._told = ""

    def tell(self, word: str, message: str) -> None:
        """Say how it stands: the name of an error, ``wait``, ``served`` or ``ready``, and the rest."""
        text = f"{word}\n{message}"
        if self._lock_fd is not None and text != self._told:
            with contextlib.suppress(OSError):  # a full disk: the others wait without being told
                os.ftruncate(self._lock_fd, 0)
                os.pwrite(self._lock_fd, text.encode()[:4000], 0)
        self._told = text
        if self._ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # the serve that asked has gone; others will come
                os.write(self._ready_fd, text.encode()[:60_000])
            os.close(self._ready_fd)
            self._ready_fd = None

    def end(self, word: str, message: str) -> None:
        """Say the last word, and let go of the lock."""
        self.tell(word, message)
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = None


if __name__ == "__main__":
    speak_utf8()
    sys.exit(main())
