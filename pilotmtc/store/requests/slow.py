"""Requests that take long and need little more than the store's path: they are performed in a thread."""

import os
from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.maintenance import (
    Checked,
    CheckStore,
    GetKeys,
    Keys,
    NewKey,
    RevokeKey,
    SetMode,
    SnapshotStore,
)
from pilotmtc.store.access import keys
from pilotmtc.store.file import maintenance
from pilotmtc.store.ownership import filesystem
from pilotmtc.store.requests.handlers import StoreFile, handles_in_thread


@handles_in_thread(CheckStore)
def check_store(store: StoreFile, request: CheckStore) -> Checked:
    """Check the file."""
    return maintenance.check_file(store.path, store.owner)


@handles_in_thread(SnapshotStore)
def snapshot_store(store: StoreFile, request: SnapshotStore) -> Done:
    """Copy the file."""
    return maintenance.snapshot_file(store.path, Path(request.path), store.owner)


@handles_in_thread(NewKey)
def new_key(store: StoreFile, request: NewKey) -> Keys:
    """Make a key."""
    if keys.pilot_of(request.name) is not None:
        raise UsageError(f"{request.name!r}: names that begin like that are those of pilots' keys: choose another")
    return Keys((keys.new_key(store.path, request.name),))


@handles_in_thread(GetKeys)
def get_keys(store: StoreFile, request: GetKeys) -> Keys:
    """Return the keys."""
    return Keys(keys.list_keys(store.path))


@handles_in_thread(RevokeKey)
def revoke_key(store: StoreFile, request: RevokeKey) -> Changed:
    """Remove a key."""
    return Changed(int(keys.revoke_key(store.path, request.name)))


@handles_in_thread(SetMode)
def set_mode(store: StoreFile, request: SetMode) -> Done:
    """Set the mode in which the store will be opened."""
    filesystem.set_mode(os.path.realpath(store.path), request.mode)
    return Done()
