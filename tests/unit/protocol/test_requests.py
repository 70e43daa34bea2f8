"""Requests say all about themselves, and the store can do each of them."""

import typing

import pytest

from pilotmtc.model import PilotId
from pilotmtc.protocol.base import (
    CLIENTS,
    CLIENTS_AND_AGENTS,
    Done,
    Effect,
    Execution,
    Handling,
    Reply,
    Request,
    WaitsFor,
)
from pilotmtc.protocol.client.maintenance import CompactStore
from pilotmtc.protocol.frames import Ping
from pilotmtc.protocol.registry import REPLIES, REQUESTS, AnyRequest, contradictions
from pilotmtc.store.requests.handlers import HANDLERS, THREAD_HANDLERS, InThread
from pilotmtc.store.sqlite import SqliteStore  # imports all handlers

KINDS = pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)


def subclasses(kind: type[AnyRequest]) -> set[type[AnyRequest]]:
    """Return all kinds of requests that the package declares."""
    return {one for one in kind.__subclasses__() if one.__module__.startswith("pilotmtc.protocol.")}


def test_store_is_only_open_to_requests_that_are_collected() -> None:
    assert set(HANDLERS) | set(THREAD_HANDLERS) <= set(REQUESTS), SqliteStore


def test_all_requests_are_collected() -> None:
    assert subclasses(Request) - set(REQUESTS) == {Ping}
    assert len({kind.__struct_config__.tag for kind in REQUESTS}) == len(REQUESTS)


@KINDS
def test_request_says_how_it_is_handled(kind: type[AnyRequest]) -> None:
    assert contradictions(kind) == []
    assert issubclass(REPLIES[kind], Reply)
    assert kind.__doc__


@KINDS
def test_request_has_a_handler_where_it_is_done(kind: type[AnyRequest]) -> None:
    execution = kind.handling.execution
    assert (kind in HANDLERS) == (execution is Execution.TRANSACTION)
    assert (kind in THREAD_HANDLERS) == (execution is Execution.THREAD)
    assert (kind is CompactStore) == (execution is Execution.ALONE)


@KINDS
def test_handler_returns_the_reply_that_the_request_names(kind: type[AnyRequest]) -> None:
    handler = HANDLERS.get(kind) or THREAD_HANDLERS.get(kind)
    if handler is None or handler.__name__ == "handler":  # of what is done in slices, which wraps functions
        return
    answer = typing.get_type_hints(handler)["return"]
    assert set(typing.get_args(answer) or (answer,)) - {InThread} == {REPLIES[kind]}


def test_what_contradicts_itself_is_named() -> None:
    class Silent(Request[Done], frozen=True, tag="silent"):
        pilot: PilotId = PilotId(1)

    class Confused(Request[Done], frozen=True, tag="confused"):
        handling = Handling(
            said_by=CLIENTS_AND_AGENTS,
            effect=Effect.WRITE,
            waits_for=WaitsFor.TASKS,
            sign_of_life=True,
            execution=Execution.THREAD,
        )

        key: str = ""

    class Hidden(Request[Done], frozen=True, tag="hidden"):
        handling = Handling(said_by=CLIENTS, effect=Effect.READ, repeat_key="number")

        wait_s: float = 0.0

    assert [words.partition(" needs ")[2] for words in contradictions(Silent)] == [
        "a handling of its own", "somebody who may say it",
    ]  # fmt: skip
    assert len(contradictions(Confused)) == 5
    assert [words.partition(" needs ")[2] for words in contradictions(Hidden)] == [
        "waits_for if and only if it has wait_s", "the field number, by which a repeat is recognized",
    ]  # fmt: skip
