"""Finding a session's store before it is opened."""

import os
from pathlib import Path

from pilotmtc.errors import ConfigError
from pilotmtc.sites import LOCAL, get_site
from pilotmtc.store.location import VARIABLE, StoreLocation, locate


def find_store(store: str | Path | None = None, site: str = LOCAL) -> StoreLocation:
    """Return the location of `store`; by default, of the site's store or else of the user's default store.

    Raises
    ------
    ConfigError
        If a store cannot be there, or if there is no such site.
    """
    known = None if site == LOCAL else get_site(site)  # the site must exist, even if its store is not used
    word = known.url if store is None and known is not None else store
    return locate(None if word is None else str(word))


def expect_store(store: str | None, site: str = LOCAL) -> None:
    """Raise if a store that was named does not exist, so that a misspelt path does not become an empty store.

    The default store, and a store on another host, need not exist yet.

    Raises
    ------
    ConfigError
        If it does not exist.
    """
    named = store or (os.environ.get(VARIABLE) if site == LOCAL else None)
    if named is None or (where := locate(named)).target is not None:
        return
    try:
        os.stat(where.path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no store at {where.path}: pilotmtc submit or run makes one") from error
    except OSError:
        return  # opening it gives a better message
