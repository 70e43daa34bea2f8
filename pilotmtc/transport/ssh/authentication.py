"""Logging in through paramiko: the methods of authentication, and loading keys."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator

import paramiko  # type: ignore[import-untyped]

from pilotmtc.errors import ConnectError, PilotMTCError
from pilotmtc.transport.ssh.config import HostOptions
from pilotmtc.transport.ssh.login import Answer, Outcome

log = logging.getLogger(__name__)

_TYPING_TIMEOUT_S = 300.0
_AGENT_TIMEOUT_S = 60.0  # some agents wait for the user to touch a key


class ParamikoAuthentication:
    """Authentication on a transport."""

    def __init__(self, transport: "paramiko.Transport", options: HostOptions) -> None:
        self._transport = transport
        self._options = options

    def none(self) -> Outcome:
        """Ask for the methods; some hosts require no authentication."""
        return self._try(lambda: self._transport.auth_none(self._options.user))

    def key(self, key: "paramiko.PKey") -> Outcome:
        """Try a key."""
        return self._try(lambda: self._transport.auth_publickey(self._options.user, key))

    def password(self, password: str) -> Outcome:
        """Try the password."""
        return self._try(lambda: self._transport.auth_password(self._options.user, password, fallback=False))

    def interactive(self, answer: Answer) -> Outcome:
        """Let `answer` answer the host's questions."""
        refused: list[PilotMTCError] = []

        def handler(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            try:
                return answer(title, instructions, prompts)
            except PilotMTCError as error:  # to be raised by the login, not in paramiko's thread
                refused.append(error)
                raise paramiko.SSHException("no answer") from error

        self._transport.auth_timeout = _TYPING_TIMEOUT_S
        try:
            return self._try(lambda: self._transport.auth_interactive(self._options.user, handler))
        except ConnectError:
            if refused:
                raise refused[0] from None
            raise

    def _try(self, attempt: Callable[[], list[str]]) -> Outcome:
        try:
            methods = attempt()
        except paramiko.BadAuthenticationType as error:
            return Outcome(done=False, methods=frozenset(error.allowed_types))
        except paramiko.AuthenticationException as error:
            if self._transport.is_active() and "timeout" not in str(error):
                return Outcome(done=False)
            raise ConnectError(f"{self._options}: the connection was lost during the login: {error}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ConnectError(f"{self._options}: the connection was lost during the login: {error}") from error
        if self._transport.is_authenticated():
            return Outcome(done=True)
        return Outcome(done=False, further=True, methods=frozenset(methods))


@contextlib.contextmanager
def agent_keys(path: str) -> Iterator[list["paramiko.PKey"]]:
    """Return the keys of the SSH agent on the socket `path`; none if it does not answer."""
    agent = paramiko.agent.AgentSSH()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_AGENT_TIMEOUT_S)
    keys: list[paramiko.PKey] = []
    with sock:
        try:
            sock.connect(path)
            agent._connect(sock)
            keys = list(agent.get_keys())
        except (OSError, paramiko.SSHException) as error:
            log.debug("no SSH agent on %s: %s", path, error)
        yield keys


def load_key(path: str, phrase: str | None) -> "paramiko.PKey | None":
    """Return the key in a file; None if it cannot be used.

    Raises
    ------
    paramiko.SSHException
        If the passphrase is missing (`paramiko.PasswordRequiredException`) or wrong.
    """
    wrong: paramiko.SSHException | None = None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            key = kind.from_private_key_file(path, phrase)
        except paramiko.PasswordRequiredException:
            raise
        except (paramiko.SSHException, ValueError) as error:  # another type of key, or a wrong passphrase
            wrong = error if isinstance(error, paramiko.SSHException) else paramiko.SSHException(str(error))
            continue
        except OSError as error:
            log.warning("the private key %s: %s", path, error)
            return None
        with contextlib.suppress(OSError, ValueError, paramiko.SSHException):  # most keys have none
            if os.path.exists(f"{path}-cert.pub"):
                key.load_certificate(f"{path}-cert.pub")
        return key
    if phrase is not None and wrong is not None:
        raise wrong
    log.warning("the private key %s cannot be read: %s", path, wrong)
    return None
