"""The socket to which node workers connect, and its protection against strangers.

Anybody who reaches its port can open connections, and send nothing or garbage. Each one needs a descriptor and buffers.
So the number of strangers, which are peers that have not sent a message yet, is limited: if there are too many, the
oldest one is closed. A worker that this happens to connects again.
"""

import logging
import resource
import socket
import struct
import time

import zmq
from zmq.utils import z85

from pilotmtc.agent.crews.contact import descriptor, readable
from pilotmtc.protocol.frames import MAX_FRAME_BYTES

STRANGERS = 4000  # and one more for each expected worker; a few kB each
_OWN_FILES = 150  # for other uses in the agent
_SAY_EVERY_S = 60.0
_log = logging.getLogger("pilotmtc.agent")


class WorkerListener:
    """A ROUTER socket with CURVE and its own keys.

    Parameters
    ----------
    address
        Of this host, on the network of the nodes.
    workers
        Expected number of workers.

    Attributes
    ----------
    address, server_key, public_key, secret_key
        For workers; see `Contact`.
    descriptors
        Descriptors to poll.
    """

    def __init__(self, address: str, workers: int) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = workers + min(STRANGERS, limit - 2 * workers - _OWN_FILES)
        self._strangers: dict[int, None] = {}  # descriptors of strangers, in order of arrival
        self._say_at: dict[str, float] = {}
        self._context = zmq.Context()
        self._asked = self._context.socket(zmq.REP)
        self._asked.bind("inproc://zeromq.zap.01")
        self._router = self._context.socket(zmq.ROUTER)
        self.server_key, server_secret = zmq.curve_keypair()
        self.public_key, self.secret_key = zmq.curve_keypair()
        self._client_key = z85.decode(self.public_key)
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = self.server_key, server_secret
        self._router.setsockopt_string(zmq.ZAP_DOMAIN, "pilotmtc")
        for option, value in (
            (zmq.ROUTER_HANDOVER, 1), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.BACKLOG, 1024), (zmq.LINGER, 500),
            (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
        ):  # fmt: skip
            self._router.setsockopt(option, value)
        self._router.monitor("inproc://door", zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # with a full queue, libzmq would block, even at its end
        self._monitor.connect("inproc://door")
        self._port = self._router.bind_to_random_port(f"tcp://{address}")
        self.address = f"tcp://{address}:{self._port}"
        self.descriptors = [descriptor(one) for one in (self._asked, self._router, self._monitor)]

    def look(self) -> None:
        """Tell libzmq which peers have the workers' key, and close the oldest strangers if there are too many."""
        while readable(self._monitor):
            event, fd = struct.unpack("=HI", self._monitor.recv_multipart(zmq.NOBLOCK)[0])
            self._strangers.pop(fd, None)
            if event == zmq.EVENT_ACCEPTED:
                self._strangers[fd] = None
        while len(self._strangers) > self._most:
            self._send_away(next(iter(self._strangers)))
        while readable(self._asked):
            version, number, _domain, peer, _identity, mechanism, *credentials = self._asked.recv_multipart(zmq.NOBLOCK)
            well = mechanism == b"CURVE" and credentials == [self._client_key]
            if not well:
                self._say("a stranger at %s was turned away", peer.decode("ascii", "backslashreplace"))
            code, text = (b"200", b"OK") if well else (b"400", b"not a worker of this pilot")
            self._asked.send_multipart([version, number, code, text, b"worker", b""])

    def _send_away(self, fd: int) -> None:
        """End a stranger's connection; libzmq, which owns it, then closes it."""
        del self._strangers[fd]
        try:
            theirs = socket.socket(fileno=fd)  # without a copy, for which no descriptor may be left
        except OSError:
            return  # it was closed already
        try:
            if theirs.family is socket.AF_INET and theirs.getsockname()[1] == self._port:  # else another's
                peer = theirs.getpeername()[0]
                theirs.shutdown(socket.SHUT_RDWR)
                self._say("too many connections of strangers: the oldest are closed, such as one from %s", peer)
        except OSError:
            pass  # the same
        finally:
            theirs.detach()

    def _say(self, words: str, peer: str) -> None:
        """Log what strangers do, but not every time."""
        now = time.monotonic()
        if now >= self._say_at.get(words, now):
            self._say_at[words] = now + _SAY_EVERY_S
            _log.warning(words, peer)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the sender and the frames of a message; None if there is none."""
        if not readable(self._router):
            return None
        identity, *frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
        self._strangers.pop(int(identity.get(zmq.SRCFD)), None)
        return identity.bytes, [frame.bytes for frame in frames]

    def send(self, identity: bytes, message: bytes) -> None:
        """Send a message to a peer that has sent one before; if the peer has gone, the message is lost."""
        self._router.send_multipart([identity, message], zmq.NOBLOCK)

    def close(self) -> None:
        """Close all connections."""
        self._router.monitor(None, 0)
        self._monitor.close(0)
        self._router.close()
        self._asked.close(0)
        self._context.term()
