"""A store on another host: runs ``pilotmtc serve`` there, over a connection that all clients in a process share."""

import logging

from pilotmtc.errors import ConfigError, ConnectError, NoProgram
from pilotmtc.protocol.frames import MAGIC, MAX_CHATTER_BYTES
from pilotmtc.store.location import COMMAND_VARIABLE
from pilotmtc.store.serve import EXISTING
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.link import Ask, CommandChannel
from pilotmtc.transport.pool import SharedLink
from pilotmtc.transport.ssh.url import SshTarget, remote_command

log = logging.getLogger(__name__)

_STATUS_WAIT_S = 3.0
_NOT_FOUND = 127


class RemoteStore:
    """Connects to a store on another host.

    Parameters
    ----------
    target
        Which store, where.
    ask
        How to ask a person for passwords and codes; None is on the terminal.
    through
        Another `RemoteStore`, through whose host to connect.
    """

    def __init__(self, target: SshTarget, ask: Ask | None = None, through: "RemoteStore | None" = None) -> None:
        self.target = target
        self._program = target.command or "pilotmtc"
        self._shared: SharedLink = SharedLink(target, ask, None if through is None else through._shared)
        self.link = self._shared.link
        self.spoken = False  # pilotmtc has answered once, so it is installed

    def prepare(self) -> None:
        """Log in now, so that passwords are asked for while the user waits.

        Raises
        ------
        PilotMTCError
            If trying again is useless. A network that is down does not count as that.
        """
        try:
            self.link.connect()
        except ConnectError as error:
            if not error.transient:
                raise
            log.info("%s", error)

    def connect(self, *, existing: bool = False) -> Channel:
        """Return a channel to the store's server; an `existing` store is not created again."""
        words = ("serve", EXISTING, self.target.path) if existing else ("serve", self.target.path)
        command = remote_command(self._program, *words)
        return _ServeChannel(self.link.open(command), self)

    def close(self) -> None:
        """Release the connection; its last user closes it. Safe to repeat."""
        self._shared.close()

    def spoke(self) -> None:
        """Note that pilotmtc has answered."""
        self.spoken = True

    def explain(self, status: int | None, said: str) -> ConfigError | None:
        """Return the error for a command that ended without an answer from pilotmtc.

        None if the next attempt may succeed: a host that had pilotmtc before may be short of processes now.
        """
        host = self.target.host
        lower = said.lower()
        if status == _NOT_FOUND or (status == 1 and "command not found" in lower):
            return NoProgram(
                f"{host} does not find {self._program}: {said or 'not found'}. Install pilotmtc there, on the PATH of "
                f"non-interactive shells, or say where it is: ?command=/path/to/pilotmtc in the store's URL, or "
                f"{COMMAND_VARIABLE}"
            )
        if self.spoken or status is None or status <= 0:
            return None
        return ConfigError(
            f"`{self._program} serve` on {host} ended with {status}: {said or 'it wrote no message'}. Try "
            f"`ssh {host} {self._program} --version`; ?command=/path/to/pilotmtc in the URL names another"
        )


class _ServeChannel:
    """A channel that knows why the server's greeting does not come."""

    def __init__(self, channel: CommandChannel, store: RemoteStore) -> None:
        self._channel = channel
        self._store = store
        self._chatter: bytearray | None = bytearray()  # None as soon as pilotmtc has answered

    def read(self, n: int) -> bytes:
        data = self._channel.read(n)
        if self._chatter is None:
            return data
        self._chatter += data
        if self._chatter.find(MAGIC) >= 0:
            self._chatter = None
            self._store.spoke()
        elif not data:
            status = self._channel.exit_status(_STATUS_WAIT_S)  # wait first: it may print a message while it ends
            text = self._chatter[-2000:].decode("utf-8", "replace")
            said = "\n".join(filter(None, (text.strip(), self._channel.last_words())))
            if (error := self._store.explain(status, said)) is not None:
                raise error
        elif len(self._chatter) > 2 * MAX_CHATTER_BYTES:  # the reader gives up much earlier
            del self._chatter[:MAX_CHATTER_BYTES]
        return data

    def write(self, data: bytes) -> None:
        self._channel.write(data)

    def moved(self) -> int:
        return self._channel.moved()

    def close(self) -> None:
        self._channel.close()

    def last_words(self) -> str:
        return self._channel.last_words()
