"""Users' changes to many tasks are made in slices, so that other requests need not wait.

A request that one slice completes is done in its own transaction. Any other one is stored in that transaction as a
*wish*. The store then completes it, one slice per transaction, even if the client leaves; if the server is killed, the
next one goes on. Wishes are completed in the order in which they came, each for the tasks that existed then.
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
    """How far a wish is: tasks up to `last` are done, tasks after `bound` came later and are not meant."""

    bound: int
    last: int = 0
    changed: int = 0
    unfit: int = 0
    over: bool = False


_decode_progress = msgspec.msgpack.Decoder(Progress).decode


class Slice(NamedTuple):
    """What one slice has done: tasks up to `last`, and whether that was all (`over`)."""

    last: int
    changed: int
    unfit: int
    over: bool


class Underway(Reply, frozen=True):
    """The request will be done. Never sent: the client gets the reply when it is."""


Act = Callable[[Transaction, Wish, Progress], Slice]


def wished(act: Act[Wish]) -> Callable[[Transaction, Wish], Reply]:
    """Return the handler of requests that `act` does a slice of. A repeated key gets the first reply again."""

    def handler(tx: Transaction, request: Wish) -> Reply:
        if not request.key:
            raise UsageError("the request needs a key: make one with uuid4")
        row = tx.execute(_REPLY, (request.key,)).fetchone()
        if row is not None:
            return msgspec.msgpack.decode(row[0], type=Changed)
        if tx.execute(_IS_UNDERWAY, (request.key,)).fetchone():
            return Underway()
        Where(tx, request.filter)  # raises if the filter makes no sense
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
    """Do the next slice of the oldest wish, or write its reply when it is complete."""
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
    """Forget the oldest wish, which cannot be completed; return its key."""
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
