"""The store server: ``python -m pilotmtc.store.server STORE``, started by `pilotmtc.store.serve`.

One process owns the store's file, one thread does the work. Each turn of its loop gathers what the clients have sent,
does all of it in one commit, answers, and asks again for the requests that wait for their answer (`parking`).
"""

import argparse
import contextlib
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from msgspec import structs

from pilotmtc import __version__
from pilotmtc.errors import PilotMTCError, ProtocolError, StoreError
from pilotmtc.store.apart import APART
from pilotmtc.store.listener import Listener, Ownership
from pilotmtc.store.offload import Offload
from pilotmtc.store.parking import Parking, Ticket, has_something
from pilotmtc.store.peer import Peer
from pilotmtc.store.sqlite import SqliteStore
from pilotmtc.wire.frames import decode_hello, decode_request, hello
from pilotmtc.wire.messages import (
    AnyRequest,
    Claim,
    Done,
    GetCampaigns,
    GetChanges,
    GetOutput,
    GetPilots,
    GetTask,
    GetTasks,
    Ping,
    Reply,
    StoreInfo,
)
from pilotmtc.wire.views import GetOverview, GetPilotFile, GetPilotView, GetSpans

log = logging.getLogger("pilotmtc.store.server")

LINGER_S = 60.0
LINGER_VARIABLE = "PILOTMTC_SERVER_LINGER_S"
_HOUSEKEEPING_S = 5.0
_HELLO_TIMEOUT_S = 30.0
_STALLED_S = 600.0  # a client that has taken nothing of its answers for so long has died somehow
_FAREWELL_S = 2.0
_PER_TURN = 8  # requests of one client
# Their answers may be large: one of them a client and turn bounds what waits to be read.
_BULKY = (Claim, GetTasks, GetTask, GetOutput, GetChanges, GetCampaigns, GetPilots, GetOverview, GetPilotView, GetSpans)


class Server:
    """Serves the store at `path` (real and absolute) until nobody has been there for `linger_s`, or `stop`."""

    def __init__(self, path: str, linger_s: float = LINGER_S) -> None:
        self._path = path
        self._linger_s = linger_s
        with contextlib.ExitStack() as undo:
            self._ownership = Ownership(path)
            undo.callback(self._ownership.release)
            self._store = SqliteStore(path)
            undo.callback(self._store.close)
            self._identity = _identity(path)
            self._listener = Listener(path)
            undo.pop_all()
        self._ownership.advertise(self._listener.path)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._offload = Offload(path)
        self._epoll.register(self._offload, select.EPOLLIN)
        self._arriving: dict[int, tuple[socket.socket, float]] = {}  # serves that have not handed over yet
        self._peers: dict[int, Peer] = {}  # by each of their descriptors
        self._clients: set[Peer] = set()
        self._backlog: set[Peer] = set()  # those of which whole frames are here already
        self._touched: set[Peer] = set()
        self._parking: Parking[Peer] = Parking()
        self._turn_tickets: list[Ticket[Peer]] = []
        self._numbers = 0
        now = time.monotonic()
        self._due_at = now
        self._housekeeping_at = now
        self._empty_since: float | None = now
        self._stopping = False

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
        now = time.monotonic()
        events = self._epoll.poll(self._timeout(now))
        # First those that may go, then those that may come: a descriptor's number is used again at once.
        for fd, mask in events:
            if (peer := self._peers.get(fd)) is not None:
                self._on_peer(peer, fd, mask)
        for fd, _ in events:
            if fd in self._arriving:
                self._on_arriving(fd)
            elif fd == self._listener.socket.fileno():
                self._accept()
            elif fd == self._offload.fileno():
                for ticket, reply in self._offload.done():
                    self._answer(ticket, reply)
        now = time.monotonic()
        for peer in list(self._backlog):
            self._gather(peer, now)
        if now >= self._due_at:
            self._do_due(now)
        if self._turn_tickets:
            tickets, self._turn_tickets = self._turn_tickets, []
            self._perform(tickets, now)
        # What this very turn has brought is given to those who wait for it before the loop sleeps.
        if waiting := self._parking.take(time.monotonic()):
            began = time.monotonic()
            self._perform(waiting, began)
            now = time.monotonic()
            self._parking.spent(now - began, now)
        now = time.monotonic()
        self._flush(now)
        if now >= self._housekeeping_at:
            self._housekeeping(now)
        if self._empty_since is not None and now - self._empty_since >= self._linger_s and not self._arriving:
            self._try_to_leave()

    def _do_due(self, now: float) -> None:
        try:
            pause_s = self._store.due()
        except PilotMTCError as error:  # a full disk, say: it may get better
            log.error("what is due cannot be done: %s", error)
            pause_s = 1.0
        self._due_at = now + min(max(pause_s, 0.0), 10.0)
        self._parking.tell(self._store.take_news(), now)

    def _timeout(self, now: float) -> float:
        if any(not peer.full for peer in self._backlog):
            return 0.0
        at = min(self._due_at, self._housekeeping_at, self._parking.next_at())
        if self._empty_since is not None and not self._arriving:
            at = min(at, self._empty_since + self._linger_s)
        return max(0.0, at - now)

    def _on_peer(self, peer: Peer, fd: int, mask: int) -> None:
        if fd == peer.control.fileno():
            self._part(peer, "its serve has ended")
        elif fd == peer.sink:
            self._touched.add(peer)
        elif not mask & select.EPOLLIN:
            self._part(peer, "hung up")
        elif peer.read():
            self._backlog.add(peer)
        else:
            # Whole requests that came before the end are still done: the client may only have been killed.
            self._backlog.add(peer)
            while peer in self._backlog and not peer.full:
                self._gather(peer, time.monotonic())
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
                    continue
                number, request = decode_request(frame)
                if isinstance(request, Ping):
                    peer.answer(number, Done())
                    self._touched.add(peer)
                elif isinstance(request, ProtocolError):
                    peer.answer(number, request)
                    self._touched.add(peer)
                elif isinstance(request, APART):
                    self._offload.submit(Ticket(peer, number, request, now))
                elif isinstance(request, GetPilotFile):
                    self._read_file(Ticket(peer, number, request, now), request)
                else:
                    self._turn_tickets.append(Ticket(peer, number, request, now))
                    if isinstance(request, _BULKY):
                        return
        except PilotMTCError as error:
            peer.answer(0, error)  # 0 speaks of the connection
            peer.flush(now)
            self._part(peer, str(error))

    def _read_file(self, ticket: Ticket[Peer], request: GetPilotFile) -> None:
        """Have a file read by the side: it may lie on a file system that hangs."""
        try:
            directory = self._store.pilot_directory(request.pilot)
        except PilotMTCError as error:
            self._answer(ticket, error)
        else:
            self._offload.submit(ticket, directory)

    def _perform(self, tickets: Sequence[Ticket[Peer]], now: float) -> None:
        """Do requests in one commit; answer those that have an answer, park the others."""
        tickets = [ticket for ticket in tickets if not (ticket.peer.closed and isinstance(ticket.request, _BULKY))]
        for ticket, reply in zip(tickets, self._ask([ticket.request for ticket in tickets]), strict=True):
            if (
                ticket.deadline > now
                and not ticket.peer.closed
                and not isinstance(reply, PilotMTCError)
                and not has_something(ticket.request, reply)
            ):
                self._parking.put(ticket)
            else:
                self._answer(ticket, reply)
        self._parking.tell(self._store.take_news(), now)

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
            self._store.close()
            self._store = SqliteStore(self._path)  # whatever was half done is undone
            return StoreError(
                f"a fault in pilotmtc itself: {type(error).__name__}: {error}; please report it with the log "
                f"{os.path.splitext(self._listener.path)[0]}.log"
            )

    def _answer(self, ticket: Ticket[Peer], reply: Reply | PilotMTCError) -> None:
        if ticket.peer.closed:
            return
        if isinstance(reply, StoreInfo):
            reply = structs.replace(reply, clients=len(self._clients))
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
            peer.listen(peer not in self._backlog and not peer.full)

    # -- coming and going -------------------------------------------------------------------------------------

    def _on_arriving(self, fd: int) -> None:
        control, _ = self._arriving.pop(fd)
        self._epoll.unregister(control)
        fds: list[int] = []
        now = time.monotonic()
        try:
            path, fds, _, _ = socket.recv_fds(control, 4096, 2)
            if len(fds) != 2 or os.fsdecode(path) != self._path or not self._still_there():
                raise ProtocolError("nothing, or another store, is asked for")
            control.send(b"+")
            self._numbers += 1
            peer = Peer(self._numbers, control, source=fds[0], sink=fds[1], epoll=self._epoll, now=now)
        except (OSError, ProtocolError) as error:
            for passed in fds:
                os.close(passed)
            control.close()
            if fds:
                log.warning("a connection was refused: %s", error)
            return
        self._peers[peer.source] = self._peers[control.fileno()] = peer
        self._epoll.register(control, select.EPOLLIN)
        self._clients.add(peer)
        self._empty_since = None
        log.info("client %d has come", peer.number)
        peer.say(hello(__version__))
        self._touched.add(peer)

    def _part(self, peer: Peer, why: str) -> None:
        if peer.closed:
            return
        for fd in (peer.source, peer.sink, peer.control.fileno()):
            self._peers.pop(fd, None)
        peer.close()
        self._clients.discard(peer)
        self._backlog.discard(peer)
        self._touched.discard(peer)
        self._parking.drop(peer)
        log.info("client %d has gone: %s", peer.number, why)
        if not self._clients:
            self._empty_since = time.monotonic()

    def _still_there(self) -> bool:
        """Return whether the file at the store's path is the one that is open; leave if it is not."""
        if not self._stopping and (_identity(self._path) != self._identity or not self._ownership.held()):
            log.warning("leaving: %s was removed or replaced", self._path)
            self._stopping = True
        return not self._stopping

    def _housekeeping(self, now: float) -> None:
        self._housekeeping_at = now + _HOUSEKEEPING_S
        for fd, (control, since) in list(self._arriving.items()):
            if now - since > _HELLO_TIMEOUT_S:
                del self._arriving[fd]
                self._epoll.unregister(control)
                control.close()
        for peer in list(self._clients):
            if not peer.software and now - peer.since > _HELLO_TIMEOUT_S:
                self._part(peer, "said no hello")
            elif peer.waiting_bytes and now - peer.moved_at > _STALLED_S:
                self._part(peer, "does not read its answers")
        if not self._still_there():
            return
        if not self._listener.reachable():
            self._publish_again()

    def _accept(self) -> None:
        while (control := self._listener.accept()) is not None:
            self._arriving[control.fileno()] = (control, time.monotonic())
            self._epoll.register(control, select.EPOLLIN)

    def _publish_again(self) -> None:
        """Make a socket anew: its directory may be removed when its owner logs out, with the server still there."""
        self._epoll.unregister(self._listener.socket)
        self._listener.close()
        self._listener = Listener(self._path)
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._ownership.advertise(self._listener.path)
        log.info("listening again, on %s", self._listener.path)

    def _try_to_leave(self) -> None:
        self._listener.hide()
        self._accept()
        if self._arriving:  # somebody came in just before
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
        for peer in list(self._clients):
            self._part(peer, "the server leaves")
        for control, _ in self._arriving.values():
            control.close()
        self._offload.close()
        self._store.close()
        self._ownership.release()
        self._epoll.close()
        log.info("left")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the store that `argv` names; return the exit code."""
    parser = argparse.ArgumentParser(prog="pilotmtc.store.server", description="Started by serve, not by people.")
    parser.add_argument("store")
    parser.add_argument("--ready-fd", type=int, help="where to say 'ready', or what is wrong")
    parser.add_argument("--linger", type=float, default=float(os.environ.get(LINGER_VARIABLE, LINGER_S)))
    options = parser.parse_args(argv)
    with contextlib.suppress(PermissionError):  # a leader already
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level=logging.INFO)
    path = os.path.realpath(options.store)
    os.chdir("/")
    try:
        server = Server(path, options.linger)
    except PilotMTCError as error:
        log.error("%s cannot be served: %s", path, error)
        _say(options.ready_fd, f"{type(error).__name__}\n{error}")
        return error.exit_code
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.wake_by(woken)
    log.info("serving %s", path)
    _say(options.ready_fd, "ready")
    server.run()
    return 0


def _say(fd: int | None, words: str) -> None:
    if fd is None:
        return
    with contextlib.suppress(BrokenPipeError):  # the serve that asked has gone; others will come
        os.write(fd, words.encode()[:60_000])
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
