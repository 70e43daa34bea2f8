"""Pilots that were given up although they lived, and what they bring."""

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import StateError
from pilotmtc.model import Claimed, PilotId, Template
from pilotmtc.protocol.agent import EndPilot, Finished
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.client.tasks import Edit, GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row

S = TaskState
TWICE = Template(("x", "{x}"), fields=("x",), max_retries=1)


@pytest.fixture
def kit(local: SqliteStore) -> Kit:
    return Kit(local)


def give_up(kit: Kit, local: SqliteStore, clock: FakeClock, *running: Claimed, pilot: PilotId) -> None:
    kit.start(pilot, *running)
    clock.advance(61)
    local.due()
    assert local.call(GetPilots(id=pilot)).pilots[0].state is PilotState.FAILED


def causes(kit: Kit, task: int) -> list[Cause]:
    return [attempt.cause for attempt in kit.store.call(GetTask(kit.task(task).id)).attempts]


def test_late_success_counts_while_nobody_has_begun_anew(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    ran, unstarted = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    assert [kit.state(1), kit.state(2)] == [S.READY, S.READY]
    assert causes(kit, 1) == [Cause.PILOT_LOST]
    assert kit.finish(pilot, ran, unstarted) == Finished(2, 0, 0)
    assert [kit.state(1), kit.state(2)] == [S.DONE, S.DONE]
    assert causes(kit, 1) == [Cause.EXIT]
    assert kit.task(1).crashes == 0
    assert kit.finish(pilot, ran, unstarted) == Finished(0, 2, 0)


def test_late_success_is_stale_once_somebody_has_begun_anew(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    other = kit.pilot()
    (again,) = kit.claim(other)
    assert kit.finish(pilot, ran) == Finished(0, 1, 0)  # recorded as lost, and so it stays
    assert kit.state(1) is S.CLAIMED
    assert kit.finish(other, again) == Finished(1, 0, 0)
    assert causes(kit, 1) == [Cause.PILOT_LOST, Cause.EXIT]


def test_late_failure_is_charged_as_any_other(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1), template=TWICE)
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    assert kit.finish(pilot, ran, code=1) == Finished(1, 0, 0)
    task = kit.task(1)
    assert (task.state, task.failures, task.crashes) == (S.READY, 1, 0)
    assert kit.finish(pilot, ran) == Finished(0, 1, 0)  # its end is known by now
    assert kit.state(1) is S.READY


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.WALLTIME, Cause.CANCELED, Cause.PILOT_LOST])
def test_end_without_a_result_changes_nothing(cause: Cause, kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    assert kit.finish(pilot, ran, cause=cause) == Finished(0, 1, 0)
    assert (kit.state(1), causes(kit, 1)) == (S.READY, [Cause.PILOT_LOST])


def test_ready_task_has_not_started(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1), row(2), row(3), template=TWICE)
    pilot = kit.pilot()
    ran, failed, preempted = kit.claim(pilot)
    kit.start(pilot, failed, preempted)
    kit.finish(pilot, failed, code=1)
    kit.finish(pilot, preempted, cause=Cause.PREEMPTED)
    give_up(kit, local, clock, ran, pilot=pilot)
    assert [(kit.state(n), kit.task(n).started_at) for n in (1, 2, 3)] == [(S.READY, None)] * 3


def test_task_that_was_found_again_has_run_since_it_began(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    kit.attach(pilot, ran)
    assert (kit.state(1), kit.task(1).started_at) == (S.RUNNING, 5.0)


def test_result_of_another_pilot_is_not_taken_for_the_lost_one(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    assert kit.finish(kit.pilot(), ran) == Finished(0, 1, 0)
    assert kit.state(1) is S.READY


def test_what_a_user_has_set_back_is_run_anew(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (ran,) = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    kit.cancel(1)
    assert kit.finish(pilot, ran) == Finished(0, 1, 0)
    kit.retry(1)
    assert kit.finish(pilot, ran) == Finished(0, 1, 0)
    assert kit.state(1) is S.READY


def test_pilot_that_comes_back_goes_on_with_what_nobody_else_has(
    kit: Kit, local: SqliteStore, clock: FakeClock
) -> None:
    kit.submit(row(1), row(2), row(3))
    pilot = kit.pilot()
    ran = kit.claim(pilot)
    give_up(kit, local, clock, *ran[:2], pilot=pilot)
    other = kit.pilot()
    (taken,) = kit.claim(other, 1)
    with pytest.raises(StateError, match="FAILED"):
        kit.beat(pilot)
    assert kit.attach(pilot, *ran).cancel == ((taken.task, 1),)
    assert kit.attach(pilot, *ran).cancel == ((taken.task, 1),)
    back = local.call(GetPilots(id=pilot)).pilots[0]
    assert (back.state, back.reason, back.ended_at) == (PilotState.ACTIVE, "", None)
    assert kit.claim(other) == ()
    assert kit.beat(pilot).cancel == ()
    assert kit.finish(pilot, *ran) == Finished(2, 1, 0)
    assert kit.finish(other, taken) == Finished(1, 0, 0)
    assert [kit.state(task) for task in (1, 2, 3)] == [S.DONE, S.DONE, S.DONE]


def test_pilot_that_was_ended_does_not_come_back(kit: Kit) -> None:
    pilot = kit.pilot()
    kit.store.call(EndPilot(pilot, PilotState.FAILED, "its agent was killed"))
    with pytest.raises(StateError, match="must stop"):
        kit.attach(pilot)


def test_late_success_of_another_command_is_stale(kit: Kit, local: SqliteStore, clock: FakeClock) -> None:
    kit.submit(row(1), row(2), template=TWICE)
    pilot = kit.pilot()
    ran, unstarted = kit.claim(pilot)
    give_up(kit, local, clock, ran, pilot=pilot)
    local.call(Edit("e", Filter(ids=(ran.task, unstarted.task)), command=("y", "{x}"), shell=False, env={"A": "1"}))
    assert kit.finish(pilot, ran, unstarted) == Finished(0, 1, 1)
    assert [kit.state(1), kit.state(2)] == [S.READY, S.READY]
