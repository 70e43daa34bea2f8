"""Claim, Started, Finish, Release, and a pilot's life."""

import pytest

from pilotmtc.errors import StateError, UsageError
from pilotmtc.model import CampaignId, PilotDescription, PilotId, Resources, TaskId, Template
from pilotmtc.protocol.agent import AttachPilot, Claim, EndPilot, Finish, Finished, Heartbeat
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns, ShareCampaign
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, DrainPilot, GetPilots
from pilotmtc.protocol.client.tasks import GetOutput, GetTask
from pilotmtc.states import CRASH_LIMIT, Cause, PilotState, TaskState
from tests.contract.storekit import Kit, result, row

S = TaskState


def test_claims_go_by_priority_then_order(kit: Kit) -> None:
    kit.submit(row(1), row(2, priority=5), row(3, priority=-1), row(4, priority=5))
    assert [task.task for task in kit.claim(kit.pilot())] == [2, 4, 1, 3]


def test_claims_merge_resource_sets_in_order(kit: Kit) -> None:
    kit.submit(row(1), row(2, res=1), row(3), row(4, res=1, priority=1), resources=[Resources(), Resources(cores=2)])
    assert [task.task for task in kit.claim(kit.pilot())] == [4, 1, 2, 3]


def test_a_claimed_task_is_given_to_nobody_else(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    first = kit.claim(kit.pilot(), 1)
    second = kit.claim(kit.pilot(), 5)
    assert [task.task for task in first + second] == [1, 2]


def test_the_same_claim_again_answers_the_same_tasks(kit: Kit) -> None:
    kit.submit(*map(row, range(5)))
    pilot = kit.pilot()
    batch = kit.claim_batch(pilot, 2)
    assert kit.claim_batch(pilot, 2, number=1) == batch
    kit.finish(pilot, batch.tasks[0])
    assert kit.claim_batch(pilot, 2, number=1).tasks == batch.tasks[1:]
    assert len(kit.claim_batch(pilot, 2, number=2).tasks) == 2
    assert kit.claim_batch(pilot, 2, number=1).tasks == ()


def test_a_late_copy_of_a_claim_that_found_nothing_is_given_nothing(kit: Kit) -> None:
    pilot = kit.pilot()
    assert kit.claim_batch(pilot, number=1).tasks == ()
    assert kit.claim_batch(pilot, number=2).tasks == ()
    kit.submit(row())
    assert kit.claim_batch(pilot, number=1).tasks == ()
    assert len(kit.claim_batch(pilot, number=2).tasks) == 1


def test_want_is_summed_and_the_first_is_given_in_any_case(kit: Kit) -> None:
    kit.submit(row(1, res=1), row(2), row(3), resources=[Resources(), Resources(cores=8)])
    pilot = kit.pilot()
    assert [task.task for task in kit.claim(pilot, want=Resources(cores=2))] == [1]
    assert [task.task for task in kit.claim(pilot, want=Resources(cores=1))] == [2]


def test_small_tasks_do_not_overtake_a_wide_one_unless_they_backfill(kit: Kit) -> None:
    kit.submit(row(1), row(2, res=1), row(3), resources=[Resources(), Resources(cores=8)])
    pilot = kit.pilot()
    assert [t.task for t in kit.claim_batch(pilot, want=Resources(cores=4)).tasks] == [1]
    assert [t.task for t in kit.claim_batch(pilot, want=Resources(cores=4), backfill=True).tasks] == [3]
    assert [t.task for t in kit.claim_batch(pilot, want=Resources(cores=4), backfill=True).tasks] == []
    assert [t.task for t in kit.claim_batch(pilot, want=Resources(cores=4)).tasks] == [2]


@pytest.mark.parametrize(
    "need",
    [
        Resources(cores=9),
        Resources(gpus=2.0),
        Resources(memory_bytes=1 << 31),
        Resources(named={"licence": 1.0}),
        Resources(time_limit_s=61.0),
        Resources(expected_s=61.0),
        Resources(ranks=9),
        Resources(cores=5, ranks=2),
        Resources(gpus=0.6, ranks=2),
        Resources(memory_bytes=1 << 29, ranks=3),
        Resources(ranks=2, ranks_per_node=1),
    ],
)
def test_what_does_not_fit_is_not_given_and_blocks_nothing(kit: Kit, need: Resources) -> None:
    kit.submit(row(1, res=1), row(2), resources=[Resources(), need])
    total = Resources(cores=8, gpus=1.0, memory_bytes=1 << 30)
    assert [t.task for t in kit.claim_batch(kit.pilot(), total=total, want=total, time_left_s=60.0).tasks] == [2]


@pytest.mark.parametrize("least", [5e-324, 1e-7, 4e-7])
def test_the_smallest_amounts_are_given_where_there_is_some_and_hinder_no_claim(kit: Kit, least: float) -> None:
    needs = [Resources(named={"licence": least}), Resources(gpus=least), Resources(named={"other": least}), Resources()]
    kit.submit(*(row(number, res=number) for number in range(4)), resources=needs)
    total = Resources(cores=8, gpus=1.0, named={"licence": 1.0})
    assert [task.task for task in kit.claim_batch(kit.pilot(), total=total, want=total).tasks] == [1, 2, 4]


def test_a_wide_task_is_given_to_who_has_room_for_its_ranks_on_all_nodes_together(kit: Kit) -> None:
    node, small = Resources(cores=8, gpus=2.0), Resources(cores=3)
    needs = {1: Resources(cores=3, ranks=7), 2: Resources(cores=3, ranks=8), 3: Resources(ranks=4, ranks_per_node=1)}
    needs |= {
        4: Resources(gpus=0.4, ranks=12),
        5: Resources(gpus=0.4, ranks=13),
        6: Resources(ranks=5, ranks_per_node=1),
    }
    kit.submit(*(row(number, res=number - 1) for number in needs), resources=tuple(needs.values()))
    pilot = kit.pilot()
    many = Resources(cores=1000, gpus=100.0)
    batch = kit.store.call(Claim(pilot, 1, node, many, 100, nodes=((3, node), (1, small))))
    assert [task.task for task in batch.tasks] == [1, 3, 4]


def test_a_claim_for_tasks_that_end_in_time_gets_no_others(kit: Kit) -> None:
    kit.submit(*(row(number, res=number) for number in range(3)), resources=[
        Resources(), Resources(time_limit_s=60), Resources(time_limit_s=61)
    ])  # fmt: skip
    batch = kit.store.call(Claim(kit.pilot(), 1, Resources(cores=4), Resources(cores=4), 100, within_s=60.0))
    assert [task.task for task in batch.tasks] == [2]


def test_all_ranks_of_a_wide_task_count_in_what_is_wanted(kit: Kit) -> None:
    kit.submit(row(1), row(2, res=1), row(3), resources=[Resources(), Resources(cores=2, ranks=4)])
    pilot = kit.pilot()
    assert [task.task for task in kit.claim(pilot, want=Resources(cores=8))] == [1]
    assert [task.task for task in kit.claim(pilot, want=Resources(cores=9))] == [2, 3]


def test_shares_of_a_gpu_add_up(kit: Kit) -> None:
    kit.submit(*map(row, range(12)), resources=[Resources(gpus=0.1)])
    total = Resources(cores=64, gpus=1.0)
    assert len(kit.claim_batch(kit.pilot(), total=total, want=total).tasks) == 10


def test_a_pilot_of_a_campaign_takes_no_other_tasks(kit: Kit) -> None:
    kit.submit(row(1, priority=9))
    mine = kit.submit(row(2)).campaign
    assert [task.task for task in kit.claim(kit.pilot(mine))] == [2]


def test_tasks_that_are_kept_for_pilots_of_their_own_are_given_to_no_other(kit: Kit) -> None:
    mine = kit.submit(row(1, priority=9), row(2), own=True).campaign
    kit.submit(row(3))
    stranger, own = kit.pilot(), kit.pilot(mine)
    assert [task.task for task in kit.claim(stranger)] == [3]
    assert [task.task for task in kit.claim(own, 1)] == [1]
    kit.store.call(EndPilot(own, PilotState.FAILED, "it died"))
    assert kit.claim(stranger) == ()
    assert [task.task for task in kit.claim(kit.pilot(mine))] == [1, 2]


def test_claims_go_past_campaigns_that_are_kept_for_others_to_all_that_are_not(kit: Kit) -> None:
    shared = [kit.submit(row(n), own=n % 3 != 0).received for n in range(10)]
    assert shared == [1] * 10
    with pytest.raises(UsageError):
        kit.submit(row(), resources=())  # an undone request leaves no campaign behind
    assert [task.task for task in kit.claim(kit.pilot())] == [1, 4, 7, 10]
    kit.store.call(ShareCampaign(CampaignId(6)))
    assert [task.task for task in kit.claim(kit.pilot())] == [6]
    assert [task.task for task in kit.claim(kit.pilot(CampaignId(9)))] == [9]


def test_kept_campaign_is_shared_from_when_somebody_says_so(kit: Kit) -> None:
    mine = kit.submit(row(1), key="k", last=False, own=True).campaign
    kit.submit(row(2), key="k", offset=1)  # what the first chunk has said counts
    assert kit.store.call(GetCampaigns(mine)).campaigns[0].own_pilots
    stranger = kit.pilot()
    assert kit.claim(stranger) == ()
    assert kit.store.call(ShareCampaign(mine)) == Changed(1)
    assert kit.store.call(ShareCampaign(mine)) == Changed(0)
    assert not kit.store.call(GetCampaigns(mine)).campaigns[0].own_pilots
    assert [task.task for task in kit.claim(stranger)] == [1, 2]
    with pytest.raises(UsageError, match="no campaign 99"):
        kit.store.call(ShareCampaign(CampaignId(99)))


def test_results_are_recorded_once(kit: Kit) -> None:
    campaign = kit.submit(row(1)).campaign
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    assert kit.finish(pilot, task) == Finished(recorded=1)
    assert kit.finish(pilot, task) == Finished(again=1)
    assert kit.counts(campaign) == {S.DONE: 1}
    detail = kit.store.call(GetTask(task.task))
    assert [(a.attempt, a.cause, a.exit_code, a.pilot, a.node) for a in detail.attempts] == [
        (1, Cause.EXIT, 0, pilot, "n1")
    ]


def test_a_result_twice_in_one_message_is_recorded_once(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    assert kit.finish(pilot, task, task) == Finished(recorded=1, again=1)


def test_results_of_others_attempts_are_stale(kit: Kit) -> None:
    kit.submit(row(1))
    pilot, other = kit.pilot(), kit.pilot()
    (task,) = kit.claim(pilot)
    assert kit.finish(other, task) == Finished(stale=1)
    kit.release(pilot, task)
    assert kit.finish(pilot, task) == Finished(stale=1)
    (again,) = kit.claim(pilot)
    assert (again.attempt, kit.finish(pilot, task), kit.finish(pilot, again)) == (2, Finished(stale=1), Finished(1))


def test_a_failure_is_tried_again_as_often_as_allowed(kit: Kit) -> None:
    kit.submit(row(1), template=Template(("x",), fields=("x",), max_retries=1))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=3)
    assert kit.state(1) is S.READY
    kit.finish(pilot, *kit.claim(pilot), code=4)
    task = kit.task(1)
    assert (task.state, task.failures, task.attempt) == (S.FAILED, 2, 2)
    assert task.last is not None
    assert task.last.exit_code == 4


def test_what_the_infrastructure_did_is_not_charged(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    for _ in range(CRASH_LIMIT + 2):
        kit.finish(pilot, *kit.claim(pilot), cause=Cause.WALLTIME)
    assert (kit.state(1), kit.task(1).failures) == (S.READY, 0)


def test_a_task_that_keeps_killing_its_node_fails_at_the_crash_limit(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    for _ in range(CRASH_LIMIT):
        kit.finish(pilot, *kit.claim(pilot), cause=Cause.NODE_LOST)
    assert (kit.state(1), kit.task(1).crashes) == (S.FAILED, CRASH_LIMIT)


def test_started_tasks_run_and_stale_reports_are_ignored(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    one, two = kit.claim(pilot)
    kit.start(pilot, one)
    kit.start(pilot, one)
    assert (kit.state(1), kit.task(1).started_at) == (S.RUNNING, 5.0)
    kit.finish(pilot, two)
    kit.start(pilot, two)
    assert kit.state(2) is S.DONE


def test_a_released_task_leaves_no_attempt_and_its_number_is_not_used_again(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.release(pilot, task)
    kit.release(pilot, task)
    assert (kit.state(1), kit.store.call(GetTask(task.task)).attempts) == (S.READY, ())
    assert kit.claim(pilot)[0].attempt == 2


def test_outputs_are_kept(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    one, two = kit.claim(pilot)
    kit.store.call(Finish(pilot, (result(one, out=b"hello\n"), result(two))))
    output = kit.store.call(GetOutput(one.task))
    assert (output.found, output.attempt, output.stdout, output.stdout_bytes) == (True, 1, b"hello\n", 6)
    assert kit.store.call(GetOutput(two.task, 1)).stdout == b""
    assert not kit.store.call(GetOutput(two.task, 2)).found


def test_a_pilots_key_makes_one_pilot(kit: Kit) -> None:
    request = CreatePilot("k", PilotDescription(cores=4), "/d")
    pilot = kit.store.call(request).pilots[0]
    assert kit.store.call(request).pilots == (pilot,)
    assert (pilot.state, pilot.description.cores, pilot.directory) == (PilotState.NEW, 4, "/d")


def test_the_end_of_a_pilot_gives_its_tasks_back(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    running, waiting = kit.claim(pilot)
    kit.start(pilot, running)
    end = EndPilot(pilot, PilotState.FAILED, "it died")
    kit.store.call(end)
    kit.store.call(end)
    assert [kit.state(1), kit.state(2)] == [S.READY, S.READY]
    attempts = kit.store.call(GetTask(running.task)).attempts
    assert [(a.cause, a.message) for a in attempts] == [(Cause.PILOT_LOST, "it died")]
    assert kit.store.call(GetTask(waiting.task)).attempts == ()
    assert (kit.task(1).crashes, kit.task(2).crashes) == (1, 0)
    kit.claim(kit.pilot())
    assert kit.finish(pilot, waiting) == Finished(stale=1)
    assert kit.finish(pilot, running) == Finished(again=1)


def test_a_dead_pilot_is_told_to_stop(kit: Kit) -> None:
    pilot = kit.pilot()
    kit.store.call(EndPilot(pilot, PilotState.DONE))
    for request in (AttachPilot(pilot, "h", 1, 1, 1), Heartbeat(pilot)):
        with pytest.raises(StateError, match="DONE"):
            kit.store.call(request)
    with pytest.raises(StateError, match="DONE"):
        kit.claim(pilot)


def test_an_unknown_pilot_is_a_usage_error(kit: Kit) -> None:
    with pytest.raises(UsageError, match="no pilot 77"):
        kit.store.call(Claim(PilotId(77), 1, Resources(), Resources(), 1))


def test_a_draining_pilot_is_given_nothing_new(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    before = kit.beat(pilot).number
    assert kit.store.call(DrainPilot(pilot)) == Changed(1)
    assert kit.store.call(DrainPilot(pilot)) == Changed(0)
    orders = kit.beat(pilot)
    assert orders.drain
    assert orders.number > before
    assert kit.claim(pilot) == ()


def test_a_pilot_drained_before_it_started_drains_as_soon_as_it_attaches(kit: Kit) -> None:
    pilot = kit.pilot(attach=False)
    kit.store.call(DrainPilot(pilot))
    assert kit.store.call(AttachPilot(pilot, "h", 1, 1, 1)).drain
    assert kit.store.call(GetPilots(pilot)).pilots[0].state is PilotState.DRAINING


def test_what_the_largest_node_has_is_kept_when_nodes_are_lost(kit: Kit) -> None:
    pilot = kit.pilot(attach=False)
    kit.store.call(AttachPilot(pilot, "h", 1, 2, 20, largest=Resources(cores=12, memory_bytes=5 << 30)))
    kit.store.call(AttachPilot(pilot, "h", 1, 0, 0, largest=Resources(cores=0)))
    (found,) = kit.store.call(GetPilots(pilot)).pilots
    assert (found.cores, found.node_cores, found.node_memory_bytes) == (0, 12, 5 << 30)


def test_canceling_a_pilot_orders_its_agent_or_ends_it_if_there_is_none(kit: Kit) -> None:
    attached, fresh = kit.pilot(), kit.pilot(attach=False)
    kit.store.call(CancelPilot(attached))
    kit.store.call(CancelPilot(fresh))
    assert kit.beat(attached).kill
    assert kit.store.call(GetPilots(fresh)).pilots[0].state is PilotState.CANCELED
    assert [pilot.id for pilot in kit.store.call(GetPilots(live=True)).pilots] == [attached]


def test_task_that_nobody_canceled_runs_again_when_its_pilot_was_told_to_stop_it(kit: Kit) -> None:
    """After a power cut, an attempt that the store has forgotten may have the number of the one that it gives next."""
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.finish(pilot, task, cause=Cause.CANCELED)
    assert (kit.state(1), kit.task(1).failures) == (S.READY, 0)
    (again,) = kit.claim(pilot)
    assert again.attempt == 2
    kit.finish(pilot, again)
    assert kit.state(1) is S.DONE


def test_orders_to_cancel_are_repeated_until_the_task_has_ended(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.cancel(1)
    assert kit.beat(pilot).cancel == ((TaskId(1), 1),)
    assert kit.beat(pilot).cancel == ((TaskId(1), 1),)
    kit.finish(pilot, task, cause=Cause.CANCELED)
    assert (kit.beat(pilot).cancel, kit.state(1)) == ((), S.CANCELED)
