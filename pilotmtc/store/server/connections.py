"""Clients that come and go: where they arrive, who they are, what is sent to them, and how they are disconnected."""

import logging
import os
import select
import socket
import time
from collections.abc import Callable

from pilotmtc import __version__
from pilotmtc.errors import LoginRefused, PilotMTCError, ProtocolError
from pilotmtc.protocol.base import Role
from pilotmtc.protocol.frames import MAGIC, encode_greeting
from pilotmtc.store.access.keys import is_valid, pilot_of
from pilotmtc.store.server.frame_budget import FrameBudget
from pilotmtc.store.server.listener import Listener
from pilotmtc.store.server.peer import Peer
from pilotmtc.store.server.permissions import NOBODY, STEWARD, USER, PeerIdentity
from pilotmtc.store.server.served_file import ServedFile

log = logging.getLogger("pilotmtc.store.server")

_GREETING_TIMEOUT_S = 30.0
_UNREAD_S = 600.0  # a client that does not read its answers for this time counts as dead
_SILENT_S = 30.0  # the longest silence within a large message while others wait
_FAREWELL_S = 2.0


class Connections:
    """The connections of the server of the store at `path`.

    Parameters
    ----------
    epoll
        Watches all descriptors.
    parted
        Called with each client that was disconnected.
    is_stopping
        Returns whether the server is about to exit, so that it takes no new clients.

    Attributes
    ----------
    clients
        All connected clients except stewards.
    backlog
        Clients and stewards with complete frames that were not handled yet.
    touched
        Those to which something may have to be sent, or from which to read again.
    empty_since
        Since when there has been no client; None: there is one.
    """

    def __init__(
        self,
        path: str,
        file: ServedFile,
        epoll: select.epoll,
        parted: Callable[[Peer], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._path = path
        self._file = file
        self._epoll = epoll
        self._parted = parted
        self._is_stopping = is_stopping
        self._listener = Listener(path)
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._accepting = True
        self._arriving: dict[int, tuple[socket.socket, float]] = {}  # connections of `serve` without descriptors so far
        self._peers: dict[int, Peer] = {}  # by each of their descriptors
        self._stewards: set[Peer] = set()
        self._frame_budget: FrameBudget[Peer] = FrameBudget()
        self._numbers = 0
        self.clients: set[Peer] = set()
        self.backlog: set[Peer] = set()
        self.touched: set[Peer] = set()
        self.empty_since: float | None = time.monotonic()
        self._file.ownership.advertise(self._listener.path)

    @property
    def log_path(self) -> str:
        """The path of the server's log, if `serve` has started it."""
        return f"{os.path.splitext(self._listener.path)[0]}.log"

    @property
    def had_any(self) -> bool:
        """Whether there was ever a client."""
        return self._numbers > 0

    @property
    def some_arrive(self) -> bool:
        """Whether somebody is about to become a client."""
        return bool(self._arriving)

    # -- coming -----------------------------------------------------------------------------------------------

    def peer(self, fd: int) -> Peer | None:
        """Return the client with this descriptor; None if it is not a client's."""
        return self._peers.get(fd)

    def admit(self, fd: int) -> bool:
        """Let in whoever waits at this descriptor; return whether it is that of an arrival."""
        if fd in self._arriving:
            self._take_over(fd)
        elif fd == self._listener.socket.fileno():
            self._accept()
        else:
            return False
        return True

    def _accept(self) -> None:
        try:
            while (control := self._listener.accept()) is not None:
                self._arriving[control.fileno()] = (control, time.monotonic())
                self._epoll.register(control, select.EPOLLIN)
        except OSError as error:  # no descriptors are left: waiting connections must not keep the loop busy
            log.error("nobody can be let in for now: %s", error.strerror)
            self._accepting = False
            self._epoll.unregister(self._listener.socket)

    def _take_over(self, fd: int) -> None:
        """Take over the descriptors that a `serve` sends, and with them its client."""
        control, _ = self._arriving.pop(fd)
        self._epoll.unregister(control)
        fds: list[int] = []
        try:
            words, fds, _, _ = socket.recv_fds(control, 8192, 2)
            path, _, key = os.fsdecode(words).partition("\0")
            if len(fds) != 2 or path != self._path or self._is_stopping() or not self._file.still_there():
                raise ProtocolError("nothing, or another store, is asked for")
            who = self._identify(key)
            control.send(b"+")
            if who is not None:
                self.adopt(who, control, *fds)
            else:
                refused = self._new_peer(NOBODY, control, *fds)
                refused.say(MAGIC)
                self.dismiss(refused, LoginRefused(f"the key {key} opens nothing: it was revoked, or was never made"))
        except (OSError, PilotMTCError) as error:
            for passed in fds:
                os.close(passed)
            control.close()
            if fds:
                log.warning("a connection was refused: %s", error)

    def _identify(self, key: str) -> PeerIdentity | None:
        """Return who connects with this key of the store, or without one; None if the key is not valid."""
        if not key:
            return USER
        if not is_valid(self._path, key):
            return None
        if (pilot_key := pilot_of(key)) is None:
            return PeerIdentity(Role.KEY, key)
        pilot = self._file.store.find_pilot(pilot_key)
        return None if pilot is None else PeerIdentity(Role.AGENT, key, pilot)

    def adopt(self, who: PeerIdentity, control: socket.socket, source: int, sink: int) -> None:
        """Make a connection a client, and greet it."""
        self._new_peer(who, control, source, sink).say(encode_greeting(__version__))

    def _new_peer(self, who: PeerIdentity, control: socket.socket, source: int, sink: int) -> Peer:
        self._numbers += 1
        peer = Peer(self._numbers, who, control, source=source, sink=sink, epoll=self._epoll, now=time.monotonic())
        self._peers[peer.source] = self._peers[control.fileno()] = peer
        self._epoll.register(control, select.EPOLLIN)
        if who is STEWARD:
            self._stewards.add(peer)
        else:
            self.clients.add(peer)
            self.empty_since = None
            log.info("client %d has come", peer.number)
        self.touched.add(peer)
        return peer

    # -- reading and writing ----------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Send what waits, and decide from which clients to read."""
        touched, self.touched = self.touched | self.backlog, set()
        for peer in touched:
            if peer.closed:
                continue
            if not peer.flush(now):
                self.part(peer, "hung up")
                continue
            if peer.writing:
                self._peers[peer.sink] = peer
            self._listen(peer)
        for peer in self._frame_budget.waiting():
            self._listen(peer)

    def _listen(self, peer: Peer) -> None:
        idle = peer not in self.backlog and not peer.full
        peer.listen(idle and self._frame_budget.admit(peer, peer.decoder.begun_bytes))

    # -- going ------------------------------------------------------------------------------------------------

    def part(self, peer: Peer, why: str) -> None:
        """Disconnect a client."""
        if peer.closed:
            return
        for fd in (peer.source, peer.sink, peer.control.fileno()):
            self._peers.pop(fd, None)
        peer.close()
        if peer in self._stewards:
            self._stewards.discard(peer)
        else:
            self.clients.discard(peer)
            log.info("client %d has gone: %s", peer.number, why)
            if not self.clients:
                self.empty_since = time.monotonic()
        self.backlog.discard(peer)
        self.touched.discard(peer)
        self._frame_budget.leave(peer)
        self._parted(peer)

    def dismiss(self, peer: Peer, error: PilotMTCError) -> None:
        """Disconnect a client after telling it why."""
        if not peer.closed:
            peer.answer(0, error)  # 0 is about the whole connection
            peer.flush(time.monotonic())
            self.part(peer, str(error))

    def cut(self, key: str) -> None:
        """Disconnect the clients that have come with a key that was revoked."""
        for peer in [peer for peer in self.clients if key and peer.who.key == key]:
            self.dismiss(peer, LoginRefused(f"the key {key} was revoked"))

    def look_after(self, now: float) -> None:
        """Disconnect clients that are silent for too long, and try again to accept new ones."""
        if not self._accepting:
            self._accepting = True
            self._epoll.register(self._listener.socket, select.EPOLLIN)
        for fd, (control, since) in list(self._arriving.items()):
            if now - since > _GREETING_TIMEOUT_S:
                del self._arriving[fd]
                self._epoll.unregister(control)
                control.close()
        for peer in (*self.clients, *self._stewards):
            if not peer.software and now - peer.since > _GREETING_TIMEOUT_S:
                self.part(peer, "sent no greeting")
            elif peer.waiting_bytes and now - peer.moved_at > _UNREAD_S:
                self.part(peer, "does not read its answers")
        for peer in self._frame_budget.holders():
            if self._frame_budget.full and now - peer.heard_at > _SILENT_S:
                self.part(peer, "does not continue a large message, and others wait for the memory")

    # -- the socket -------------------------------------------------------------------------------------------

    def stay_reachable(self) -> None:
        """Make the socket again if its path is gone: its directory may be removed when the user logs out."""
        if not self._listener.reachable():
            self._publish_again()

    def _publish_again(self) -> None:
        listener = Listener(self._path)
        self._epoll.register(listener.socket, select.EPOLLIN)
        if self._accepting:
            self._epoll.unregister(self._listener.socket)
        self._listener.close()
        self._listener, self._accepting = listener, True
        self._file.ownership.advertise(self._listener.path)
        log.info("listening again, on %s", self._listener.path)

    def hide(self) -> bool:
        """Let nobody find the server any more; return whether it worked, since a client may come just before."""
        self._listener.hide()
        self._accept()
        if self._arriving or not self._accepting:
            self._publish_again()
            return False
        return True

    def close(self) -> None:
        """Send what waits, within a limited time, and disconnect everyone."""
        self._listener.close()
        deadline = time.monotonic() + _FAREWELL_S
        while any(peer.waiting_bytes for peer in self.clients) and time.monotonic() < deadline:
            for peer in list(self.clients):
                if not peer.flush(time.monotonic()):
                    self.part(peer, "hung up")
            time.sleep(0.01)
        for peer in (*self.clients, *self._stewards):
            self.part(peer, "the server leaves")
        for control, _ in self._arriving.values():
            control.close()
