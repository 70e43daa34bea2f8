"""The encoding of this process's locale, and its current directory."""

import os
import sys

from pilotmtc.errors import ConfigError


def speak_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if the locale has another encoding.

    All input, the store, and what tasks get are UTF-8. In another locale, Python would decode command lines and file
    names differently, and a value would reach its task in other bytes than it was read, or not at all.
    """
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def as_utf8(text: str) -> str:
    """Return `text`, decoded by the locale of this process, as decoded from UTF-8."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def current_directory() -> str:
    """Return the current directory as the user's shell names it, with symbolic links.

    On the nodes of a cluster, only that name may exist: a link may lead to different places on different hosts.

    Raises
    ------
    ConfigError
        If it has been removed.
    """
    logical = os.environ.get("PWD", "")
    try:
        plain = os.path.isabs(logical) and os.path.normpath(logical) == logical
        if plain and os.path.samestat(os.stat(logical), os.stat(".")):
            return as_utf8(logical)
    except OSError:
        pass  # it was renamed, or the variable is from another directory
    try:
        return as_utf8(os.getcwd())
    except FileNotFoundError as error:
        raise ConfigError("the current directory has been removed: cd to one that exists") from error
