"""What is kept in memory is undone together with the file, whether one request fails or the whole transaction."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import StateError, StoreError, UsageError
from pilotmtc.model import PilotId
from pilotmtc.protocol.agent import AttachPilot, Batch, Claim, EndPilot, Finish, Heartbeat, Release, Started
from pilotmtc.protocol.base import Request
from pilotmtc.protocol.client.campaigns import Submit, Submitted
from pilotmtc.protocol.client.pilots import CancelPilot, GetPilots, GetPilotView
from pilotmtc.protocol.client.tasks import GetTail
from pilotmtc.protocol.client.watch import Changes, GetChanges, GetOverview
from pilotmtc.protocol.records import NodeState
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.live.wakeups import Wakeup
from pilotmtc.store.requests.handlers import HANDLERS
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, LARGE, Kit, result, row

RUNNING, FRESH = PilotId(1), PilotId(2)  # one with tasks, one whose agent has not come yet


class Proof:
    """Whether this process may still write the file."""

    lost = False

    def __call__(self) -> None:
        if self.lost:
            raise StoreError("another process has the store")


@pytest.fixture
def proof() -> Proof:
    return Proof()


@pytest.fixture
def store(tmp_path: Path, proof: Proof) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db", FakeClock(), prove=proof)
    yield opened
    opened.close()


def fail_the_request(store: SqliteStore, proof: Proof, request: Request[Any], patch: pytest.MonkeyPatch) -> None:
    """Let `request` fail when it is done, beside another one that succeeds: its savepoint is rolled back."""
    handlers = cast("dict[type[object], Callable[..., object]]", HANDLERS)
    real = handlers[type(request)]

    def fails(*values: object) -> object:
        real(*values)
        raise UsageError("it is refused in the end")

    with patch.context() as patched:
        patched.setitem(handlers, type(request), fails)
        refused, other = store.call_many([request, Submit("other", 0, "c", (ECHO,), (LARGE,), (), False)])
    assert isinstance(refused, UsageError)
    assert not isinstance(other, Exception)


def fail_the_commit(store: SqliteStore, proof: Proof, request: Request[Any], patch: pytest.MonkeyPatch) -> None:
    """Let the commit fail that `request` is part of: the transaction is rolled back."""
    proof.lost = True
    with pytest.raises(StoreError):
        store.call_many([request, GetOverview()])
    proof.lost = False


def known(store: SqliteStore) -> list[object]:
    """Return all that is shown of what is in memory."""
    changes = store.call(GetChanges(0))
    return [
        *(store.call(GetPilotView(pilot)) for pilot in (RUNNING, FRESH)),
        store.call(GetOverview(span_s=600.0)).series,
        store.call(GetOverview()).pilot_paces,
        store.call(GetOverview()).campaign_paces,
        store.call(GetChanges(changes.seq)),
    ]


REQUESTS: dict[str, Callable[[Kit, Any], Request[Any]]] = {
    "attach": lambda kit, tasks: AttachPilot(FRESH, "host", 1, 1, 64),
    "claim": lambda kit, tasks: Claim(RUNNING, 9, LARGE, LARGE, 1),
    "started": lambda kit, tasks: Started(RUNNING, ((tasks[1].task, 1, 5.0, "n1", "1"),)),
    "finish": lambda kit, tasks: Finish(RUNNING, tuple(result(task, code=1) for task in tasks)),
    "release": lambda kit, tasks: Release(RUNNING, ((tasks[0].task, 1),)),
    "heartbeat": lambda kit, tasks: Heartbeat(RUNNING, busy=7, nodes=(NodeState("n1", 64),)),
    "cancel": lambda kit, tasks: CancelPilot(RUNNING),
    "end": lambda kit, tasks: EndPilot(RUNNING, PilotState.FAILED, "no reason"),
}


@pytest.mark.parametrize("fail", [fail_the_request, fail_the_commit])
@pytest.mark.parametrize("kind", REQUESTS)
def test_what_is_rolled_back_leaves_no_trace_in_memory(
    store: SqliteStore, proof: Proof, monkeypatch: pytest.MonkeyPatch, kind: str, fail: Callable[..., None]
) -> None:
    kit = Kit(store)
    kit.submit(row(1), row(2), row(3))
    assert kit.pilot() == RUNNING
    assert kit.pilot(attach=False) == FRESH
    tasks = kit.claim(RUNNING, 2)
    kit.start(RUNNING, tasks[0])
    before = known(store)
    store.take_wakeup()

    fail(store, proof, REQUESTS[kind](kit, tasks), monkeypatch)

    wakeup = store.take_wakeup()
    assert wakeup == Wakeup()
    assert known(store) == before


@pytest.mark.parametrize("fail", [fail_the_request, fail_the_commit])
def test_an_agent_whose_attaching_was_undone_must_attach(
    store: SqliteStore, proof: Proof, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None]
) -> None:
    kit = Kit(store)
    kit.pilot()
    kit.pilot(attach=False)
    fail(store, proof, AttachPilot(FRESH, "host", 1, 1, 64), monkeypatch)
    (answer,) = store.call_many([Heartbeat(FRESH)])
    assert "must attach first" in str(answer)


@pytest.mark.parametrize("fail", [fail_the_request, fail_the_commit])
def test_a_question_whose_telling_was_undone_is_told_again(
    store: SqliteStore, proof: Proof, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None]
) -> None:
    kit = Kit(store)
    kit.submit(row(1))
    kit.pilot()
    (task,) = kit.claim(RUNNING)
    kit.start(RUNNING, task)
    store.call(GetTail(task.task))
    fail(store, proof, Heartbeat(RUNNING), monkeypatch)
    assert kit.beat(RUNNING).peek == ((task.task, 1),)


def test_an_overview_that_was_rolled_back_told_nothing(store: SqliteStore, proof: Proof) -> None:
    kit = Kit(store)
    kit.submit(row(1))
    seen = store.call(GetOverview())
    pilot = kit.pilot()
    proof.lost = True
    with pytest.raises(StoreError):
        store.call_many([EndPilot(pilot, PilotState.DONE), GetOverview(since=seen.seq)])
    proof.lost = False
    (shown,) = store.call(GetOverview(since=seen.seq)).pilots
    assert shown == store.call(GetPilots(pilot)).pilots[0]
    assert shown.state is PilotState.ACTIVE


def test_leases_that_end_are_as_before_when_that_is_undone(store: SqliteStore, proof: Proof) -> None:
    kit = Kit(store)
    pilot = kit.pilot()
    clock = cast("FakeClock", store._tx.clock)
    clock.advance(50.0)  # silent, but not given up
    store.take_wakeup()
    proof.lost = True
    with pytest.raises(StoreError):
        store.due()
    proof.lost = False
    store.due()
    assert store.take_wakeup().changed
    assert store.call(GetOverview()).silent == (pilot,)
    clock.advance(20.0)
    proof.lost = True
    with pytest.raises(StoreError):
        store.due()
    proof.lost = False
    store.due()
    assert store.call(GetPilots(pilot)).pilots[0].state is PilotState.FAILED


def test_what_joins_a_commit_is_performed_with_it_or_not_at_all(store: SqliteStore, proof: Proof) -> None:
    kit = Kit(store)
    kit.pilot()
    seq = store.call(GetChanges()).seq
    woken: list[Wakeup] = []

    def join(wakeup: Wakeup) -> list[AnyRequest]:
        woken.append(wakeup)
        return [Claim(RUNNING, 1, LARGE, LARGE, 1), GetChanges(seq)]

    submit = Submit("joined", 0, "c", (ECHO,), (LARGE,), (row(1),), False)
    proof.lost = True
    with pytest.raises(StoreError):
        store.call_many([submit], join)
    proof.lost = False
    submitted, claimed, changes = store.call_many([submit], join)
    assert woken == 2 * [Wakeup(ready=True, changed=True)]
    assert isinstance(submitted, Submitted)
    assert isinstance(claimed, Batch)
    assert [task.task for task in claimed.tasks] == [submitted.first]
    assert isinstance(changes, Changes)
    assert [state for _, state, _ in changes.changes] == [TaskState.READY, TaskState.CLAIMED]


def test_what_joins_and_is_refused_undoes_nothing_else(store: SqliteStore) -> None:
    kit = Kit(store)
    pilot = kit.pilot(attach=False)
    submit = Submit("joined", 0, "c", (ECHO,), (LARGE,), (row(1),), False)
    submitted, refused = store.call_many([submit], lambda _: [Claim(pilot, 1, LARGE, LARGE, 1)])
    assert isinstance(submitted, Submitted)
    assert isinstance(refused, StateError)
    assert store.call(GetChanges(store.call(GetChanges()).seq - 1)).changes == ((submitted.first, TaskState.READY, 0),)
