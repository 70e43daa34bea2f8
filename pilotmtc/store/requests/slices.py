"""What users want changed about many tasks is done in slices, so that nobody has to wait for it.

A wish that one slice fulfills is done in the transaction that it comes with. Another one is written down in that
transaction: from then on it will be done, one slice a transaction, whether who has asked is still there or not, and by
the next server if this one is killed. Wishes are done one after the other, each for the tasks that were there when it
came, so that the last one has the last word.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed, Reply
from pilotmtc.protocol.client.tasks import Cancel, Edit, Retry
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.filter_sql import Where

Wish = TypeVar("Wish", Cancel, Retry, Edit)
_decode = msgspec.msgpack.Decoder(Cancel | Retry | Edit).decode
_REPLY = "SELECT reply FROM control WHERE key = ?"
_KEEP_REPLY = "INSERT INTO control VALUES (?, ?, ?)"
_IS_UNDERWAY = "SELECT 1 FROM wish WHERE key = ?"
_ACCEPT = "INSERT INTO wish(key, request, progress) VALUES (?, ?, ?)"
_OLDEST = "SELECT key, request, progress FROM wish ORDER BY id LIMIT 1"
_GO_ON = "UPDATE wish SET progress = ? WHERE key = ?"
_FORGET = "DELETE FROM wish WHERE key = ?"
_FORGET_REVIVALS = "DELETE FROM revival"


class Progress(Struct, frozen=True, array_like=True):
    """How far a wish has come: tasks up to `last` are seen to, those up to `bound` are asked for."""

    bound: int
    last: int = 0
    changed: int = 0
    unfit: int = 0
    over: bool = False


_decode_progress = msgspec.msgpack.Decoder(Progress).decode


class Slice(NamedTuple):
    """What one slice has done: it has seen to tasks up to `last`, and whether to all."""

    last: int
    changed: int
    unfit: int
    over: bool


class Underway(Reply, frozen=True):
    """It will be done. Never sent: who has asked is answered when it is."""


Act = Callable[[Transaction, Wish, Progress], Slice]


def wished(act: Act[Wish]) -> Callable[[Transaction, Wish], Reply]:
    """Make a handler of requests of what does a slice of them. A key that is repeated gets its first reply."""

    def handler(tx: Transaction, request: Wish) -> Reply:
        if not request.key:
            raise UsageError("the request needs a key: make one with uuid4")
        row = tx.execute(_REPLY, (request.key,)).fetchone()
        if row is not None:
            return msgspec.msgpack.decode(row[0], type=Changed)
        if tx.execute(_IS_UNDERWAY, (request.key,)).fetchone():
            return Underway()
        Where(tx, request.filter)  # what makes no sense is said at once
        progress = Progress(tx.caches.next_task - 1)
        if not tx.caches.wishes:
            progress = _after(progress, act(tx, request, progress))
            if progress.over:
                return _fulfill(tx, request.key, progress)
        tx.execute(_ACCEPT, (request.key, msgspec.msgpack.encode(request), msgspec.msgpack.encode(progress)))
        tx.caches.wishes += 1
        return Underway()

    return handler


def next_is_over(tx: Transaction) -> bool:
    """Return whether only the reply of the oldest wish is missing."""
    _, _, progress = tx.execute(_OLDEST).fetchone()
    return _decode_progress(progress).over


def go_on(tx: Transaction, cancel: Act[Cancel], retry: Act[Retry], edit: Act[Edit]) -> None:
    """Do a slice of the oldest wish, or make its reply."""
    key, body, so_far = tx.execute(_OLDEST).fetchone()
    progress = _decode_progress(so_far)
    if progress.over:
        _forget(tx, key)
        _fulfill(tx, key, progress)
        return
    request = _decode(body)
    if isinstance(request, Cancel):
        done = cancel(tx, request, progress)
    elif isinstance(request, Retry):
        done = retry(tx, request, progress)
    else:
        done = edit(tx, request, progress)
    progress = _after(progress, done)
    tx.execute(_GO_ON, (msgspec.msgpack.encode(progress), key))


def give_up(tx: Transaction) -> str:
    """Forget the oldest wish, which cannot be fulfilled; return its key."""
    key: str = tx.execute(_OLDEST).fetchone()[0]
    _forget(tx, key)
    return key


def _after(progress: Progress, done: Slice) -> Progress:
    return Progress(progress.bound, done.last, progress.changed + done.changed, progress.unfit + done.unfit, done.over)


def _fulfill(tx: Transaction, key: str, progress: Progress) -> Changed:
    reply = Changed(progress.changed, progress.unfit)
    tx.execute(_KEEP_REPLY, (key, msgspec.msgpack.encode(reply), tx.clock.now()))
    return reply


def _forget(tx: Transaction, key: str) -> None:
    tx.execute(_FORGET, (key,))
    tx.execute(_FORGET_REVIVALS)
    tx.caches.wishes -= 1
