"""`SshLink`: connections to other hosts through paramiko."""

import contextlib
import functools
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import paramiko  # type: ignore[import-untyped]

from pilotmtc.errors import ChannelClosed, ConfigError, ConnectError, ConnectPostponed, LoginRefused, PilotMTCError
from pilotmtc.transport.ask import RememberedAnswers, terminal_ask
from pilotmtc.transport.link import Ask, CommandChannel
from pilotmtc.transport.ssh.authentication import ParamikoAuthentication, agent_keys, load_key
from pilotmtc.transport.ssh.channel import CountedStream, SshChannel
from pilotmtc.transport.ssh.config import Hop, HostOptions, Settings, ask_ssh, config_file, host_options, public_part
from pilotmtc.transport.ssh.dial import dial
from pilotmtc.transport.ssh.known_hosts import known_kinds, read_entries, refuse_unless_known
from pilotmtc.transport.ssh.login import Candidate, Login
from pilotmtc.transport.ssh.proxy_command import ProxySocket
from pilotmtc.transport.ssh.url import SshTarget

if TYPE_CHECKING:
    from pilotmtc.transport.ssh.sftp import SftpFiles

log = logging.getLogger(__name__)
# Its errors are raised as well; tracebacks in the log would only confuse users.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_BANNER_TIMEOUT_S = 30.0
_AUTH_TIMEOUT_S = 45.0
_CHANNEL_TIMEOUT_S = 30.0
_BACKOFF_S = (1.0, 30.0)
_POSTPONED_S = (15.0, 120.0)
# OpenSSH sends these instead of a greeting: since 9.8 to addresses with failed logins (PerSourcePenalties, for 15 s
# to 10 min), and to all clients while too many logins are in progress (MaxStartups).
_POSTPONES = ("Not allowed at this time", "Exceeded MaxStartups")
_WINDOW_BYTES = 16 << 20
_JOIN_S = 5.0
_MOST_HOPS = 8


class SshLink:
    """A connection to the host of `target`, opened at first use and again after it broke. Threads may share it.

    After a refused login it does not try again, but raises the same error at once. After a failure of the network, it
    tries again after a pause that grows up to half a minute; before that, it raises the error at once.

    Parameters
    ----------
    target
        The host.
    ask
        How to ask the user; None: on the terminal.
    alive_s
        How often the host is asked for a sign of life.
    dead_s
        After this time without an answer, the connection is given up.
    through
        Another link, from whose host to connect; jumps in the configuration are then ignored.
    """

    def __init__(
        self,
        target: SshTarget,
        *,
        ask: Ask | None = None,
        alive_s: float = 15.0,
        dead_s: float = 30.0,
        through: "SshLink | None" = None,
    ) -> None:
        self.target = target
        self._through = through
        self._closed = threading.Event()
        self._memory = RememberedAnswers(ask or terminal_ask(self._closed.is_set))
        self._alive_s = alive_s
        self._dead_s = dead_s
        self._connecting = threading.Lock()
        self._guard = threading.Lock()  # held only for moments; guards everything below
        self._parts: list[Callable[[], None]] = []  # closes the parts of the connection; in the order of opening
        self._transport: paramiko.Transport | None = None
        self._keys: dict[str, paramiko.PKey] = {}  # keys that had a passphrase
        self._trouble: PilotMTCError | None = None
        self._failures = 0
        self._not_before = 0.0

    def connect(self) -> None:
        """Open the connection if it is not open; see `HostLink`."""
        with self._connecting:
            self._connected()

    def open(self, command: str) -> CommandChannel:
        """Start `command` in the user's login shell there; see `HostLink`."""
        with self._connecting:
            transport = self._connected()
            try:
                channel = transport.open_session(window_size=_WINDOW_BYTES, timeout=_CHANNEL_TIMEOUT_S)
                channel.exec_command(command)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise ConnectError(f"{self.target.host} does not start {command}: {error}") from error
        return SshChannel(channel, transport, self.target.host)

    def files(self) -> "SftpFiles":
        """Start the host's SFTP server; see `HostLink`."""
        from pilotmtc.transport.ssh.sftp import SftpFiles

        with self._connecting:
            transport = self._connected()
            try:
                channel = transport.open_session(window_size=_WINDOW_BYTES, timeout=_CHANNEL_TIMEOUT_S)
                channel.invoke_subsystem("sftp")
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise ConnectError(f"{self.target.host} offers no SFTP: {error}; ask the site for it") from error
        return SftpFiles(channel, self.target.host)

    def forward(self, options: HostOptions) -> "paramiko.Channel":
        """Return a channel, through this host, to the SSH server of another one."""
        with self._connecting:
            return _forward(self._connected(), self.target.host, options)

    def vouches_for(self, key: "paramiko.PKey") -> bool:
        """Return whether this host has the same key: login hosts that share a name usually share a key."""
        transport = self._transport
        return transport is not None and transport.get_remote_server_key().asbytes() == key.asbytes()

    def close(self) -> None:
        """Close it, and all channels on it. Safe to repeat."""
        self._closed.set()
        self._drop()

    # -- the connection ---------------------------------------------------------------------------------------

    def _connected(self) -> "paramiko.Transport":
        if self._transport is not None and self._transport.is_active():
            return self._transport
        self._drop()
        wait_s = self._not_before - time.monotonic()
        if self._trouble is not None and (wait_s > 0 or isinstance(self._trouble, LoginRefused)):
            raise type(self._trouble)(*self._trouble.args)
        try:
            transport, stream = self._reach(Hop(self.target.host, self.target.user, self.target.port), None, 0)
        except PilotMTCError as error:
            self._failures += 1
            least_s, limit_s = _POSTPONED_S if isinstance(error, ConnectPostponed) else _BACKOFF_S
            most_s = min(least_s * 2 ** min(self._failures, 10), limit_s)
            self._not_before = time.monotonic() + most_s * random.uniform(0.5, 1.0)
            self._trouble = error
            self._drop()
            raise
        self._failures = 0
        self._trouble = None
        self._transport = transport
        watcher = threading.Thread(target=self._watch, args=(transport, stream), name="ssh-alive", daemon=True)
        watcher.start()
        with self._guard:
            self._parts.insert(0, lambda: watcher.join(_JOIN_S))  # the last part: it closes with the transport
        log.info("connected to %s", self.target.host)
        return transport

    def _own(self, end: Callable[[], None]) -> None:
        """Remember how to close a part of the connection; close it now if the link was closed in the meantime."""
        with self._guard:
            self._parts.append(end)
        if self._closed.is_set():
            self._drop()
            raise ChannelClosed(f"the connection to {self.target.host} was closed")

    def _drop(self) -> None:
        with self._guard:
            parts, self._parts = self._parts, []
            self._transport = None
        for end in reversed(parts):
            end()

    def _watch(self, transport: "paramiko.Transport", stream: "CountedStream") -> None:
        """Give the connection up if the other side is silent: behind a jump host, TCP does not notice it."""
        while transport.is_active() and not self._pause(transport):
            answered = threading.Event()
            judge = threading.Thread(target=self._judge, args=(transport, stream, answered), name="ssh-judge")
            judge.daemon = True
            judge.start()
            try:
                transport.global_request("keepalive@openssh.com", wait=True)
            except (paramiko.SSHException, EOFError, OSError) as error:
                log.debug("keepalive to %s: %s", self.target.host, error)
            finally:
                answered.set()
                judge.join(_JOIN_S)

    def _judge(self, transport: "paramiko.Transport", stream: "CountedStream", answered: threading.Event) -> None:
        """End the connection unless it answers or data moves: on a slow one, the question waits behind other data."""
        moved = stream.moved()
        while not answered.wait(self._dead_s):
            if (now := stream.moved()) == moved:
                _end(transport)
                return
            moved = now

    def _pause(self, transport: "paramiko.Transport") -> bool:
        """Wait for the next sign of life; return whether the connection has ended."""
        transport.join(self._alive_s)  # a transport is also the thread that reads from the connection
        return not transport.is_alive()

    def _reach(
        self, hop: Hop, through: tuple[Hop, ...] | None, depth: int
    ) -> tuple["paramiko.Transport", CountedStream]:
        """Connect to `hop` and log in; return the connection, and the stream below it."""
        if depth > _MOST_HOPS:
            raise ConfigError(f"the SSH configuration: ProxyJump goes round in circles at {hop.host}")
        settings = ask_ssh(hop, self.target.config)
        if settings is None:
            settings = _read_config(hop, config_file(self.target.config))
        options = host_options(hop, settings, self.target.identity if depth == 0 else None)
        stream = self._stream(options, options.jumps if through is None else through, depth)
        self._own(stream.close)
        counted = CountedStream(stream)
        try:
            transport = paramiko.Transport(counted)
            self._own(lambda: _end(transport))
            self._greet(transport, options)
        except (paramiko.SSHException, EOFError, OSError) as error:
            said = counted.before_greeting() or (stream.last_words() if isinstance(stream, ProxySocket) else "")
            if said in _POSTPONES:
                raise ConnectPostponed(
                    f"{options} takes no connections from here for now ({said!r}): after failed logins, or too many at "
                    f"once, a server refuses all for up to 10 minutes; wait, and check with `ssh` that the login works"
                ) from error
            reason = str(error) or "it has hung up"
            raise ConnectError(f"no SSH with {options}: {reason}{f' ({said})' if said else ''}") from error
        self._log_in(transport, options)
        return transport, counted

    def _stream(self, options: HostOptions, jumps: tuple[Hop, ...], depth: int) -> "socket.socket | paramiko.Channel":
        if self._through is not None and depth == 0:
            return self._through.forward(options)
        # With "Host *", a ProxyJump also applies to the jump host itself.
        if jumps and jumps[-1].host != options.alias:
            jump, _ = self._reach(jumps[-1], jumps[:-1] or None, depth + 1)
            return _forward(jump, jumps[-1].host, options)
        if options.proxy_command:
            return ProxySocket(options.proxy_command)
        return dial(options.host, options.port, options.connect_timeout_s)

    def _greet(self, transport: "paramiko.Transport", options: HostOptions) -> None:
        transport.banner_timeout = transport.handshake_timeout = _BANNER_TIMEOUT_S
        transport.auth_timeout = _AUTH_TIMEOUT_S
        kinds = known_kinds(read_entries(options.known_hosts), options.known_as)
        known = {algorithm for kind in kinds for algorithm in (kind, *_signatures(kind))}
        security = transport.get_security_options()
        # Ask a host with several keys for one that is known.
        security.key_types = sorted(security.key_types, key=lambda algorithm: algorithm not in known)
        transport.start_client(timeout=_BANNER_TIMEOUT_S)
        key = transport.get_remote_server_key()
        if self._through is not None and self._through.vouches_for(key):
            return
        refuse_unless_known(options.known_hosts, options.known_as, str(options), key.get_name(), key.asbytes())

    # -- the login --------------------------------------------------------------------------------------------

    def _log_in(self, transport: "paramiko.Transport", options: HostOptions) -> None:
        with contextlib.ExitStack() as stack:
            candidates = self._candidates(options, stack)
            authentication = ParamikoAuthentication(transport, options)
            login = Login(authentication, str(options), candidates, self._memory, options.methods)
            try:
                login.run()
            except ConnectError as error:
                if not login.rejected or isinstance(error, LoginRefused):
                    raise
                raise LoginRefused(
                    f"{options} has hung up during the login, after: {', '.join(login.tried)}. If it had too many keys "
                    f"to look at, name the right one with IdentityFile and IdentitiesOnly; check with `ssh`"
                ) from error

    def _candidates(self, options: HostOptions, stack: contextlib.ExitStack) -> Iterator[Candidate["paramiko.PKey"]]:
        """Yield keys: of the agent (those in the configuration first), then from files, then from encrypted files."""
        public = {path: public_part(path) for path in options.identities}
        seen: set[bytes] = set()
        held = stack.enter_context(agent_keys(options.agent)) if options.agent else []
        named = set(filter(None, public.values()))
        for key in sorted(held, key=lambda key: key.asbytes() not in named):
            if options.identities_only and key.asbytes() not in named:
                continue
            seen.add(key.asbytes())
            yield Candidate(f"agent key {getattr(key, 'comment', '') or key.get_name()}", _already(key))
        encrypted = []
        for path in options.identities:
            if public[path] in seen:
                continue
            try:
                loaded = self._keys.get(path) or load_key(path, None)
            except paramiko.PasswordRequiredException:
                encrypted.append(path)
                continue
            if loaded is not None:
                yield Candidate(path, _already(loaded))
        for path in encrypted:
            yield Candidate(path, functools.partial(self._unlock, path))

    def _unlock(self, path: str) -> "paramiko.PKey | None":
        """Ask for a key's passphrase; an empty answer skips the key."""
        self._memory.begin(path)
        for _ in range(3):
            (phrase,) = self._memory.answer(path, [("passphrase of this key (empty: do not use it): ", False)])
            if not phrase:
                break
            try:
                key = load_key(path, phrase)
            except paramiko.SSHException:
                continue
            if key is not None:
                self._keys[path] = key
            return key
        self._memory.forget(path)
        return None


def _forward(transport: "paramiko.Transport", host: str, options: HostOptions) -> "paramiko.Channel":
    try:
        return transport.open_channel(
            "direct-tcpip", (options.host, options.port), ("127.0.0.1", 0), timeout=options.connect_timeout_s
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectError(f"{host} does not lead to {options.host}:{options.port}: {error}") from error


def _end(transport: "paramiko.Transport") -> None:
    transport.close()
    transport.sock.close()
    if transport is not threading.current_thread() and transport.is_alive():
        transport.join(_JOIN_S)
    transport.packetizer.complete_handshake()  # otherwise its timer thread lives for half a minute


def _already(key: "paramiko.PKey") -> "Callable[[], paramiko.PKey | None]":
    return lambda: key


def _signatures(kind: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else ()


def _read_config(hop: Hop, file: str | None) -> Settings:
    """Return what paramiko reads from the configuration files, for hosts without an `ssh` program."""
    files = [os.path.expanduser("~/.ssh/config"), "/etc/ssh/ssh_config"] if file is None else [file]
    settings: dict[str, list[str]] = {}
    for path in files:
        if not os.path.isfile(path):
            continue
        try:
            found = paramiko.SSHConfig.from_path(path).lookup(hop.host)
        except (paramiko.SSHException, OSError) as error:
            raise ConfigError(f"the SSH configuration {path}: {error}") from error
        for name, value in found.items():
            settings.setdefault(name, value if isinstance(value, list) else [value])
    return settings
