"""The connection to a store that another host serves."""

import logging
import os
import re
import threading

from msgspec.structs import replace

from pilotmtc.boot import program
from pilotmtc.errors import ChannelClosed, ConfigError, ConnectError, LoginRefused, PilotMTCError, StoreMoved
from pilotmtc.store.client.remote import RemoteStore
from pilotmtc.store.location import COMMAND_VARIABLE, StoreLocation
from pilotmtc.transport.channel import Channel
from pilotmtc.transport.link import Ask
from pilotmtc.transport.ssh.url import SshTarget, quote_word

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,252}")  # never something that looks like an option of `ssh`


class MovedStore:
    """Connects to the host that serves a store at present, which the store's first host names.

    Parameters
    ----------
    location
        The store, as the user knows it.
    first
        The connection to that host, if it is another one.
    ask
        How to ask the user for passwords and codes; None: on the terminal.
    """

    def __init__(self, location: StoreLocation, first: RemoteStore | None = None, ask: Ask | None = None) -> None:
        self._location = location
        self._first = first
        self._ask = ask
        self._lock = threading.Lock()
        self._closed = False
        self._host = ""
        self._ways: list[RemoteStore] = []  # ways to that host, in the order in which to try them
        self._tried = False  # whether the first way was tried

    def connect(self, moved: StoreMoved) -> Channel:
        """Return a channel to the server on the host that `moved` names.

        Raises
        ------
        PilotMTCError
            If that host cannot be reached; the text says what can be done.
        """
        host = moved.host
        if not _NAME.fullmatch(host):
            raise ConfigError(f"the store is said to be served by {host!r}, which can be no host's name")
        with self._lock:
            if self._closed:
                raise ChannelClosed("this connection to the store was closed")
            old: list[RemoteStore] = []
            if host != self._host:
                old, self._ways = self._ways, self._ways_to(host)
                self._host, self._tried = host, False
        for way in old:
            way.close()
        if self._tried and not self._ways[0].spoken:
            self._ways.append(self._ways.pop(0))  # the host was reached, but not its pilotmtc
        troubles: list[PilotMTCError] = []
        for _ in self._ways:
            self._tried = True
            try:
                return self._ways[0].connect()
            except ConnectError as error:
                log.debug("%s: %s", host, error)
                troubles.append(error)
                self._ways.append(self._ways.pop(0))
        self._tried = False
        kind = LoginRefused if all(isinstance(each, LoginRefused) for each in troubles) else ConnectError
        raise kind(
            f"{host} has the store, and there is no way there: {'; '.join(map(str, troubles))}. See that `ssh {host}` "
            f"works without a question, or wait until its last client has been gone for a minute"
        )

    def close(self) -> None:
        """End the connections, even while connecting. Safe to repeat."""
        with self._lock:
            self._closed = True
        for way in list(self._ways):
            way.close()

    def _ways_to(self, host: str) -> list[RemoteStore]:
        target = self._location.target
        if target is None:
            # The hosts share files, so this installation probably exists there, perhaps outside of the PATH.
            command = os.environ.get(COMMAND_VARIABLE) or f"exec {' '.join(map(quote_word, program('pilotmtc')))}"
            return [RemoteStore(SshTarget(host=host, path=self._location.path, command=command), self._ask)]
        assert self._first is not None
        there = replace(target, host=host, port=None)
        through = RemoteStore(there, self._ask, through=self._first)
        # `ssh` would report too late that it cannot connect directly.
        if target.transport == "openssh":
            return [through]
        try:
            return [RemoteStore(there, self._ask), through]
        except BaseException:
            through.close()
            raise
