"""Cancel, Retry, Edit, and what they do to dependents."""

import pytest

from pilotmtc.model import After, Resources, TaskId
from pilotmtc.protocol.agent import EndPilot
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.tasks import Edit, GetTask, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.requests.steer import steer
from tests.contract.storekit import Kit, row

S = TaskState


def chain(kit: Kit) -> None:
    """1 <- 2 <- 3, and 4 that needs 1 to be over only."""
    kit.submit(
        row(1, name="a"),
        row(2, name="b", after=[After("a")]),
        row(3, after=[After("b")]),
        row(4, after=[After("a", False)]),
    )


def states(kit: Kit, n: int) -> list[TaskState]:
    return [kit.state(id_) for id_ in range(1, n + 1)]


@pytest.fixture(autouse=True)
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all in one slice, as few tasks are, and with one of the stores one task at a time."""
    if request.node.callspec.params["store"] == "exclusive":
        monkeypatch.setattr(steer, "SLICE", 1)


def test_cancel_skips_dependents_down_the_line(kit: Kit) -> None:
    chain(kit)
    assert kit.cancel(1) == Changed(1)
    assert states(kit, 4) == [S.CANCELED, S.SKIPPED, S.SKIPPED, S.READY]


def test_canceling_a_task_with_its_dependents_cancels_them_too(kit: Kit) -> None:
    chain(kit)
    assert kit.cancel(1, 2, 3, 4) == Changed(4)
    assert states(kit, 4) == [S.CANCELED] * 4


def test_cancel_and_retry_happen_once_a_key(kit: Kit) -> None:
    kit.submit(row(1))
    assert kit.cancel(1, key="k") == Changed(1)
    kit.retry(1)
    assert kit.cancel(1, key="k") == Changed(1)
    assert kit.state(1) is S.READY


def test_a_canceled_task_that_ends_well_nevertheless_is_done(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.cancel(1)
    kit.finish(pilot, task)
    assert (kit.state(1), kit.task(1).cancel) == (S.DONE, False)


def test_a_canceled_task_given_back_is_canceled(kit: Kit) -> None:
    kit.submit(row(1, name="a"), row(2, after=[After("a")]), row(3))
    pilot = kit.pilot()
    one, three = kit.claim(pilot)
    kit.start(pilot, three)
    kit.cancel(1, 3)
    kit.release(pilot, one)
    kit.store.call(EndPilot(pilot, PilotState.FAILED))
    assert states(kit, 3) == [S.CANCELED, S.SKIPPED, S.CANCELED]


def test_what_is_over_is_unfit_for_cancel_and_what_lives_for_retry(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot, 1))
    assert kit.cancel(1) == Changed(0, 1)
    assert kit.retry(1, 2) == Changed(0, 2)


def test_retry_forgets_failures_and_takes_a_new_attempt(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=1)
    assert kit.retry(1) == Changed(1)
    assert (kit.state(1), kit.task(1).failures, kit.claim(pilot)[0].attempt) == (S.READY, 0, 2)


def test_retry_revives_what_was_skipped_because_of_it(kit: Kit) -> None:
    chain(kit)
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=1)
    assert states(kit, 4) == [S.FAILED, S.SKIPPED, S.SKIPPED, S.READY]
    assert kit.retry(1) == Changed(3)
    assert states(kit, 4) == [S.READY, S.WAITING, S.WAITING, S.WAITING]
    for _ in range(3):
        kit.finish(pilot, *kit.claim(pilot))
    assert states(kit, 4) == [S.DONE] * 4


def test_retry_of_a_skipped_task_alone_is_unfit(kit: Kit) -> None:
    chain(kit)
    kit.cancel(1)
    assert kit.retry(2) == Changed(0, 1)
    assert kit.state(2) is S.SKIPPED


def test_a_task_skipped_for_two_reasons_waits_for_both(kit: Kit) -> None:
    kit.submit(row(1, name="a"), row(2, name="b"), row(3, after=[After("a"), After("b")]))
    kit.cancel(1, 2)
    assert kit.retry(1) == Changed(1)
    assert kit.state(3) is S.SKIPPED
    assert kit.retry(2) == Changed(2)
    assert (kit.state(3), kit.task(3).unmet) == (S.WAITING, 2)


def test_a_canceled_dependent_stays_canceled_when_its_need_is_retried(kit: Kit) -> None:
    chain(kit)
    kit.cancel(1, 2)
    kit.retry(1)
    assert states(kit, 3) == [S.READY, S.CANCELED, S.SKIPPED]


def test_edit_changes_what_has_not_started(kit: Kit) -> None:
    kit.submit(row(1), row(2, res=1), row(3), resources=[Resources(), Resources(cores=2, gpus=1.0)])
    pilot = kit.pilot()
    (claimed,) = kit.claim(pilot, 1)
    assert kit.store.call(Edit("k", Filter(), priority=7, cores=3, time_limit_s=5.0)) == Changed(2, 1)
    assert kit.task(claimed.task).resources == Resources()
    assert kit.task(2).resources == Resources(cores=3, gpus=1.0, time_limit_s=5.0)
    assert (kit.task(3).resources, kit.task(3).priority) == (Resources(cores=3, time_limit_s=5.0), 7)


def test_edit_makes_a_task_claimable_that_was_too_large(kit: Kit) -> None:
    kit.submit(row(1), resources=[Resources(cores=100)])
    pilot = kit.pilot()
    assert kit.claim(pilot) == ()
    kit.store.call(Edit("k", Filter(), cores=1))
    assert [task.task for task in kit.claim(pilot)] == [1]


def test_a_failed_dependency_that_is_tried_again_skips_nobody_yet(kit: Kit) -> None:
    chain(kit)
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.finish(pilot, task, cause=Cause.WALLTIME)
    assert states(kit, 2) == [S.READY, S.WAITING]


def test_canceling_a_skipped_task_does_not_count_its_end_twice(kit: Kit) -> None:
    kit.submit(row(1, name="a"), row(2, name="b", after=[After("a")]), row(3, name="c"))
    kit.cancel(1)
    kit.submit(row(4, after=[After(TaskId(2), False), After(TaskId(3))]))
    kit.cancel(2)
    assert (kit.state(4), kit.task(4).unmet) == (S.WAITING, 1)


def test_retry_leaves_a_ready_task_alone_whose_needs_it_does_not_revive(kit: Kit) -> None:
    kit.submit(row(1, name="a"), row(2, after=[After("a", False)]))
    pilot = kit.pilot()
    kit.cancel(1)
    (two,) = kit.claim(pilot)
    kit.retry(1)
    kit.release(pilot, two)
    assert kit.retry(2) == Changed(0, 1)
    assert kit.state(2) is S.READY


def rerun(kit: Kit, *ids: int, dependents: bool = False) -> Changed:
    return kit.store.call(Retry("rerun", Filter(ids=tuple(map(TaskId, ids))), done=True, dependents=dependents))


def run_all(kit: Kit) -> None:
    pilot = kit.pilot()
    while held := kit.claim(pilot):
        kit.finish(pilot, *held)


def test_done_tasks_run_again_and_keep_their_earlier_attempts(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    run_all(kit)
    assert kit.retry(1) == Changed(0, 1)
    assert rerun(kit, 1) == Changed(1)
    assert states(kit, 2) == [S.READY, S.DONE]
    run_all(kit)
    assert kit.state(1) is S.DONE
    assert [one.attempt for one in kit.store.call(GetTask(TaskId(1))).attempts] == [1, 2]


def test_rerun_leaves_finished_dependents_alone(kit: Kit) -> None:
    chain(kit)
    run_all(kit)
    assert rerun(kit, 1) == Changed(1)
    assert states(kit, 4) == [S.READY, S.DONE, S.DONE, S.DONE]


def test_rerun_takes_dependents_along_down_the_line(kit: Kit) -> None:
    chain(kit)
    run_all(kit)
    assert rerun(kit, 1, dependents=True) == Changed(4)
    assert states(kit, 4) == [S.READY, S.WAITING, S.WAITING, S.WAITING]
    run_all(kit)
    assert states(kit, 4) == [S.DONE] * 4
    assert {kit.task(id_).attempt for id_ in range(1, 5)} == {2}


def test_what_runs_or_waits_is_not_rerun(kit: Kit) -> None:
    chain(kit)
    pilot = kit.pilot()
    (held,) = kit.claim(pilot, 1)
    assert rerun(kit, 1, 2, 3, 4) == Changed(0, 4)
    kit.finish(pilot, held)
