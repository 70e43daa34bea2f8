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

from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.protocol.base import Changed, Reply
from pilotmtc.protocol.client.tasks import Cancel, Edit, Retry
from pilotmtc.store.file.transaction import Ledger
from pilotmtc.store.requests.filter_sql import Where

Wish = TypeVar("Wish", Cancel, Retry, Edit)
_decode = msgspec.msgpack.Decoder(Cancel | Retry | Edit).decode


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


Act = Callable[[Ledger, Wish, Progress], Slice]


def wished(act: Act[Wish]) -> Callable[[Ledger, Wish], Reply]:
    """Make a handler of requests of what does a slice of them. A key that is repeated gets its first reply."""

    def handler(ledger: Ledger, request: Wish) -> Reply:
        if not request.key:
            raise UsageError("the request needs a key: make one with uuid4")
        if (failure := ledger.failed_wishes.pop(request.key, None)) is not None:
            raise failure
        row = ledger.execute("SELECT reply FROM control WHERE key = ?", (request.key,)).fetchone()
        if row is not None:
            return msgspec.msgpack.decode(row[0], type=Changed)
        if ledger.execute("SELECT 1 FROM wish WHERE key = ?", (request.key,)).fetchone():
            return Underway()
        Where(ledger, request.filter)  # what makes no sense is said at once
        progress = Progress(ledger.next_task - 1)
        if not ledger.wishes:
            progress = _after(progress, act(ledger, request, progress))
            if progress.over:
                return _fulfill(ledger, request.key, progress)
        ledger.execute(
            "INSERT INTO wish(key, request, progress) VALUES (?, ?, ?)",
            (request.key, msgspec.msgpack.encode(request), msgspec.msgpack.encode(progress)),
        )
        ledger.wishes += 1
        return Underway()

    return handler


def next_is_over(ledger: Ledger) -> bool:
    """Return whether only the reply of the oldest wish is missing."""
    (progress,) = ledger.execute("SELECT progress FROM wish ORDER BY id LIMIT 1").fetchone()
    return _decode_progress(progress).over


def go_on(ledger: Ledger, cancel: Act[Cancel], retry: Act[Retry], edit: Act[Edit]) -> None:
    """Do a slice of the oldest wish, or make its reply."""
    key, body, so_far = ledger.execute("SELECT key, request, progress FROM wish ORDER BY id LIMIT 1").fetchone()
    progress = _decode_progress(so_far)
    if progress.over:
        _forget(ledger, key)
        _fulfill(ledger, key, progress)
        return
    request = _decode(body)
    if isinstance(request, Cancel):
        done = cancel(ledger, request, progress)
    elif isinstance(request, Retry):
        done = retry(ledger, request, progress)
    else:
        done = edit(ledger, request, progress)
    progress = _after(progress, done)
    ledger.execute("UPDATE wish SET progress = ? WHERE key = ?", (msgspec.msgpack.encode(progress), key))


def give_up(ledger: Ledger, failure: PilotMTCError) -> None:
    """Forget the oldest wish, which cannot be fulfilled; who asks for it hears why."""
    (key,) = ledger.execute("SELECT key FROM wish ORDER BY id LIMIT 1").fetchone()
    _forget(ledger, key)
    ledger.failed_wishes[key] = failure


def _after(progress: Progress, done: Slice) -> Progress:
    return Progress(progress.bound, done.last, progress.changed + done.changed, progress.unfit + done.unfit, done.over)


def _fulfill(ledger: Ledger, key: str, progress: Progress) -> Changed:
    reply = Changed(progress.changed, progress.unfit)
    ledger.execute("INSERT INTO control VALUES (?, ?, ?)", (key, msgspec.msgpack.encode(reply), ledger.clock.now()))
    return reply


def _forget(ledger: Ledger, key: str) -> None:
    ledger.execute("DELETE FROM wish WHERE key = ?", (key,))
    ledger.execute("DELETE FROM revival")
    ledger.wishes -= 1
