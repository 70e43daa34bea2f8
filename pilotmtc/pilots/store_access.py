"""How a pilot's agent reaches the store from its allocation: with a key of its own, and known host keys."""

import contextlib
import os
import pwd
import re
import socket
import subprocess
from pathlib import Path

from pilotmtc.errors import ConfigError
from pilotmtc.protocol.records import Job
from pilotmtc.sites import SAME_HOST
from pilotmtc.store.access.keys import new_key, pilot_key_name
from pilotmtc.transport.ssh.url import SshTarget

_LOGIN = re.compile(
    r"(?:(?P<user>[^\s@:/\-][^\s@:/]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.][A-Za-z0-9_.\-]*))(?::(?P<port>\d{1,5}))?"
)
_HOST_KEYS = Path("/etc/ssh")
_SCAN_S = 20
_SSH_PORT = 22


def parse_login(login: str) -> tuple[str | None, str, int]:
    """Return user, host and port of ``[user@]host[:port]``.

    Raises
    ------
    ConfigError
        If it has another form.
    """
    match = _LOGIN.fullmatch(login)
    if match is None:
        raise ConfigError(f"login {login!r} is not [user@]host[:port]")
    return match["user"], match["v6"] or match["host"], int(match["port"] or _SSH_PORT)


def give_access(store: str, job: Job, key: str = "") -> str:
    """Write into the directory of `job` what its agent needs to reach `store` on this host; return the URL to use.

    Safe to repeat. `key` names an SSH key of the store; by default, the pilot gets a key of its own.

    Raises
    ------
    ConfigError
        If that is not possible; the text says what to do.
    """
    if job.description.login == SAME_HOST:
        return store
    user, host, port = parse_login(job.description.login or socket.getfqdn())
    user = user or pwd.getpwuid(os.geteuid()).pw_name
    directory = Path(job.directory)
    made = new_key(store, key or pilot_key_name(job.key))
    known = directory / "known_hosts"
    config = directory / "ssh_config"
    _write(known, _host_keys(host, port))
    _write(
        config,
        "Host *\n"
        f"  UserKnownHostsFile {_word(known)}\n"
        "  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n"
        f"  IdentityFile {_word(Path(made.path))}\n"
        "  IdentitiesOnly yes\n"
        "  IdentityAgent none\n"
        "  PasswordAuthentication no\n"
        "  KbdInteractiveAuthentication no\n",
    )
    target = SshTarget(host=host, user=user, port=None if port == _SSH_PORT else port, path=os.path.realpath(store))
    return f"{target}?config={config}"


def _host_keys(host: str, port: int) -> str:
    """Return lines for ``known_hosts``: from files of this host if it is the login host, else by asking that host."""
    name = host if port == _SSH_PORT else f"[{host}]:{port}"
    if port == _SSH_PORT and host in (socket.getfqdn(), socket.gethostname()):
        lines = []
        for file in sorted(_HOST_KEYS.glob("ssh_host_*_key.pub")):
            with contextlib.suppress(OSError, IndexError):  # it cannot be read: the others are enough
                kind, key = file.read_text(encoding="ascii", errors="replace").split()[:2]
                lines.append(f"{name} {kind} {key}\n")
        if lines:
            return "".join(lines)
    argv = ["ssh-keyscan", "-T", str(_SCAN_S // 2), "-p", str(port), "--", host]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SCAN_S, check=False)
    except FileNotFoundError as error:
        raise ConfigError("the store's host has no ssh-keyscan: install OpenSSH's client there") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{host}:{port} has not shown its host keys within {_SCAN_S} s") from error
    lines = [line for line in done.stdout.decode("ascii", "replace").splitlines() if line and not line.startswith("#")]
    if not lines:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(
            f"{host}:{port}, by which the nodes are to reach the store, shows no SSH host key"
            f"{f' ({said[-1]})' if said else ''}: give the right one with --login [user@]host[:port]"
        )
    return "".join(f"{line}\n" for line in lines)


def _word(path: Path) -> str:
    """Return a path quoted for ssh_config."""
    text = str(path)
    if '"' in text or "\n" in text:
        raise ConfigError(f"{text!r} cannot stand in an SSH configuration: put the store elsewhere")
    return '"' + text.replace("%", "%%") + '"'


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
