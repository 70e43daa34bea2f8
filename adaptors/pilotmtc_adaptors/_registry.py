"""The installed dialects: entry points of the group ``pilotmtc.dialects``, in this package and others.

An entry point's name is the scheme of the URLs that it serves; what it names is a `Dialect`. Only the one in use is
imported, so a broken one does not affect the others.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import msgspec

from pilotmtc.errors import ConfigError
from pilotmtc_adaptors._dialect import Dialect, JobRequest

GROUP = "pilotmtc.dialects"
_VERBS = ("submit", "status", "cancel", "find", "jobs")


def schemes() -> tuple[str, ...]:
    """Return the schemes of all dialects that are installed."""
    return tuple(sorted({each.name for each in entry_points(group=GROUP)}))


def dialect(scheme: str) -> Dialect:
    """Return the dialect of a scheme.

    Raises
    ------
    ConfigError
        If there is none, or more than one, or if it cannot be used. The text names the package.
    """
    entries = {each.value: each for each in entry_points(group=GROUP, name=scheme)}
    if not entries:
        raise ConfigError(f"no dialect for {scheme}:// is installed: there are {', '.join(schemes())}")
    if len(entries) > 1:
        raise ConfigError(
            f"several dialects for {scheme}://: {_named(entries.values())}: uninstall all but one package"
        )
    (entry,) = entries.values()
    try:
        found: Dialect = entry.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"the dialect {_named([entry])} cannot be loaded: {error}") from error
    if missing := [each for each in _VERBS if not callable(getattr(found, each, None))]:
        raise ConfigError(f"the dialect {_named([entry])} has no {', '.join(missing)}")
    maps, known = getattr(found, "maps", None), {each.name for each in msgspec.structs.fields(JobRequest)}
    if not isinstance(maps, frozenset) or not maps <= known or scheme not in getattr(found, "schemes", ()):
        text = f"its maps must be a frozenset of names of JobRequest's fields, and its schemes must hold {scheme!r}"
        raise ConfigError(f"the dialect {_named([entry])} cannot be used: {text}")
    return found


def _named(entries: Iterable[EntryPoint]) -> str:
    named = (f"{each.value} of {each.dist.name if each.dist else 'an unknown package'}" for each in entries)
    return " and ".join(sorted(named))
