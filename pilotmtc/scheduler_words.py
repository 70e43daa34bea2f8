"""Checks of users' values that become arguments of a scheduler's commands."""

from pilotmtc.errors import UsageError


def word(what: str, value: str) -> str:
    """Return `value` if it is safe as one argument of a scheduler's command.

    Raises
    ------
    UsageError
        If it looks like an option, or contains blanks or unprintable characters.
    """
    if value.startswith("-"):
        raise UsageError(f"{what} {value!r} begins with '-': the scheduler would take it for an option")
    if not value.isprintable() or any(letter.isspace() for letter in value):
        raise UsageError(f"{what} {value!r} holds blanks or control characters: give a plain name")
    return value


def line(what: str, value: str) -> str:
    """Return `value` if it is one printable line that does not look like an option; otherwise raise `UsageError`."""
    if value.startswith("-"):
        raise UsageError(f"{what} {value!r} begins with '-': the scheduler would take it for an option")
    if not value.isprintable():
        raise UsageError(f"{what} {value!r} holds line breaks or other control characters")
    return value
