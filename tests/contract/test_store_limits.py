"""Limits that count over all pilots of the store."""

from pathlib import Path

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import UsageError
from pilotmtc.model import Claimed, Resources, TaskId
from pilotmtc.protocol.agent import Claim, EndPilot
from pilotmtc.protocol.client.maintenance import GetLimits, SetLimits
from pilotmtc.protocol.client.tasks import Explain
from pilotmtc.protocol.records import Limit
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import LARGE, Kit, row

ONE = Resources(named={"lic": 1.0})


def set_limit(kit: Kit, amount: float | None, name: str = "lic") -> int:
    return kit.store.call(SetLimits({name: amount})).changed


def in_use(kit: Kit, name: str = "lic") -> float:
    (found,) = [limit for limit in kit.store.call(GetLimits()).limits if limit.name == name]
    return found.in_use


def ids(tasks: tuple[Claimed, ...]) -> list[int]:
    return [task.task for task in tasks]


def test_limits_are_set_changed_and_removed(kit: Kit) -> None:
    assert kit.store.call(GetLimits()).limits == ()
    assert (set_limit(kit, 4), set_limit(kit, 4), set_limit(kit, 0.5, "db"), set_limit(kit, 2)) == (1, 0, 1, 1)
    assert kit.store.call(GetLimits()).limits == (Limit("db", 0.5), Limit("lic", 2.0))
    assert (set_limit(kit, None), set_limit(kit, None)) == (1, 0)
    assert kit.store.call(GetLimits()).limits == (Limit("db", 0.5),)


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf"), 1e-9])
def test_amounts_that_are_none_are_refused(kit: Kit, amount: float) -> None:
    with pytest.raises(UsageError, match="of lic: give"):
        set_limit(kit, amount)
    with pytest.raises(UsageError, match="name"):
        set_limit(kit, 1, "")


def test_no_more_units_are_given_than_there_are_whichever_pilot_asks(kit: Kit) -> None:
    set_limit(kit, 3)
    kit.submit(*map(row, range(5)), resources=(ONE,))
    first, second = kit.pilot(), kit.pilot()
    mine, theirs = kit.claim(first, 2), kit.claim(second)
    assert (ids(mine), ids(theirs), in_use(kit)) == ([1, 2], [3], 3.0)
    empty = kit.claim_batch(first)
    assert (empty.tasks, empty.limited) == ((), True)
    kit.start(first, *mine)
    kit.finish(first, mine[0])
    kit.finish(first, mine[1], code=1)
    assert ids(kit.claim(second)) == [4, 5]
    batch = kit.claim_batch(first)
    assert (batch.tasks, batch.limited) == ((), False)


def test_pilots_need_not_have_what_is_limited_in_the_whole_store(kit: Kit) -> None:
    kit.submit(row(), resources=(ONE,))
    pilot = kit.pilot()
    assert kit.claim(pilot) == ()
    set_limit(kit, 1)
    batch = kit.claim_batch(pilot)
    assert [batch.resources[task.resources] for task in batch.tasks] == [Resources()]
    kit.release(pilot, *batch.tasks)
    set_limit(kit, None)
    assert kit.claim(pilot) == ()
    batch = kit.claim_batch(pilot, total=Resources(cores=4, named={"lic": 1.0}), want=Resources(named={"lic": 1.0}))
    assert [batch.resources[task.resources] for task in batch.tasks] == [ONE]


def test_who_waits_for_a_unit_keeps_nobody_else_waiting(kit: Kit) -> None:
    set_limit(kit, 1)
    kit.submit(*(row(n, res=n % 2, priority=1 - n % 2) for n in range(6)), resources=(ONE, Resources()))
    assert ids(kit.claim(kit.pilot())) == [1, 2, 4, 6]


def test_many_units_are_not_taken_away_by_those_behind(kit: Kit) -> None:
    set_limit(kit, 3)
    kit.submit(row(), row(), row(res=1), row(), row(res=2), resources=(ONE, Resources(named={"lic": 3.0}), Resources()))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    assert ids(tasks) == [1, 2, 5]
    kit.finish(pilot, tasks[0])
    assert kit.claim_batch(pilot).limited
    kit.finish(pilot, tasks[1])
    assert ids(kit.claim(pilot)) == [3]


def test_what_asks_for_more_than_the_limit_waits_without_keeping_others_or_pilots(kit: Kit) -> None:
    set_limit(kit, 2)
    kit.submit(row(), row(res=1), resources=(Resources(named={"lic": 1.0}, ranks=3), ONE))
    pilot = kit.pilot()
    assert ids(kit.claim(pilot)) == [2]
    assert not kit.claim_batch(pilot).limited
    set_limit(kit, 4)
    assert ids(kit.claim(pilot)) == [1]
    assert in_use(kit) == 4.0


def test_shares_of_a_unit_add_up(kit: Kit) -> None:
    set_limit(kit, 1)
    kit.submit(*map(row, range(12)), resources=(Resources(named={"lic": 0.1}),))
    assert len(kit.claim(kit.pilot())) == 10
    assert in_use(kit) == 1.0


def test_two_limits_are_both_needed(kit: Kit) -> None:
    set_limit(kit, 2)
    set_limit(kit, 1, "db")
    both = Resources(named={"lic": 1.0, "db": 1.0})
    kit.submit(row(), row(), row(res=1), row(res=2), resources=(both, ONE, Resources(named={"db": 0.0})))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    assert ids(tasks) == [1, 4]  # 2 waits for db, and 3 behind it for its turn with lic
    kit.finish(pilot, tasks[0])
    assert ids(kit.claim(pilot)) == [2, 3]


def test_limit_that_is_lowered_ends_nothing_and_one_that_is_raised_lets_more_start(kit: Kit) -> None:
    set_limit(kit, 2)
    kit.submit(*map(row, range(4)), resources=(ONE,))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    set_limit(kit, 1)
    assert in_use(kit) == 2.0
    kit.finish(pilot, tasks[0])
    assert kit.claim(pilot) == ()
    set_limit(kit, 0)
    kit.finish(pilot, tasks[1])
    assert not kit.claim_batch(pilot).limited
    set_limit(kit, 2)
    assert ids(kit.claim(pilot)) == [3, 4]


@pytest.mark.parametrize("started", [False, True])
def test_units_come_back_from_pilots_that_end_and_tasks_that_are_given_back_or_canceled(
    kit: Kit, started: bool
) -> None:
    set_limit(kit, 1)
    kit.submit(*map(row, range(3)), resources=(ONE,))
    first, second = kit.pilot(), kit.pilot()
    (task,) = kit.claim(first)
    if started:
        kit.start(first, task)
    kit.store.call(EndPilot(first, PilotState.FAILED))
    (task,) = kit.claim(second)
    assert (task.task, in_use(kit)) == (1, 1.0)
    kit.release(second, task)
    assert in_use(kit) == 0.0
    (task,) = kit.claim(second)
    kit.cancel(1)
    assert in_use(kit) == 1.0  # until the agent has ended it
    kit.release(second, task)
    assert (kit.state(1), in_use(kit)) == (TaskState.CANCELED, 0.0)
    assert ids(kit.claim(second)) == [2]


def test_pilot_that_was_given_up_gets_its_units_again_only_if_nobody_has_them(
    local: SqliteStore, clock: FakeClock
) -> None:
    kit = Kit(local)
    set_limit(kit, 2)
    kit.submit(*map(row, range(4)), resources=(ONE,))
    lost = kit.pilot()
    mine = kit.claim(lost)
    kit.start(lost, *mine)
    clock.advance(61.0)
    local.due()
    assert in_use(kit) == 0.0
    other = kit.pilot()
    assert ids(kit.claim(other)) == [1, 2]
    assert sorted(kit.attach(lost, *mine).cancel) == [(1, 1), (2, 1)]
    assert in_use(kit) == 2.0


def test_pilot_that_comes_back_with_more_than_is_left_ends_the_rest(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    set_limit(kit, 2)
    kit.submit(*map(row, range(2)), resources=(ONE,))
    lost = kit.pilot()
    mine = kit.claim(lost)
    kit.start(lost, *mine)
    clock.advance(61.0)
    local.due()
    set_limit(kit, 1)
    assert kit.attach(lost, *mine).cancel == ((2, 1),)
    assert (kit.state(1), kit.state(2), in_use(kit)) == (TaskState.RUNNING, TaskState.READY, 1.0)
    assert kit.finish(lost, mine[1]).recorded == 1  # it was over before it was told to end
    assert (kit.state(2), in_use(kit)) == (TaskState.DONE, 1.0)


def test_limits_and_what_is_in_use_outlast_the_server(tmp_path: Path, clock: FakeClock) -> None:
    store = SqliteStore(tmp_path / "store.db", clock)
    kit = Kit(store)
    set_limit(kit, 2)
    kit.submit(*map(row, range(3)), resources=(ONE,))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    store.close()
    kit.store = store = SqliteStore(tmp_path / "store.db", clock)
    assert kit.claim_batch(pilot).limited
    assert in_use(kit) == 2.0
    kit.finish(pilot, *tasks)
    assert ids(kit.claim(pilot)) == [3]
    store.close()


def test_request_that_fails_in_a_transaction_loses_no_units(local: SqliteStore) -> None:
    kit = Kit(local)
    set_limit(kit, 2)
    kit.submit(*map(row, range(3)), resources=(ONE,))
    first, second = kit.pilot(), kit.pilot()
    claim = Claim(first, 1, LARGE, LARGE, 1)
    answers = local.call_many((claim, SetLimits({"lic": -1.0}), Claim(second, 1, LARGE, LARGE, 5)))
    assert isinstance(answers[1], UsageError)
    assert in_use(kit) == 2.0


def test_explanation_says_what_is_in_use(kit: Kit) -> None:
    set_limit(kit, 1)
    kit.submit(*map(row, range(2)), resources=(ONE,))
    (task,) = kit.claim(kit.pilot())
    assert task.task == 1
    assert kit.store.call(Explain(TaskId(2))).limits == (Limit("lic", 1.0, 1.0),)


def test_claim_that_waits_is_answered_when_units_come_back(tmp_path: Path, surroundings: Path) -> None:
    store = connect_store(str(tmp_path / "store.db"), patience_s=30)
    kit = Kit(store)
    set_limit(kit, 1)
    kit.submit(*map(row, range(3)), resources=(ONE,))
    first, second = kit.pilot(), kit.pilot()
    (task,) = kit.claim(first)
    waiting = store.send(Claim(second, 1, LARGE, LARGE, 10, wait_s=300.0))
    kit.beat(second)  # the claim is there before what comes now
    kit.finish(first, task)
    assert ids(waiting.result(60).tasks) == [2]
    again = store.send(Claim(first, 5, LARGE, LARGE, 10, wait_s=300.0))
    kit.beat(first)
    set_limit(kit, 2)
    assert ids(again.result(60).tasks) == [3]
    store.close()
