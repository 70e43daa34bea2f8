"""A store on another host: ``pilotmtc serve`` there, over one connection that the clients of a process share."""

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
    """The way to a store on another host.

    Parameters
    ----------
    target
        Which store, where.
    ask
        How to ask a person for passwords and codes; None is on the terminal.
    through
        Another store's way, on whose host the way to this one begins.
    """

    def __init__(self, target: SshTarget, ask: Ask | None = None, through: "RemoteStore | None" = None) -> None:
        self.target = target
        self._program = target.command or "pilotmtc"
        self._shared: SharedLink = SharedLink(target, ask, None if through is None else through._shared)
        self.link = self._shared.link
        self.spoken = False  # a pilotmtc has answered before, so it is there

    def prepare(self) -> None:
        """Log in now, so that questions come while the user waits for them.

        Raises
        ------
        PilotMTCError
            If there is no use in trying again. A network that is down is no such case.
        """
        try:
            self.link.connect()
        except ConnectError as error:
            if not error.transient:
                raise
            log.info("%s", error)

    def connect(self, *, existing: bool = False) -> Channel:
        """Return a channel to the store's server; an `existing` store is not made if it is not there."""
        words = ("serve", EXISTING, self.target.path) if existing else ("serve", self.target.path)
        command = remote_command(self._program, *words)
        return _ServeChannel(self.link.open(command), self)

    def close(self) -> None:
        """Give the connection back; the last one to do so closes it. Safe to repeat."""
        self._shared.close()

    def spoke(self) -> None:
        """Note that a pilotmtc has answered."""
        self.spoken = True

    def explain(self, status: int | None, said: str) -> ConfigError | None:
        """Return the error for a command that ended without an answer of pilotmtc.

        None if it may be well next time: a host that had a pilotmtc once may be short of processes now.
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
    """A channel that can tell why the server's greeting does not come."""

    def __init__(self, channel: CommandChannel, store: RemoteStore) -> None:
        self._channel = channel
        self._store = store
        self._chatter: bytearray | None = bytearray()  # None once the other side is known to be pilotmtc

    def read(self, n: int) -> bytes:
        data = self._channel.read(n)
        if self._chatter is None:
            return data
        self._chatter += data
        if self._chatter.find(MAGIC) >= 0:
            self._chatter = None
            self._store.spoke()
        elif not data:
            status = self._channel.exit_status(_STATUS_WAIT_S)  # first: it may say its last words while it ends
            text = self._chatter[-2000:].decode("utf-8", "replace")
            said = "\n".join(filter(None, (text.strip(), self._channel.last_words())))
            if (error := self._store.explain(status, said)) is not None:
                raise error
        elif len(self._chatter) > 2 * MAX_CHATTER_BYTES:  # the reader gives up long before
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
