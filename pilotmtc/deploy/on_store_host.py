"""Checks that only the store's host can make: of its scheduler, and of the way from compute nodes back to it."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.deploy.finding import Finding, finding
from pilotmtc.errors import ConfigError, ConnectError, PilotMTCError, StatusUnavailable
from pilotmtc.model import PilotDescription, PilotId
from pilotmtc.pilots.scheduler import Scheduler
from pilotmtc.pilots.store_access import give_access, parse_login
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.records import Job
from pilotmtc.sites import LOCAL, SAME_HOST, SCHEDULERS, find_scheduler, scheduler_url
from pilotmtc.states import PilotState
from pilotmtc.store.access.keys import revoke_key
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.location import locate
from pilotmtc.system import private_files

_PATIENCE_S = 20.0
_KNOCK_S = 5.0
_CURE = (
    "say how nodes reach this host with --login [user@]host[:port]; `--login -` if they are this host and need no SSH"
)


def look(scheduler: str, login: str, store: str) -> Iterator[Finding]:
    """Check the scheduler with this name or URL, and whether a pilot's key opens `store` through `login`."""
    if scheduler not in ("", LOCAL):
        yield finding("scheduler", lambda: _scheduler(scheduler))
    if login != SAME_HOST:
        yield finding("way back", lambda: _way_back(login, locate(store or None).path))


def _scheduler(word: str) -> str:
    url = scheduler_url(word)
    try:
        with Scheduler(url) as scheduler:
            jobs = scheduler.find(f"pilotmtc-check-{secrets.token_hex(4)}")
    except PilotMTCError as error:
        if other := _other_than(word):
            words = str(error).rstrip("?")
            error.args = (f"{words}. The commands of {other} are on the PATH here: `--scheduler {other}`?",)
        elif isinstance(error, StatusUnavailable):
            error.args = (f"{error}: see to it that its commands work in a login here, or name another --scheduler",)
        raise
    assert not jobs
    program = shutil.which(SCHEDULERS.get(word, ""))
    return f"{url} answers{f'; submits with {program}' if program else ''}"


def _other_than(word: str) -> str:
    """Return another scheduler whose commands are installed here, if there is one."""
    try:
        found = find_scheduler()
    except ConfigError:  # there is none
        return ""
    return found if found != word else ""


def _way_back(login: str, store: str) -> str:
    """Connect as an agent does, with a key like a pilot's, as far as this can be tried on this host itself."""
    key = f"check-{secrets.token_hex(4)}"
    base = Path(f"{store}.d")
    try:
        private_files.make_directory(base)
        directory = tempfile.mkdtemp(prefix=".check-", dir=base)
    except OSError as error:
        raise ConfigError(f"cannot write to {base}: {error.strerror}") from error
    description = PilotDescription(login=login)
    try:
        _knock(login)
        url = give_access(store, Job(PilotId(0), key, PilotState.NEW, description, directory), key)
        with connect_store(url, patience_s=_PATIENCE_S) as client:
            client.call(GetStore())
    except ConnectError as error:
        error.args = (f"{error}: {_CURE}",)
        raise
    finally:
        revoke_key(store, key)
        shutil.rmtree(directory, ignore_errors=True)
    name = login or socket.getfqdn()
    return f"a pilot's key opens the store through {name}, tried on {os.uname().nodename} itself"


def _knock(login: str) -> None:
    """Raise at once if nothing listens there; a client of the store would keep trying."""
    _, host, port = parse_login(login or socket.getfqdn())
    try:
        socket.create_connection((host, port), timeout=_KNOCK_S).close()
    except ConnectionRefusedError as error:
        raise ConfigError(f"no SSH server listens on {host}, port {port}: {_CURE}") from error
    except OSError:  # the connection itself gives a better message
        return
