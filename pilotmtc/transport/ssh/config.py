"""The options for connecting to a host, from the user's SSH configuration.

They come from the system's ``ssh -G``, which handles Include and Match exactly as `ssh` does. Without an `ssh` program,
`link` passes in what paramiko reads from the same files.
"""

import base64
import getpass
import hashlib
import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from pilotmtc.errors import ConfigError

CONNECT_TIMEOUT_S = 20.0
_ASK_TIMEOUT_S = 20.0
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s\-][^:\s]*))(?::(?P<port>\d+))?/?"
)
_DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")

# Values by keyword, in lower case, as `ssh -G` prints them.
Settings = Mapping[str, Sequence[str]]


class Hop(Struct, frozen=True):
    """A host on the way."""

    host: str
    user: str | None = None
    port: int | None = None


class HostOptions(Struct, frozen=True):
    """How to connect to a host.

    Attributes
    ----------
    alias, host
        The user's name for it, and its real name or address.
    known_as
        Its name in the files `known_hosts`.
    identities
        Existing private key files, in the order in which to try them.
    agent
        The socket of the SSH agent; empty: no agent.
    jumps
        The hosts to go through, nearest first.
    proxy_command
        A shell line that connects its stdin and stdout to the host.
    """

    alias: str
    host: str
    port: int
    user: str
    known_as: str
    known_hosts: tuple[str, ...]
    identities: tuple[str, ...]
    identities_only: bool
    agent: str
    jumps: tuple[Hop, ...]
    proxy_command: str | None
    connect_timeout_s: float
    methods: frozenset[str]

    def __str__(self) -> str:
        port = "" if self.port == 22 else f":{self.port}"
        return f"{self.user}@{self.host}{port}"


def ask_ssh(hop: Hop, config: str | None) -> Settings | None:
    """Return the settings that ``ssh -G`` prints for a host; None if `ssh` is not installed.

    Raises
    ------
    ConfigError
        If `ssh` rejects the configuration; the text quotes it.
    """
    argv = ["ssh", "-G"]
    if (file := config_file(config)) is not None:
        argv += ["-F", file]
    if hop.user:
        argv += ["-l", hop.user]
    if hop.port:
        argv += ["-p", str(hop.port)]
    try:
        done = subprocess.run(
            [*argv, "--", hop.host], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{shlex.join(argv)} {hop.host} did not finish within {_ASK_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise ConfigError(f"cannot run ssh: {error.strerror}") from error
    if done.returncode != 0:
        raise ConfigError(f"the SSH configuration: {done.stderr.decode('utf-8', 'replace').strip()}")
    return parse_settings(done.stdout.decode("utf-8", "replace"))


def parse_settings(text: str) -> Settings:
    """Return the output of ``ssh -G`` as a mapping."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name.lower(), []).append(value)
    return settings


def config_file(config: str | None) -> str | None:
    """Return the configuration file to pass to `ssh`; None if it finds the right ones by itself.

    `ssh` looks in the home directory from the password file and ignores ``$HOME``.

    Raises
    ------
    ConfigError
        If `config` cannot be read.
    """
    if config is not None:
        path = os.path.expanduser(config)
        if path != "none" and not os.access(path, os.R_OK):
            raise ConfigError(f"cannot read the SSH configuration {path}")
        return path
    if os.path.realpath(Path.home()) == os.path.realpath(_passwd_home()):
        return None
    own = os.path.expanduser("~/.ssh/config")
    return own if os.path.exists(own) else "none"


def host_options(hop: Hop, settings: Settings, identity: str | None = None) -> HostOptions:
    """Return the options for a host from its settings.

    Raises
    ------
    ConfigError
        If a value is invalid.
    """
    host = _one(settings, "hostname") or hop.host
    port = hop.port or _number(settings, "port") or 22
    user = hop.user or _one(settings, "user") or getpass.getuser()
    tokens = _tokens(hop.host, host, port, user)
    proxy = _one(settings, "proxycommand")
    jumps = _one(settings, "proxyjump")
    alias = _one(settings, "hostkeyalias")
    timeout = _one(settings, "connecttimeout")
    explicit = [_path(name, tokens) for name in settings.get("identityfile", ()) if name != "none"]
    identities = explicit or [os.path.expanduser(f"~/.ssh/{name}") for name in _DEFAULT_IDENTITIES]
    if identity:
        identities = [os.path.expanduser(identity)]
        if not os.access(identities[0], os.R_OK):
            raise ConfigError(f"cannot read the private key {identities[0]}")
    files = [name for key in ("userknownhostsfile", "globalknownhostsfile") for name in _words(settings, key)]
    return HostOptions(
        alias=hop.host,
        host=host,
        port=port,
        user=user,
        known_as=alias or (host.lower() if port == 22 else f"[{host.lower()}]:{port}"),
        known_hosts=tuple(_path(name, tokens) for name in files or ("~/.ssh/known_hosts", *_SYSTEM_KNOWN_HOSTS)),
        identities=tuple(dict.fromkeys(path for path in identities if os.path.isfile(path))),
        identities_only=identity is not None or _one(settings, "identitiesonly") == "yes",
        agent=_agent(_one(settings, "identityagent"), tokens),
        jumps=parse_jumps(jumps) if jumps and jumps != "none" else (),
        proxy_command=_expand(proxy, tokens) if proxy and proxy != "none" else None,
        connect_timeout_s=float(timeout) if timeout and timeout.isdigit() and timeout != "0" else CONNECT_TIMEOUT_S,
        methods=_methods(settings),
    )


def parse_jumps(text: str) -> tuple[Hop, ...]:
    """Return the hosts of a ProxyJump: ``[user@]host[:port], ...``.

    Raises
    ------
    ConfigError
        If it has another form.
    """
    hops = []
    for word in text.split(","):
        match = _HOP.fullmatch(word.strip())
        if not match:
            raise ConfigError(f"the SSH configuration: ProxyJump {text}: {word.strip()!r} is not [user@]host[:port]")
        port = match["port"]
        hops.append(Hop(match["v6"] or match["host"], match["user"], int(port) if port else None))
    return tuple(hops)


def public_part(path: str) -> bytes | None:
    """Return the public half of a private key, as sent to servers, from the file ``.pub`` beside it if there is one."""
    try:
        with open(f"{path}.pub", encoding="ascii") as file:
            return base64.b64decode(file.read().split()[1], validate=True)
    except (OSError, ValueError, IndexError):
        return None


def _one(settings: Settings, name: str) -> str | None:
    values = settings.get(name)
    return values[0].strip() if values and values[0].strip() else None


def _words(settings: Settings, name: str) -> list[str]:
    value = _one(settings, name)
    return [] if value is None or value == "none" else value.split()


def _number(settings: Settings, name: str) -> int | None:
    value = _one(settings, name)
    if value is not None and not value.isdigit():
        raise ConfigError(f"the SSH configuration: {name} {value} is not a number")
    return int(value) if value else None


def _methods(settings: Settings) -> frozenset[str]:
    switches = {
        "pubkeyauthentication": "publickey",
        "kbdinteractiveauthentication": "keyboard-interactive",
        "passwordauthentication": "password",
    }
    return frozenset(method for switch, method in switches.items() if _one(settings, switch) not in ("no", "false"))


def _agent(setting: str | None, tokens: Mapping[str, str]) -> str:
    if setting == "none":
        return ""
    if setting is None or setting == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    if setting.startswith("$"):
        return os.environ.get(setting[1:].strip("{}"), "")
    return _path(setting, tokens)


def _passwd_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry in the password file
        return str(Path.home())


def _path(word: str, tokens: Mapping[str, str]) -> str:
    path = os.path.expanduser(_expand(word.strip('"'), tokens))
    # In some values `ssh -G` has already inserted the home directory from the password file.
    prefix = os.path.join(_passwd_home(), ".ssh", "")
    return os.path.join(Path.home(), ".ssh", path[len(prefix) :]) if path.startswith(prefix) else path


def _tokens(alias: str, host: str, port: int, user: str) -> dict[str, str]:
    local = socket.gethostname()
    digest = hashlib.sha1(f"{local}{host}{port}{user}".encode(), usedforsecurity=False).hexdigest()
    return {
        "%": "%",
        "C": digest,
        "d": str(Path.home()),
        "h": host,
        "i": str(os.getuid()),
        "k": alias,
        "L": local.partition(".")[0],
        "l": local,
        "n": alias,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)
