"""Where the store is."""

import os
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, PilotMTCError
from pilotmtc.store import serve
from pilotmtc.transport.ssh_url import SshTarget, parse_url
from pilotmtc.wire.frames import error_of
from pilotmtc.wire.messages import Failure

VARIABLE = "PILOTMTC_STORE"


class StoreLocation(Struct, frozen=True):
    """A store's place.

    Attributes
    ----------
    url
        As a user may write it, and as it can be given to a process with another working directory.
    path
        The file: absolute, or, on another host, beginning with the home directory ``~`` there.
    target
        How to get to the other host; None for a file on this one.
    """

    url: str
    path: str
    target: SshTarget | None = None


def locate(url: str | None = None) -> StoreLocation:
    """Return where the store is: `url`, else ``$PILOTMTC_STORE``, else a file in the user's data directory.

    Raises
    ------
    ConfigError
        If that is no place for a store.
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
    except RuntimeError as error:  # no home for ~somebody
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
    target = replace(target, **files)
    return StoreLocation(url=str(target), path=target.path, target=target)


def _default() -> str:
    data = os.environ.get("XDG_DATA_HOME", "")
    return os.path.join(data if os.path.isabs(data) else "~/.local/share", "pilotmtc", "store.db")


def runtime_dir() -> str:
    """Return the private directory for the store servers' sockets, made if it is not there.

    Raises
    ------
    ConfigError
        If the only candidate belongs to somebody else or is open to others.
    """
    try:
        return serve.runtime_dir()
    except serve.Refused as refused:
        raise as_error(refused) from refused


def socket_path(path: str) -> str:
    """Return where the server of the store at `path` listens."""
    runtime_dir()
    return serve.socket_path(os.path.realpath(path))


def as_error(refused: serve.Refused) -> PilotMTCError:
    """Return the error that `refused` names."""
    return error_of(Failure(refused.error, str(refused)))
