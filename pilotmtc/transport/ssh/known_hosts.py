"""Checks a host's key against the user's ``known_hosts`` files."""

import base64
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

from pilotmtc.errors import HostKeyRefused


class Entry(Struct, frozen=True):
    """A line of a ``known_hosts`` file."""

    file: str
    line: int
    marker: str
    names: str
    kind: str
    key: bytes

    def names_host(self, name: str) -> bool:
        """Return whether it is for the host `name`."""
        if self.names.startswith("|1|"):
            return _hash_matches(self.names, name)
        named = False
        for word in self.names.split(","):
            pattern = word.removeprefix("!").lower()
            # hosts with ports are in brackets, which fnmatch would take for a set of characters
            if fnmatch.fnmatchcase(name.lower(), pattern.replace("[", "[[]")):
                if word.startswith("!"):
                    return False
                named = True
        return named


class KeyMatch(Enum):
    """What the files say about a key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


def read_entries(files: Iterable[str]) -> list[Entry]:
    """Return the entries of all readable files, without invalid lines."""
    entries: list[Entry] = []
    for file in files:
        try:
            with open(file, encoding="utf-8", errors="replace") as lines:
                entries += filter(None, (_entry(file, number, line) for number, line in enumerate(lines, 1)))
        except OSError:
            continue  # most users have only some of the files
    return entries


def known_kinds(entries: Iterable[Entry], name: str) -> list[str]:
    """Return the types of the known keys of a host, to ask it for one of these."""
    return list(dict.fromkeys(entry.kind for entry in entries if not entry.marker and entry.names_host(name)))


def judge(entries: Sequence[Entry], name: str, kind: str, key: bytes) -> tuple[KeyMatch, Entry | None]:
    """Return what is known about a host's key, and the line in the files."""
    own = [entry for entry in entries if entry.names_host(name)]
    for entry in own:
        if entry.marker == "@revoked" and entry.key == key:
            return KeyMatch.REVOKED, entry
    plain = [entry for entry in own if not entry.marker]
    for entry in plain:
        if entry.kind == kind and entry.key == key:
            return KeyMatch.KNOWN, entry
    return (KeyMatch.CHANGED, plain[0]) if plain else (KeyMatch.UNKNOWN, None)


def refuse_unless_known(files: Sequence[str], name: str, where: str, kind: str, key: bytes) -> None:
    """Raise unless the key is known.

    Raises
    ------
    HostKeyRefused
        If it is unknown or wrong; the text says how to verify it, and what to do then.
    """
    verdict, entry = judge(read_entries(files), name, kind, key)
    if verdict is KeyMatch.KNOWN:
        return
    host, _, port = name[1:].partition("]:") if name.startswith("[") else (name, "", "")
    scan = f"ssh-keyscan {f'-p {port} ' if port else ''}-t {_short(kind)} {host}"
    print_of = f"its key is {_short(kind).upper()} {fingerprint(key)}"
    verify = (
        f"compare that with what the site publishes, or run `{scan} | ssh-keygen -lf -` where you trust the network"
    )
    if verdict is KeyMatch.UNKNOWN:
        raise HostKeyRefused(
            f"{where} is not a known host: {print_of}. First {verify}; if it is right, add it with "
            f"`{scan} >> {files[0] if files else '~/.ssh/known_hosts'}`"
        )
    assert entry is not None
    place = f"line {entry.line} of {entry.file}"
    if verdict is KeyMatch.REVOKED:
        raise HostKeyRefused(
            f"{where} shows a key that is revoked in {place}: {print_of}. Do not connect; ask the site"
        )
    raise HostKeyRefused(
        f"{where} does not show the key it is known by: somebody may be listening in, or the host was set up anew. "
        f"Now {print_of}; {place} has {_short(entry.kind).upper()} {fingerprint(entry.key)}. Ask the site, and "
        f"{verify}; if the new key is right, remove the old one with `ssh-keygen -R '{name}' -f {entry.file}` and add "
        f"the new one with `{scan} >> {entry.file}`"
    )


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint in the form of ``ssh-keygen -lf``."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _short(kind: str) -> str:
    return "ecdsa" if kind.startswith("ecdsa-") else kind.removeprefix("ssh-")


def _entry(file: str, number: int, line: str) -> Entry | None:
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if len(words) < 3:
        return None
    try:
        key = base64.b64decode(words[2], validate=True)
    except ValueError:
        return None
    return Entry(file=os.path.abspath(file), line=number, marker=marker, names=words[0], kind=words[1], key=key)


def _hash_matches(names: str, name: str) -> bool:
    try:
        _, _, salt, digest = names.split("|")
        expected = base64.b64decode(digest, validate=True)
        mac = hmac.new(base64.b64decode(salt, validate=True), name.encode(), hashlib.sha1)
    except ValueError:
        return False
    return hmac.compare_digest(mac.digest(), expected)
