"""Read ``ssh://`` URLs, and quote commands for whatever shell the other host has."""

import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from msgspec import Struct

from pilotmtc.errors import ConfigError

TRANSPORTS = ("paramiko", "openssh")
_OPTIONS = ("command", "config", "identity", "transport")
_EXAMPLE = "ssh://me@login.site/~/runs/store.db"
_SAFE = re.compile(r"[A-Za-z0-9_./:@+,\-]")
_HOME = re.compile(r"~[A-Za-z0-9_.\-]*(?=/|$)")
_HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%\-]*")
_USER = re.compile(r"[^\s@:/\-][^\s@:/]*")


class SshTarget(Struct, frozen=True):
    """What an ``ssh://`` URL says.

    Attributes
    ----------
    host
        As the user wrote it: a name, an address or an alias from the SSH configuration.
    user, port
        None: the SSH configuration decides.
    path
        The file there: absolute, or starting with ``~``.
    command
        How to run pilotmtc there: the program's name or path, or, if it contains spaces, the start of a shell line.
        None: ``pilotmtc``.
    config
        The SSH configuration file to use instead of the user's and the system's.
    identity
        The private key file to use; no other key is tried.
    transport
        ``paramiko``, or ``openssh`` for the system's ``ssh`` program.
    """

    host: str
    user: str | None = None
    port: int | None = None
    path: str = ""
    command: str | None = None
    config: str | None = None
    identity: str | None = None
    transport: str = "paramiko"

    def __str__(self) -> str:
        user = f"{quote(self.user)}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        path = quote(self.path if self.path.startswith("/") else f"/{self.path}", safe="/~")
        given = {name: getattr(self, name) for name in _OPTIONS}
        given["transport"] = None if self.transport == "paramiko" else self.transport
        query = "&".join(f"{name}={quote(value, safe='/~')}" for name, value in given.items() if value)
        return f"ssh://{user}{host}{port}{path}{'?' if query else ''}{query}"


def parse_url(url: str) -> SshTarget:
    """Read a URL ``ssh://user@host:port/path``; the path ``/~/x`` is x in the home directory there.

    Raises
    ------
    ConfigError
        If it is not such a URL; the text says what is wrong.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: {error}; write it like {_EXAMPLE}") from error
    if parts.scheme != "ssh":
        raise ConfigError(f"{url} is not an ssh:// URL; write it like {_EXAMPLE}")
    if parts.password is not None:
        raise ConfigError(f"ssh://{host}: a password does not belong in a URL, where others can read it; leave it out")
    if not host or not _HOST.fullmatch(host):
        raise ConfigError(f"{url} names no host; write it like {_EXAMPLE}")
    host = _as_written(parts.netloc, host)
    user = unquote(parts.username) if parts.username is not None else None
    if user is not None and not _USER.fullmatch(user):
        raise ConfigError(f"{url}: {user!r} is not a valid user name")
    if parts.fragment:
        raise ConfigError(f"{url}: write %23 for a # in the path")
    path = unquote(parts.path, errors="surrogateescape")
    if path.startswith("/~"):
        path = path[1:]
    if path in ("", "/") or path.endswith("/") or _HOME.fullmatch(path):
        raise ConfigError(f"{url} names no file; write it like {_EXAMPLE}")
    _check_text(url, path)
    options = _options(url, parts.query)
    return SshTarget(host=host, user=user, port=port, path=path, **options)


def _as_written(netloc: str, host: str) -> str:
    # urlsplit converts hosts to lower case, but aliases in the SSH configuration are case-sensitive.
    at = netloc.lower().rfind(host)
    return netloc[at : at + len(host)]


def _options(url: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise ConfigError(f"{url}: after the ?, write name=value: {error}") from error
    for name, value in pairs:
        if name not in _OPTIONS or not value or name in options:
            raise ConfigError(f"{url}: unknown option {name}={value}; use {', '.join(_OPTIONS)}, each once")
        _check_text(url, value)
        options[name] = value
    if options.get("transport", "openssh") not in TRANSPORTS:
        raise ConfigError(f"{url}: transport is one of {', '.join(TRANSPORTS)}")
    return options


def _check_text(url: str, text: str) -> None:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ConfigError(f"{url}: contains a control character, which shells cannot be trusted with; remove it")


def quote_word(word: str) -> str:
    r"""Quote `word` so that sh, bash, dash, zsh, ksh, tcsh and fish all read it as one word.

    Quotation marks are not enough: fish and tcsh interpret backslashes and exclamation marks inside them. All of them
    understand a backslash before a special character. The shell expands ``~`` or ``~user`` at the start.

    >>> print(quote_word("~/my runs/a'b.db"))
    ~/my\ runs/a\'b.db
    """
    home = _HOME.match(word)
    kept = home.group() if home else ""
    rest = word[len(kept) :]
    escaped = "".join(char if ord(char) > 127 or _SAFE.match(char) else f"\\{char}" for char in rest)
    return f"{kept}{escaped}" or "''"


def remote_command(program: str, *arguments: str) -> str:
    """Return the shell line that runs `program` on the other host.

    A `program` that contains spaces is the start of a shell line, and is not quoted.
    """
    tail = " ".join(map(quote_word, arguments))
    if " " in program:
        return f"{program} {tail}"
    return f"exec {quote_word(program)} {tail}"  # so that no shell stays behind to wait for it
