"""Users' changes to many tasks are made in slices, so that other requests need not wait.

A change that one slice completes is made in the transaction of its request. Any other one is stored in that transaction
as *pending*. The store then makes it, one slice per transaction, even if the client leaves; if the server is killed,
the next one continues. Pending changes are made in the order in which they came, each to the tasks that existed then.

The table of pending changes is called ``wish``, as in the first version that had it.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed, Reply
from pilotmtc.protocol.client.campaigns import DeleteCampaign
from pilotmtc.protocol.client.tasks import Cancel, Edit, HoldTasks, Retry
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.look.filter_sql import Where

SlicedRequest = TypeVar("SlicedRequest", Cancel, Retry, Edit, HoldTasks, DeleteCampaign)
_decode = msgspec.msgpack.Decoder(Cancel | Retry | Edit | HoldTasks | DeleteCampaign).decode
_REPLY = "SELECT reply FROM control WHERE key = ?"
_KEEP_REPLY = "INSERT INTO control VALUES (?, ?, ?)"
_IS_PENDING = "SELECT 1 FROM wish WHERE key = ?"
_KEEP = "INSERT INTO wish(key, request, progress) VALUES (?, ?, ?)"
_OLDEST = "SELECT key, request, progress FROM wish ORDER BY id LIMIT 1"
_KEEP_PROGRESS = "UPDATE wish SET progress = ? WHERE key = ?"
_FORGET = "DELETE FROM wish WHERE key = ?"
_FORGET_REVIVALS = "DELETE FROM revival"


class SliceProgress(Struct, frozen=True, array_like=True):
    """How far a change is: tasks up to `last` are done, tasks after `bound` came later and do not belong to it."""

    bound: int
    last: int = 0
    changed: int = 0
    unfit: int = 0
    over: bool = False


_decode_progress = msgspec.msgpack.Decoder(SliceProgress).decode


class Slice(NamedTuple):
    """What one slice has done: tasks up to `last`, and whether these were all (`over`)."""

    last: int
    changed: int
    unfit: int
    over: bool


class Pending(Reply, frozen=True):
    """The change will be made. Never sent: the client gets its reply when the change is complete."""


Act = Callable[[Transaction, SlicedRequest, SliceProgress], Slice]


def in_slices(act: Act[SlicedRequest]) -> Callable[[Transaction, SlicedRequest], Reply]:
    """Return a handler that has `act` make the change in slices. A repeated key gets the first reply again."""

    def handler(tx: Transaction, request: SlicedRequest) -> Reply:
        if not request.key:
            raise UsageError("the request needs a key: make one with uuid4")
        row = tx.execute(_REPLY, (request.key,)).fetchone()
        if row is not None:
            return msgspec.msgpack.decode(row[0], type=Changed)
        if tx.execute(_IS_PENDING, (request.key,)).fetchone():
            return Pending()
        Where(tx, request.filter)  # raises if the filter makes no sense
        progress = SliceProgress(tx.caches.next_task - 1)
        if not tx.caches.pending_changes:
            progress = _after(progress, act(tx, request, progress))
            if progress.over:
                return _complete(tx, request.key, progress)
        tx.execute(_KEEP, (request.key, msgspec.msgpack.encode(request), msgspec.msgpack.encode(progress)))
        tx.caches.pending_changes += 1
        return Pending()

    return handler


def next_is_over(tx: Transaction) -> bool:
    """Return whether only the reply to the oldest pending change is missing."""
    _, _, progress = tx.execute(_OLDEST).fetchone()
    return _decode_progress(progress).over


def go_on(tx: Transaction, acts: Mapping[type, Callable[..., Slice]]) -> None:
    """Make the next slice of the oldest pending change, by the act of its request; or write its reply if it is over."""
    key, body, so_far = tx.execute(_OLDEST).fetchone()
    progress = _decode_progress(so_far)
    if progress.over:
        _forget(tx, key)
        _complete(tx, key, progress)
        return
    request = _decode(body)
    done = acts[type(request)](tx, request, progress)
    progress = _after(progress, done)
    tx.execute(_KEEP_PROGRESS, (msgspec.msgpack.encode(progress), key))


def give_up(tx: Transaction) -> str:
    """Forget the oldest pending change, which cannot be completed; return its key."""
    key: str = tx.execute(_OLDEST).fetchone()[0]
    _forget(tx, key)
    return key


def _after(progress: SliceProgress, done: Slice) -> SliceProgress:
    return SliceProgress(
        progress.bound, done.last, progress.changed + done.changed, progress.unfit + done.unfit, done.over
    )


def _complete(tx: Transaction, key: str, progress: SliceProgress) -> Changed:
    reply = Changed(progress.changed, progress.unfit)
    tx.execute(_KEEP_REPLY, (key, msgspec.msgpack.encode(reply), tx.clock.now()))
    return reply


def _forget(tx: Transaction, key: str) -> None:
    tx.execute(_FORGET, (key,))
    tx.execute(_FORGET_REVIVALS)
    tx.caches.pending_changes -= 1
