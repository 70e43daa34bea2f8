"""The encoding of this process's locale, and its current directory."""

import os
import sys

from pilotmtc.errors import ConfigError


def speak_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if the locale has another encoding.

    What is read, stored and handed to tasks is UTF-8 everywhere. Python would take command lines and names of files for
    texts of the locale: a value would reach its task in other bytes than it was read in, or not at all.
    """
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def as_utf8(text: str) -> str:
    """Return what is `text` in the locale of this process as it is in UTF-8."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def current_directory() -> str:
    """Return the current directory by the name that the user's shell has for it, links and all.

    On the nodes of a cluster it may have no other: what a link leads to can differ from host to host.

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
        pass  # it has another name by now, or the variable is inherited from another directory
    try:
        return as_utf8(os.getcwd())
    except FileNotFoundError as error:
        raise ConfigError("the current directory has been removed: cd to one that exists") from error
