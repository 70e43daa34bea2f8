"""Whether results may be loaded from a store: a pickle can run any program, so only from the user's own."""

import os

from pilotmtc.errors import ConfigError, NotPermitted, PilotMTCError
from pilotmtc.protocol.client.maintenance import GetKeys
from pilotmtc.session.link import StoreLink

_WHY = "results of functions are loaded from a store of your own only, since a pickle can run any program"


def check_file(path: str) -> None:
    """Raise `ConfigError` if the store's file on this host is another user's."""
    try:
        owner = os.stat(path).st_uid
    except OSError:  # there is none yet; or opening it says better what is wrong
        return
    if owner != os.geteuid():
        raise ConfigError(f"the store {path} belongs to the user with number {owner}: {_WHY}; give another store")


def check_account(link: StoreLink) -> None:
    """Raise `ConfigError` if a key has opened a store on another host, and not a login: it may be anybody's."""
    try:
        link.call(GetKeys())  # which keys cannot ask for
    except NotPermitted as error:
        raise ConfigError(
            f"a key of the store has opened {link.url}: {_WHY}; come by a login of your own on its host"
        ) from error
    except PilotMTCError:  # a login was let in, whatever hinders the answer
        return
