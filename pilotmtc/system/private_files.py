"""Files and directories that must belong to this user, although others may be able to write in their parents.

Files of other users are never used, and links in place of our files are never followed. Checks are made on the open
file, not on its name.
"""

import os
import stat
from pathlib import Path

from pilotmtc.errors import ConfigError


def make_directory(path: str | Path) -> None:
    """Make a directory that only this user can use, and missing parents; an existing directory gets this mode.

    Raises
    ------
    ConfigError
        If it belongs to another user.
    OSError
        If it cannot be made.
    """
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        above = os.path.dirname(path)
        if not os.path.isdir(above):
            make_directory(above)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # another process has just made it, or it is not a directory
            if not os.path.isdir(path):
                raise
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _check(path, status, os.path.dirname(path))
        if stat.S_IMODE(status.st_mode) & 0o777 != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def make_below(base: str | Path, path: str | Path) -> None:
    """Do as `make_directory` for `base` and for all directories from there down to `path`."""
    base, path = os.path.abspath(base), os.path.abspath(path)
    levels = os.path.relpath(path, base).split(os.sep)
    for depth in range(len(levels) + 1):
        make_directory(os.path.normpath(os.path.join(base, *levels[:depth])))


def make_above(path: str | Path) -> None:
    """Make missing parent directories of the file `path`, for this user only; existing ones are not changed."""
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        make_directory(directory)


def open_file(path: str | Path, flags: int) -> int:
    """Open a regular file of this user, or create it with mode 0600; return its descriptor.

    Raises
    ------
    ConfigError
        If it is a link or not a regular file, or belongs to another user.
    OSError
        If it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except IsADirectoryError:  # the caller has a better message
        raise
    except OSError:
        check_file(path)
        raise
    try:
        _check_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_file(path: str | Path) -> None:
    """Raise `ConfigError` if `path` exists and is not a regular file of this user."""
    try:
        status = os.lstat(path)
    except OSError:  # it does not exist or is not visible, which opening it will report
        return
    _check_regular(path, status)


def _check_regular(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise ConfigError(f"{path} is a symbolic link, where a file of yours should be: remove it")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a regular file: remove it, or choose another place")
    _check(path, status, os.path.dirname(os.path.abspath(path)))


def _check(path: str | Path, status: os.stat_result, directory: str) -> None:
    if status.st_uid not in (os.geteuid(), _seen_as(directory, status.st_uid)):
        raise ConfigError(
            f"{path} belongs to another user (uid {status.st_uid}), who could make you run what they want: remove it, "
            "or choose another place"
        )


def _seen_as(directory: str, found: int) -> int:
    """Return the owner of new files in `directory`: some file systems show another owner than this user."""
    if found == os.geteuid():
        return found
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            return os.fstat(probe.fileno()).st_uid
    except OSError:
        return os.geteuid()
