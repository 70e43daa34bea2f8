"""Connections through the system's ``ssh`` program.

For what only that program can do: shared connections (ControlMaster), GSSAPI, smart cards. It runs in a session of its
own, so it cannot ask for passwords: log in beforehand.
"""

import shlex
import threading
from typing import TYPE_CHECKING

from pilotmtc.errors import ChannelClosed, ConnectError, LoginRefused, PilotMTCError
from pilotmtc.transport.link import CommandChannel
from pilotmtc.transport.process import ProcessChannel, open_process
from pilotmtc.transport.ssh.config import CONNECT_TIMEOUT_S, config_file
from pilotmtc.transport.ssh.url import SshTarget

if TYPE_CHECKING:
    from pilotmtc.transport.ssh.sftp import SftpFiles

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    f"ConnectTimeout={CONNECT_TIMEOUT_S:.0f}",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=2",
)
_REFUSED = (
    "Permission denied (",
    "Host key verification failed",
    "Too many authentication failures",
    "No more authentication methods",
)
_SSH_FAILED = 255


class OpenSshLink:
    """Starts one `ssh` per channel. After a refused login, it does not try again.

    Parameters
    ----------
    target
        The host.
    through
        Another host, from which to connect.
    """

    def __init__(self, target: SshTarget, through: SshTarget | None = None) -> None:
        self.target = target
        self._through = through
        self._lock = threading.Lock()
        self._channels: set[_OpenSshChannel] = set()
        self._closed = False
        self._refused: LoginRefused | None = None

    def connect(self) -> None:
        """Do nothing: `ssh` itself manages shared connections."""

    def open(self, command: str) -> CommandChannel:
        """Run `command` in the user's login shell there; see `HostLink`."""
        with self._lock:
            if self._refused is not None:
                raise LoginRefused(*self._refused.args)
            if self._closed:
                raise ChannelClosed(f"the connection to {self.target.host} was closed")
            channel = _OpenSshChannel(open_process(ssh_argv(self.target, command, self._through)), self)
            self._channels.add(channel)
        return channel

    def files(self) -> "SftpFiles":
        """Start the host's SFTP server; see `HostLink`."""
        from pilotmtc.transport.ssh.sftp import ProcessStream, SftpFiles

        argv = [*_ssh(self.target, self._through), "-s", "--", self.target.host, "sftp"]
        return SftpFiles(ProcessStream(open_process(argv)), self.target.host)

    def close(self) -> None:
        """Close all channels. Safe to repeat."""
        with self._lock:
            self._closed = True
            channels = list(self._channels)
        for channel in channels:
            channel.close()

    def forget(self, channel: "_OpenSshChannel") -> None:
        """Note that a channel was closed."""
        with self._lock:
            self._channels.discard(channel)

    def explain(self, words: str) -> PilotMTCError:
        """Return the error for the messages of a failed `ssh`."""
        host = self.target.host
        if any(mark in words for mark in _REFUSED):
            error = LoginRefused(
                f"ssh is refused by {host}: {words}. It cannot ask here: first log in with `ssh {host}` so that a "
                f"shared connection (ControlMaster), a ticket or an agent is there; nothing more is tried by itself"
            )
            with self._lock:
                self._refused = error
            return error
        return ConnectError(f"ssh does not reach {host}: {words or 'it ended without a message'}")


class _OpenSshChannel:
    def __init__(self, process: ProcessChannel, link: OpenSshLink) -> None:
        self._process = process
        self._link = link
        self._begun = False
        self._words = ""

    def read(self, n: int) -> bytes:
        data = self._process.read(n)
        if data:
            self._begun = True
        elif not self._begun and self.exit_status(2.0) == _SSH_FAILED:
            raise self._link.explain(self.last_words())
        return data

    def write(self, data: bytes) -> None:
        self._process.write(data)

    def moved(self) -> int:
        return self._process.moved()

    def close(self) -> None:
        self._words = self.last_words()
        self._process.close()
        self._link.forget(self)

    def last_words(self) -> str:
        return self._process.last_words() or self._words

    def exit_status(self, wait_s: float) -> int | None:
        return self._process.exit_status(wait_s)


def ssh_argv(target: SshTarget, command: str, through: SshTarget | None = None) -> list[str]:
    """Return the command line that runs `command` at `target`, from the host of `through` if given."""
    return [*_ssh(target, through), "--", target.host, command]


def _ssh(target: SshTarget, through: SshTarget | None = None) -> list[str]:
    argv = ["ssh", "-T", "-x", "-a", "-e", "none"]
    for option in _OPTIONS:
        argv += ["-o", option]
    if (file := config_file(target.config)) is not None:
        argv += ["-F", file]
    if target.identity:
        argv += ["-i", target.identity, "-o", "IdentitiesOnly=yes"]
    if target.user:
        argv += ["-l", target.user]
    if target.port:
        argv += ["-p", str(target.port)]
    if through is not None:  # -J would not pass our options to the jump host's ssh
        argv += ["-o", f"ProxyCommand={shlex.join(_ssh(through))} -W '[%h]:%p' -- {shlex.quote(through.host)}"]
    return argv
