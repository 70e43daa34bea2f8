"""Requests that take long and need little of the store but its path: the server does them beside its loop."""

import os
import sqlite3
from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed, Done, Reply
from pilotmtc.protocol.client.maintenance import CheckStore, GetKeys, Keys, NewKey, RevokeKey, SetMode, SnapshotStore
from pilotmtc.protocol.requests import AnyRequest
from pilotmtc.store.access import keys
from pilotmtc.store.file import maintenance
from pilotmtc.store.ownership import filesystem

# Compacting is none of them: it needs the file for itself, so the others wait anyway.
APART = (CheckStore, SnapshotStore, NewKey, GetKeys, RevokeKey, SetMode)


def do_apart(path: Path, request: AnyRequest, owner: sqlite3.Connection | None = None) -> Reply:
    """Do one of `APART` for the store at `path`, to which `owner` has the only way if it is given."""
    if isinstance(request, CheckStore):
        return maintenance.check_file(path, owner)
    if isinstance(request, SnapshotStore):
        return maintenance.snapshot_file(path, Path(request.path), owner)
    if isinstance(request, NewKey):
        if keys.pilot_of(request.name) is not None:
            raise UsageError(f"{request.name!r}: names that begin like that are those of pilots' keys: choose another")
        return Keys((keys.new_key(path, request.name),))
    if isinstance(request, GetKeys):
        return Keys(keys.list_keys(path))
    if isinstance(request, RevokeKey):
        return Changed(int(keys.revoke_key(path, request.name)))
    if isinstance(request, SetMode):
        filesystem.set_mode(os.path.realpath(path), request.mode)
        return Done()
    raise UsageError(f"the store does not know the request {type(request).__name__}")
