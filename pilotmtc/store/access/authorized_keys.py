"""Adds and removes lines of the account's ``authorized_keys``, and leaves all others alone."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from pilotmtc.errors import ConfigError
from pilotmtc.system import private_files

VARIABLE = "PILOTMTC_SERVER_AUTHORIZED_KEYS"
_LOCK_TIMEOUT_S = 10.0
_TYPES = (b"ssh-", b"ecdsa-", b"sk-")


class Line(Struct, frozen=True):
    """A line; `options` is empty if there are none."""

    options: bytes
    key: bytes
    comment: bytes


def locate(path: str | Path | None = None) -> Path:
    """Return the file: `path`, or from the environment, or the default; symbolic links are resolved."""
    word = path or os.environ.get(VARIABLE) or "~/.ssh/authorized_keys"
    return Path(os.path.realpath(os.path.expanduser(word)))


def parse(line: bytes) -> Line | None:
    """Parse `line` by the rules of sshd(8); return None if it has no key."""
    line = line.strip()
    if not line or line.startswith(b"#"):
        return None
    options = b""
    if not line.startswith(_TYPES):
        end = _end_of_options(line)
        options, line = line[:end], line[end:].lstrip()
    _, _, rest = line.partition(b" ")
    key, _, comment = rest.strip().partition(b" ")
    return Line(options, key, comment.strip()) if key else None


def _end_of_options(line: bytes) -> int:
    quoted = False
    at = 0
    while at < len(line) and (quoted or line[at : at + 1] not in (b" ", b"\t")):
        if line[at : at + 2] == b'\\"':
            at += 1
        elif line[at : at + 1] == b'"':
            quoted = not quoted
        at += 1
    return at


def read(file: Path) -> list[bytes]:
    """Return the lines of `file` without their ends; none if it does not exist.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        return file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def change(file: Path, drop: Callable[[bytes], bool], add: bytes = b"") -> int:
    """Remove the lines for which `drop` is true, append the line `add`, and return the number of removed lines.

    Readers see the old file or the new one. Lines of other programs are never lost: they may append at any time, and if
    the file has changed in the meantime, this starts again.

    Raises
    ------
    ConfigError
        If the file or its directory cannot be written.
    """
    try:
        private_files.make_above(file)
        with _locked(file):
            while True:
                seen = _state(file)
                lines = read(file)
                kept = [line for line in lines if not line or not drop(line)]
                if len(kept) < len(lines):
                    if not _replace(file, b"\n".join([*kept[: _end(kept)], *([add] if add else []), b""]), seen):
                        continue
                elif add:
                    _append(file, add)
                return len(lines) - len(kept)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


def _end(lines: list[bytes]) -> int:
    return len(lines) - 1 if lines and not lines[-1] else len(lines)


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        seen = file.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Lock out other processes of pilotmtc."""
    descriptor = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ConfigError(f"another program keeps {file} locked: end it, then try again") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _append(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        begun = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # the last line lacks its end
        data = (b"\n" if begun else b"") + line + b"\n"
        written = os.write(descriptor, data)  # in one write, because others may append as well
        if written < len(data):
            if os.fstat(descriptor).st_size == size + written:
                os.ftruncate(descriptor, size)
            raise ConfigError(f"no space left for {file}: nothing was changed; free some and try again")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(file: Path, data: bytes, seen: tuple[int, ...] | None) -> bool:
    """Replace the file with `data` unless it has changed since it was `seen`; return whether it was replaced."""
    import tempfile

    mode = file.stat().st_mode & 0o7777
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "wb") as copy:
            copy.write(data)
            copy.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        if _state(file) != seen:
            return False
        os.replace(name, file)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
