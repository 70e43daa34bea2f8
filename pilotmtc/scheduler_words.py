"""Words of a user that become words of a scheduler's command line: what none of them may be."""

from pilotmtc.errors import UsageError


def word(what: str, value: str) -> str:
    """Return `value` if a scheduler can take it as one word on its command line.

    Raises
    ------
    UsageError
        If it could be taken for an option, or holds blanks or characters that cannot be printed.
    """
    if value.startswith("-"):
        raise UsageError(f"{what} {value!r} begins with '-': the scheduler would take it for an option")
    if not value.isprintable() or any(letter.isspace() for letter in value):
        raise UsageError(f"{what} {value!r} holds blanks or control characters: give a plain name")
    return value


def line(what: str, value: str) -> str:
    """Return `value` if it is one printable line, no option; `UsageError` otherwise. Blanks are allowed."""
    if value.startswith("-"):
        raise UsageError(f"{what} {value!r} begins with '-': the scheduler would take it for an option")
    if not value.isprintable():
        raise UsageError(f"{what} {value!r} holds line breaks or other control characters")
    return value
