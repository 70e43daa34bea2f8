"""The result of a check."""

from collections.abc import Callable

from msgspec import Struct

from pilotmtc.errors import PilotMTCError


class Finding(Struct, frozen=True):
    """The result of one check.

    Attributes
    ----------
    name
        What was checked.
    ok
        Whether it is all right; None if it could not be checked.
    words
        What was found; or what is wrong, and what to do.
    exit_code
        The exit code of the command line.
    """

    name: str
    ok: bool | None
    words: str
    exit_code: int = 0


def finding(name: str, try_it: Callable[[], str]) -> Finding:
    """Return the finding of `try_it`, or one for the error that it raises."""
    try:
        return Finding(name, True, try_it())
    except PilotMTCError as error:
        return Finding(name, False, str(error), error.exit_code)
