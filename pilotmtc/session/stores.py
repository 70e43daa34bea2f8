"""Which store is meant, before it is opened."""

import os
from pathlib import Path

from pilotmtc.errors import ConfigError
from pilotmtc.sites import LOCAL, get_site
from pilotmtc.store.location import VARIABLE, StoreLocation, locate


def find_store(store: str | Path | None = None, site: str = LOCAL) -> StoreLocation:
    """Return the place of a store: of `store`, else of that of `site`, else of the usual one.

    Raises
    ------
    ConfigError
        If that is no place for a store, or there is no such site.
    """
    known = None if site == LOCAL else get_site(site)  # which must exist, whether its store is wanted or not
    word = known.url if store is None and known is not None else store
    return locate(None if word is None else str(word))


def expect_store(store: str | None, site: str = LOCAL) -> None:
    """Check that a store that was named exists, so that a misspelt path does not become an empty store.

    The usual store, and one on another host, need not exist yet.

    Raises
    ------
    ConfigError
        If it does not.
    """
    named = store or (os.environ.get(VARIABLE) if site == LOCAL else None)
    if named is None or (where := locate(named)).target is not None:
        return
    try:
        os.stat(where.path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no store at {where.path}: pilotmtc submit or run makes one") from error
    except OSError:
        return  # opening it says better what is wrong
