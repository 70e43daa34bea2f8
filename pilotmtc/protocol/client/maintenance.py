"""Requests of clients about the store itself: its file, its limits, its keys."""

from pilotmtc.protocol.base import (
    CLIENTS,
    USER_AND_STEWARDS,
    USER_ONLY,
    Changed,
    Done,
    Effect,
    Execution,
    Handling,
    Reply,
    Request,
)
from pilotmtc.protocol.records import Key, Limit
from pilotmtc.states import TaskState


class StoreInfo(Reply, frozen=True):
    """Facts about the store's file and its server.

    Attributes
    ----------
    mode
        ``local``; or ``network``, in which only the server may open the file.
    forced
        Whether a user has set the mode.
    file_system, mount
        The type of the file's file system, and where it is mounted.
    owner
        In network mode, the name under which other hosts send clients to this one.
    """

    path: str
    mode: str
    schema: int
    version: str
    host: str
    pid: int
    size_bytes: int
    clients: int = 0
    tasks: dict[TaskState, int] = {}
    forced: bool = False
    file_system: str = ""
    mount: str = ""
    owner: str = ""


class GetStore(Request[StoreInfo], frozen=True, tag="store"):
    """Get facts about the store's file and its server."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ)


class Limits(Reply, frozen=True):
    """The limits of the store, by name."""

    limits: tuple[Limit, ...] = ()


class GetLimits(Request[Limits], frozen=True, tag="limits"):
    """Get the limits of named resources over all pilots, and how much of each is in use."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ)


class SetLimits(Request[Changed], frozen=True, tag="set_limits"):
    """Limit how many units of each named resource tasks of all pilots may use together; None removes a limit.

    Running tasks continue. Tasks that need the resource then take units from the limit instead of their node.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    amounts: dict[str, float | None]


class Checked(Reply, frozen=True):
    """What is wrong with the store; empty if nothing is."""

    problems: tuple[str, ...] = ()


class CheckStore(Request[Checked], frozen=True, tag="check_store"):
    """Run SQLite's integrity check and compare counts, transitions and references with the rows."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.READ, execution=Execution.THREAD, time_limit_s=3600.0)


class Compacted(Reply, frozen=True):
    """File sizes in bytes."""

    before: int
    after: int


class CompactStore(Request[Compacted], frozen=True, tag="compact_store"):
    """Return the file's unused space to the file system."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.WRITE, execution=Execution.ALONE)


class SnapshotStore(Request[Done], frozen=True, tag="snapshot_store"):
    """Write a consistent copy to `path` (on the store's host, mode 0600) with SQLite's backup API."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.READ, execution=Execution.THREAD, time_limit_s=3600.0)

    path: str


class Keys(Reply, frozen=True):
    """The answer to `NewKey` and `GetKeys`. Private parts are never sent."""

    keys: tuple[Key, ...]


class NewKey(Request[Keys], frozen=True, tag="new_key"):
    """Make a key that opens only this store, or complete the one of that name: parts that exist stay."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.DURABLE, execution=Execution.THREAD)

    name: str


class GetKeys(Request[Keys], frozen=True, tag="keys"):
    """Get the keys of this store, by name."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.READ, execution=Execution.THREAD)


class RevokeKey(Request[Changed], frozen=True, tag="revoke_key"):
    """Revoke a key: it opens nothing any more, and is removed. Safe to repeat."""

    handling = Handling(said_by=USER_AND_STEWARDS, effect=Effect.DURABLE, execution=Execution.THREAD)

    name: str


class SetMode(Request[Done], frozen=True, tag="set_mode"):
    """Set how the store is opened from now on: ``local`` or ``network``; ``auto`` detects it. Safe to repeat.

    The server leaves then, and the next one opens the store in the new mode.
    """

    handling = Handling(said_by=USER_ONLY, effect=Effect.DURABLE, execution=Execution.THREAD)

    mode: str
