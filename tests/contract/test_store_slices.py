"""What is wanted of many tasks is done in slices, and to its end."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import InvalidTransition, StoreError, UsageError
from pilotmtc.model import After, Resources, TaskId
from pilotmtc.protocol.base import Changed, Request
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.tasks import Cancel, Edit, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.steer import steer
from pilotmtc.store.requests.steer.slices import Pending, Slice, SliceProgress
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row

S = TaskState
TASKS = 50
ALL = Filter()


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steer, "SLICE", 10)


@pytest.fixture
def kit(tmp_path: Path, clock: FakeClock) -> Iterator[Kit]:
    store = SqliteStore(tmp_path / "store.db", clock)
    kit = Kit(store)
    kit.submit(*(row(n) for n in range(TASKS)))
    yield kit
    assert isinstance(kit.store, SqliteStore)  # perhaps another one by now
    kit.store.close()


def ask(kit: Kit, request: Request[Changed]) -> object:
    """Return the answer to a request that is not waited for."""
    assert isinstance(kit.store, SqliteStore)
    (answer,) = kit.store.call_many([request])
    return answer


def finish(kit: Kit) -> int:
    """Do what is due to its end; return in how many steps."""
    assert isinstance(kit.store, SqliteStore)
    steps = 0
    while kit.store.pending_changes:
        assert kit.store.due() == 0 or not kit.store.pending_changes
        steps += 1
        assert kit.store.call(CheckStore()).problems == ()
    return steps


def counts(kit: Kit) -> dict[TaskState, int]:
    (campaign,) = [each for each in kit.store.call(GetCampaigns()).campaigns if each.id == 1]
    return campaign.counts


def killed(kit: Kit) -> None:
    """Let another server have the store as it is."""
    old = kit.store
    assert isinstance(old, SqliteStore)
    kit.store = SqliteStore(old.path, old._tx.clock)
    old.close()


def test_many_are_canceled_in_slices_and_others_get_their_turn(kit: Kit) -> None:
    change = Cancel("k", ALL)
    assert isinstance(ask(kit, change), Pending)
    assert counts(kit) == {S.CANCELED: 10, S.READY: 40}
    late = kit.submit(row("late"))
    assert isinstance(ask(kit, change), Pending)
    assert finish(kit) == 5
    assert ask(kit, change) == Changed(TASKS)
    assert counts(kit) == {S.CANCELED: TASKS}
    assert kit.counts(late.campaign) == {S.READY: 1}  # it was not there yet


@pytest.mark.parametrize("kills", range(1, 7))
def test_change_is_completed_by_the_next_server_if_one_is_killed_at_any_step(kit: Kit, kills: int) -> None:
    change = Cancel("k", ALL)
    ask(kit, change)
    assert isinstance(kit.store, SqliteStore)
    for _ in range(kills - 1):
        kit.store.due()
    killed(kit)
    finish(kit)
    assert ask(kit, change) == Changed(TASKS)
    assert counts(kit) == {S.CANCELED: TASKS}


def test_changes_are_done_in_the_order_in_which_they_came(kit: Kit) -> None:
    ask(kit, Cancel("a", ALL))
    retry = Retry("b", Filter(ids=(TaskId(3), TaskId(44))))
    assert isinstance(ask(kit, retry), Pending)
    edit = Edit("c", Filter(ids=(TaskId(3),)), priority=7)
    assert isinstance(ask(kit, edit), Pending)
    killed(kit)
    finish(kit)
    assert [ask(kit, change) for change in (Cancel("a", ALL), retry, edit)] == [Changed(TASKS), Changed(2), Changed(1)]
    assert counts(kit) == {S.CANCELED: TASKS - 2, S.READY: 2}
    assert kit.task(3).priority == 7


def test_what_makes_no_sense_is_refused_at_once_also_behind_another_change(kit: Kit) -> None:
    ask(kit, Cancel("a", ALL))
    assert isinstance(ask(kit, Cancel("b", Filter(campaign=99))), UsageError)  # type: ignore[arg-type]
    assert isinstance(ask(kit, Cancel("", ALL)), UsageError)
    finish(kit)
    assert isinstance(ask(kit, Edit("c", ALL, ranks=0)), UsageError)
    assert kit.store.pending_changes == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [InvalidTransition("it may not go there"), ZeroDivisionError("a bug")])
def test_change_that_cannot_be_completed_does_not_keep_the_next_ones_waiting(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert isinstance(kit.store, SqliteStore)
    real = steer.cancel

    def fails(tx: Transaction, request: Cancel, progress: SliceProgress) -> Slice:
        if progress.last == 20 and request.key == "a":
            raise error
        return real(tx, request, progress)

    monkeypatch.setattr(steer, "cancel", fails)
    ask(kit, Cancel("a", ALL))
    ask(kit, Cancel("b", ALL))
    finish(kit)
    assert isinstance(ask(kit, Cancel("a", ALL)), InvalidTransition | StoreError)
    assert ask(kit, Cancel("b", ALL)) == Changed(TASKS - 20, 20)


def test_full_disk_between_slices_holds_a_change_up_and_no_more(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(kit.store, SqliteStore)
    ask(kit, Cancel("a", ALL))

    def full() -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(kit.store._tx, "_prove", full)
        with pytest.raises(StoreError, match="no space"):
            kit.store.due()
    assert counts(kit)[S.CANCELED] == 10
    finish(kit)
    assert ask(kit, Cancel("a", ALL)) == Changed(TASKS)


def shape(kit: Kit, *needs: tuple[int, ...]) -> None:
    """Submit tasks TASKS + 1, ... which need those of before by their place."""
    first = TASKS + 1
    kit.submit(*(row(n, after=[After(TaskId(first + need)) for need in each]) for n, each in enumerate(needs)))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_retry_in_slices_revives_what_one_slice_would(kit: Kit, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    # 51 fails, and with it all others are skipped: a chain, a fan, and one that needs two ends of it.
    shape(kit, (), (0,), (1,), (0,), (0,), (2, 4), (5,), (1,))
    pilot = kit.pilot()
    kit.cancel(*range(1, TASKS + 1))
    (task,) = kit.claim(pilot)
    kit.start(pilot, task)
    kit.finish(pilot, task, code=1)
    ids = range(TASKS + 1, TASKS + 9)
    assert [kit.state(id_) for id_ in ids] == [S.FAILED, *[S.SKIPPED] * 7]
    monkeypatch.setattr(steer, "SLICE", size)
    # Some of them are asked for, some only follow.
    change = Retry(uuid4().hex, Filter(ids=(TaskId(51), TaskId(53), TaskId(56))))
    while isinstance(ask(kit, change), Pending):
        assert kit.store.call(CheckStore()).problems == ()
        killed(kit)
        assert isinstance(kit.store, SqliteStore)
        kit.store.due()
    assert ask(kit, change) == Changed(8)
    assert [kit.state(id_) for id_ in ids] == [S.READY, *[S.WAITING] * 7]
    for _ in ids:
        if batch := kit.claim(pilot):
            kit.finish(pilot, *batch)
    assert [kit.state(id_) for id_ in ids] == [S.DONE] * 8
    assert kit.store.call(CheckStore()).problems == ()


def test_pauses_that_end_together_end_in_slices(kit: Kit, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilotmtc.model import Template
    from pilotmtc.store.requests.pilots import pilots

    monkeypatch.setattr(pilots, "_AT_ONCE", 2)
    kit.cancel(*range(1, TASKS + 1))
    kit.submit(*(row(n) for n in range(5)), template=Template(("x", "{x}"), fields=("x",), max_retries=1, backoff_s=9))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    kit.start(pilot, *tasks)
    kit.finish(pilot, *tasks, code=1, cause=Cause.EXIT)
    assert kit.claim(pilot) == ()
    clock.advance(10)
    assert isinstance(kit.store, SqliteStore)
    given = []
    for _ in range(3):
        kit.store.due()
        given.append(len(kit.claim(pilot)))
    assert given == [2, 2, 1]


def test_single_task_of_many_is_found_in_one_slice(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steer, "_WINDOW", 1)
    monkeypatch.setattr(steer, "_WINDOW_MAX", 1)
    assert ask(kit, Cancel("a", Filter(ids=(TaskId(49),)))) == Changed(1)
    assert ask(kit, Edit("b", Filter(names=("no such",)), cores=2)) == Changed(0)
    assert kit.task(48).resources == Resources()
