"""Keys of a store's own. Each opens this store over SSH and nothing else.

The private part is ``STORE.d/keys/NAME``. The public part is a line in the account's ``authorized_keys`` that allows
only ``pilotmtc serve STORE --key NAME``, so that the server knows the key; the line's comment has the store's name. A
key without ``STORE.d/keys/NAME.pub`` is refused, because an SSH connection may be older than the key's revocation.
"""

import base64
import contextlib
import os
import re
from pathlib import Path

from pilotmtc.boot import program
from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.protocol.records import Key
from pilotmtc.store.access import authorized_keys
from pilotmtc.system import private_files
from pilotmtc.system.digests import sha256
from pilotmtc.transport.ssh.url import quote_word

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PUBLIC = ".pub"
_PILOT = "pilot-"
_KEYGEN_TIMEOUT_S = 30.0


def new_key(store_path: str | Path, name: str, *, file: str | Path | None = None) -> Key:
    """Make the key `name` of the store, or complete an existing one; return it.

    Safe to repeat: existing parts are kept.

    Parameters
    ----------
    store_path
        The store's file on this host.
    name
        Letters, digits, dots, dashes and underscores.
    file
        The file ``authorized_keys`` for its line; None: the account's default.

    Raises
    ------
    UsageError
        If `name` is not a valid name.
    ConfigError
        If a file cannot be written, if ``authorized_keys`` cannot contain the store's path, or without ssh-keygen.
    """
    private, mark = _private_of(store_path, name), _mark(store_path, name)
    options = f'restrict,command="{_command(store_path, name)}"'.encode("utf-8", "surrogateescape")
    public = _pair(private)
    lines = authorized_keys.locate(file)
    line = b"%s ssh-ed25519 %s %s" % (options, public, mark)

    def is_old(line: bytes) -> bool:
        found = authorized_keys.parse(line)
        return found is not None and (found.comment == mark or found.key == public)

    def is_good(line: bytes) -> bool:
        found = authorized_keys.parse(line)  # a user may have added options to it
        return found is not None and found.key == public and options in found.options

    if not any(map(is_good, authorized_keys.read(lines))):
        authorized_keys.change(lines, is_old, line)
    return _key(private, public, authorized=True)


def pilot_key_name(pilot_key: str) -> str:
    """Return the name of the SSH key of the pilot with this key."""
    return f"{_PILOT}{pilot_key}"


def pilot_of(name: str) -> str | None:
    """Return the key of the pilot whose SSH key has this name; None if it is not a pilot's."""
    return name.removeprefix(_PILOT) if name.startswith(_PILOT) else None


def is_valid(store_path: str | Path, name: str) -> bool:
    """Return whether the key `name` exists and was not revoked."""
    return _is_name(name) and _shown(_directory(store_path) / name).exists()


def keyed_pilots(store_path: str | Path) -> tuple[str, ...]:
    """Return the keys of pilots that have an SSH key, by their private parts, which are removed last."""
    try:
        names = sorted(os.listdir(_directory(store_path)))
    except OSError:  # there are none, or they cannot be read
        return ()
    return tuple(name.removeprefix(_PILOT) for name in names if name.startswith(_PILOT) and _is_name(name))


def list_keys(store_path: str | Path, *, file: str | Path | None = None) -> tuple[Key, ...]:
    """Return the keys of the store by name, including those with a line in ``authorized_keys`` only."""
    prefix = _mark(store_path, "")
    entered: dict[bytes, str] = {}
    for line in authorized_keys.read(authorized_keys.locate(file)):
        found = authorized_keys.parse(line)
        if found is not None:
            mine = found.comment.startswith(prefix)
            entered[found.key] = found.comment[len(prefix) :].decode("utf-8", "replace") if mine else ""
    keys = {}
    directory = _directory(store_path)
    with contextlib.suppress(FileNotFoundError):
        for private in directory.iterdir():
            if _is_name(private.name):
                public = _public_of(private)
                keys[private.name] = _key(private, public, authorized=public in entered)
    for public, name in entered.items():
        if _is_name(name) and name not in keys:
            keys[name] = _key(directory / name, public, authorized=True)
    return tuple(keys[name] for name in sorted(keys))


def revoke_key(store_path: str | Path, name: str, *, file: str | Path | None = None) -> bool:
    """Revoke the key `name` of the store, and remove it; return whether any part of it existed.

    Safe to repeat. Its open connections are ended by the server, not here.

    Raises
    ------
    UsageError
        If `name` is not a valid name.
    ConfigError
        If a file cannot be written.
    """
    private, mark = _private_of(store_path, name), _mark(store_path, name)
    public = _public_of(private)

    def is_it(line: bytes) -> bool:
        found = authorized_keys.parse(line)
        return found is not None and (found.comment == mark or (public != b"" and found.key == public))

    lines = authorized_keys.locate(file)
    known = any(map(is_it, authorized_keys.read(lines)))
    if known:
        authorized_keys.change(lines, is_it)
    try:
        for part in (_shown(private), private):
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
                known = True
    except OSError as error:
        raise ConfigError(
            f"{private} cannot be removed: {error.strerror}; the key opens nothing any more all the same"
        ) from error
    return known


def _directory(store_path: str | Path) -> Path:
    return Path(f"{os.path.realpath(store_path)}.d") / "keys"


def _private_of(store_path: str | Path, name: str) -> Path:
    if not _is_name(name):
        raise UsageError(
            f"{name!r} cannot be a key's name: up to 64 letters, digits, dots, dashes and underscores, not {_PUBLIC} "
            "at the end"
        )
    return _directory(store_path) / name


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(_PUBLIC)


def _shown(private: Path) -> Path:
    return private.with_name(f"{private.name}{_PUBLIC}")


def _mark(store_path: str | Path, name: str) -> bytes:
    """Return the comment of the key's line, which is unique to this store and key."""
    store = sha256(os.fsencode(os.path.realpath(store_path))).hexdigest()[:16]
    return f"pilotmtc:{store}:{name}".encode()


def _command(store_path: str | Path, name: str) -> str:
    """Return the command that the key may run, as a shell line quoted for ``authorized_keys``."""
    path = os.path.realpath(store_path)
    words = (*program("pilotmtc", "serve"), path, "--key", name)
    for word in words:
        if any(ord(char) < 32 or ord(char) == 127 for char in word):
            raise ConfigError(
                f"{word!r} cannot stand in authorized_keys: rename it so that it has no control characters"
            )
    return ("exec " + " ".join(map(quote_word, words))).replace('"', '\\"')


def _pair(private: Path) -> bytes:
    """Make the private part if it does not exist; return the public part."""
    import shutil
    import tempfile

    directory = private.parent
    try:
        private_files.make_below(directory.parent, directory)
        if not private.exists():
            made = Path(tempfile.mkdtemp(dir=directory, prefix=".new-"))
            try:
                _keygen("-t", "ed25519", "-N", "", "-C", private.name, "-f", str(made / "key"))
                with contextlib.suppress(FileExistsError):  # another process was faster: use its key
                    os.link(made / "key", private)
            finally:
                shutil.rmtree(made)
        private.chmod(0o600)
        public = _keygen("-y", "-P", "", "-f", str(private))
        shown = _shown(private)
        if _public_of(private) != public.split()[1]:
            shown.write_bytes(b" ".join([*public.split()[:2], private.name.encode()]) + b"\n")
    except OSError as error:
        raise ConfigError(f"{private} cannot be written: {error.strerror}") from error
    return public.split()[1]


def _keygen(*words: str) -> bytes:
    import subprocess  # most servers make no keys

    try:
        done = subprocess.run(
            ["ssh-keygen", "-q", *words],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_KEYGEN_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConfigError("there is no ssh-keygen on the store's host: install OpenSSH's client there") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"ssh-keygen has not ended within {_KEYGEN_TIMEOUT_S:g} s; try again") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise ConfigError(f"ssh-keygen failed with {words[-1]}: {said}; `pilotmtc store key revoke` removes a bad key")
    return done.stdout


def _public_of(private: Path) -> bytes:
    """Return the public part of a key; empty if it cannot be read."""
    try:
        return _shown(private).read_bytes().split()[1]
    except (OSError, IndexError):
        return b""


def _key(private: Path, public: bytes, *, authorized: bool) -> Key:
    try:
        digest = sha256(base64.b64decode(public, validate=True)).digest()
        fingerprint = f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}" if public else ""
    except ValueError:  # the line is damaged
        fingerprint = ""
    return Key(private.name, str(private), fingerprint, authorized=authorized, private=private.exists())
