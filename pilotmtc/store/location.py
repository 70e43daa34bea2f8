"""Where a store is: from a path, a URL or the environment to a `StoreLocation`."""

import os
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, PilotMTCError
from pilotmtc.protocol.frames import Failure, error_of
from pilotmtc.store import serve
from pilotmtc.system.digests import sha256
from pilotmtc.transport.ssh.url import SshTarget, parse_url

VARIABLE = "PILOTMTC_STORE"
COMMAND_VARIABLE = "PILOTMTC_REMOTE_COMMAND"  # how to run pilotmtc on the other host


class StoreLocation(Struct, frozen=True):
    """Where a store is.

    Attributes
    ----------
    url
        In the form that users write; it does not depend on the current directory.
    path
        The file: absolute, or, on another host, starting with the home directory ``~`` there.
    target
        How to reach the other host; None for a file on this one.
    """

    url: str
    path: str
    target: SshTarget | None = None

    @property
    def directory(self) -> str:
        """The directory on this machine for the files of its pilots."""
        if self.target is None:
            return f"{self.path}.d"
        # Host, user, port and file identify the store; options of the URL may change.
        name = f"{self.target.user}@{self.target.host}:{self.target.port}{self.path}"
        digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return os.path.join(os.path.expanduser(_data_home()), "pilotmtc", "remote", f"{self.target.host}-{digest}.d")


def locate(url: str | None = None) -> StoreLocation:
    """Return the location that `url` names, by default that of ``$PILOTMTC_STORE`` or the user's data directory.

    Raises
    ------
    ConfigError
        If a store cannot be there.
    """
    word = url or os.environ.get(VARIABLE) or _default()
    scheme, colon, rest = word.partition("://")
    if colon and scheme == "ssh":
        return _on_other_host(word)
    if colon and scheme == "file":
        word = rest
    elif colon:
        raise ConfigError(
            f"{word}: {scheme}:// stores are not supported by this version; give a file's path or an ssh:// URL"
        )
    try:
        path = os.path.abspath(Path(word).expanduser())
    except RuntimeError as error:  # ~user without a home directory
        raise ConfigError(f"{word}: {error}") from error
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a directory: give the store's file, such as {os.path.join(path, 'store.db')}")
    return StoreLocation(url=path, path=path)


def _on_other_host(url: str) -> StoreLocation:
    target = parse_url(url)
    files = {
        name: os.path.abspath(os.path.expanduser(file))
        for name in ("config", "identity")
        if (file := getattr(target, name)) is not None
    }
    target = replace(target, command=target.command or os.environ.get(COMMAND_VARIABLE) or None, **files)
    return StoreLocation(url=str(target), path=target.path, target=target)


def _default() -> str:
    return os.path.join(_data_home(), "pilotmtc", "store.db")


def _data_home() -> str:
    data = os.environ.get("XDG_DATA_HOME", "")
    return data if os.path.isabs(data) else "~/.local/share"


def runtime_dir() -> str:
    """Return the private directory for the store servers' sockets; create it if necessary.

    Raises
    ------
    ConfigError
        If the directory belongs to another user or is open to others.
    """
    try:
        return serve.runtime_dir()
    except serve.Refused as refused:
        raise as_error(refused) from refused


def socket_path(path: str) -> str:
    """Return the path of the socket on which the server of the store at `path` listens."""
    runtime_dir()
    return serve.socket_path(os.path.realpath(path))


def as_error(refused: serve.Refused) -> PilotMTCError:
    """Return `refused` as one of pilotmtc's errors."""
    return error_of(Failure(refused.error, str(refused)))
