"""What a check has found."""

from collections.abc import Callable

from msgspec import Struct

from pilotmtc.errors import PilotMTCError


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes
    ----------
    name
        What it is.
    ok
        Whether it is as it must be; None if it could not be looked at.
    words
        What was found, or what is wrong and what to do.
    exit_code
        What the command line makes of it.
    """

    name: str
    ok: bool | None
    words: str
    exit_code: int = 0


def finding(name: str, try_it: Callable[[], str]) -> Finding:
    """Return what `try_it` says, or the error that it raises."""
    try:
        return Finding(name, True, try_it())
    except PilotMTCError as error:
        return Finding(name, False, str(error), error.exit_code)
