"""Requests that take long and need nothing of the store but its path: the server does them beside its loop."""

from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.store import keys, upkeep
from pilotmtc.wire.messages import (
    AnyRequest,
    Changed,
    CheckStore,
    GetKeys,
    Keys,
    NewKey,
    Reply,
    RevokeKey,
    SnapshotStore,
)

# Compacting is none of them: it needs the file for itself, so the others wait anyway.
APART = (CheckStore, SnapshotStore, NewKey, GetKeys, RevokeKey)


def do_apart(path: Path, request: AnyRequest) -> Reply:
    """Do one of `APART` for the store at `path`."""
    if isinstance(request, CheckStore):
        return upkeep.check_file(path)
    if isinstance(request, SnapshotStore):
        return upkeep.snapshot_file(path, Path(request.path))
    if isinstance(request, NewKey):
        return Keys((keys.new_key(path, request.name),))
    if isinstance(request, GetKeys):
        return Keys(keys.list_keys(path))
    if isinstance(request, RevokeKey):
        return Changed(int(keys.revoke_key(path, request.name)))
    raise UsageError(f"the store does not know the request {type(request).__name__}")
