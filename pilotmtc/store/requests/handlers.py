"""Decorators that register a function as the handler of a request."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pilotmtc.protocol.base import Reply
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.file.transaction import Transaction

Kind = TypeVar("Kind", bound=AnyRequest)
ReplyType = TypeVar("ReplyType", bound=Reply)


class StoreFile(NamedTuple):
    """What a handler in a thread may use of the store.

    Attributes
    ----------
    owner
        Gives access to the file's only connection, if no other one may open the file.
    pilot_directory
        The directory of the pilot that the request names.
    """

    path: Path
    owner: sqlite3.Connection | None
    pilot_directory: str


class InThread(Reply, frozen=True):
    """The rest is done beside the server's loop. Never sent: the client gets what comes of it.

    Attributes
    ----------
    do
        Returns the reply; or None, and then the request is to be done again, in the next transaction.
    """

    do: Callable[[], Reply | None]


Handler = Callable[[Transaction, Kind], ReplyType]
ThreadHandler = Callable[[StoreFile, Kind], ReplyType]

HANDLERS: dict[type[AnyRequest], Handler[Any, Reply]] = {}  # Execution.TRANSACTION
THREAD_HANDLERS: dict[type[AnyRequest], ThreadHandler[Any, Reply]] = {}  # Execution.THREAD


def handles(kind: type[Kind]) -> Callable[[Handler[Kind, ReplyType]], Handler[Kind, ReplyType]]:
    """Register the decorated function for this request; it is called within a transaction."""

    def register(handler: Handler[Kind, ReplyType]) -> Handler[Kind, ReplyType]:
        HANDLERS[kind] = handler
        return handler

    return register


def handles_in_thread(
    kind: type[Kind],
) -> Callable[[ThreadHandler[Kind, ReplyType]], ThreadHandler[Kind, ReplyType]]:
    """Register the decorated function for this request; it is called in a thread, outside of transactions."""

    def register(handler: ThreadHandler[Kind, ReplyType]) -> ThreadHandler[Kind, ReplyType]:
        THREAD_HANDLERS[kind] = handler
        return handler

    return register
