"""Where clients go when another host has the store."""

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

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,252}")  # never what `ssh` could take for an option


class MovedStore:
    """The way to a store that another host serves, as its own host says.

    Parameters
    ----------
    location
        The store, where the user looks for it.
    first
        The way there, if that is another host.
    ask
        How to ask a person for passwords and codes; None is on the terminal.
    """

    def __init__(self, location: StoreLocation, first: RemoteStore | None = None, ask: Ask | None = None) -> None:
        self._location = location
        self._first = first
        self._ask = ask
        self._lock = threading.Lock()
        self._closed = False
        self._host = ""
        self._ways: list[RemoteStore] = []  # to that host; the first is tried first
        self._tried = False  # the first

    def connect(self, moved: StoreMoved) -> Channel:
        """Return a channel to the server at the host that `moved` names.

        Raises
        ------
        PilotMTCError
            If there is no way there; the text says what can be done.
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
            self._ways.append(self._ways.pop(0))  # it led to a host, but not to a pilotmtc
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
        """End the connections, even in the middle of connecting. Safe to repeat."""
        with self._lock:
            self._closed = True
        for way in list(self._ways):
            way.close()

    def _ways_to(self, host: str) -> list[RemoteStore]:
        target = self._location.target
        if target is None:
            # The hosts share their files, so most probably this installation, which need not be on the PATH there.
            command = os.environ.get(COMMAND_VARIABLE) or f"exec {' '.join(map(quote_word, program('pilotmtc')))}"
            return [RemoteStore(SshTarget(host=host, path=self._location.path, command=command), self._ask)]
        assert self._first is not None
        there = replace(target, host=host, port=None)
        through = RemoteStore(there, self._ask, through=self._first)
        # `ssh` says too late whether it gets there directly.
        if target.transport == "openssh":
            return [through]
        try:
            return [RemoteStore(there, self._ask), through]
        except BaseException:
            through.close()
            raise
