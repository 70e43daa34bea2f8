"""What holds back tasks: campaigns that others wait for, rates of starts, holds of tasks and pilots."""

import msgspec
import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.errors import UsageError
from pilotmtc.model import After, Awaited, Campaign, CampaignId, Claimed, PilotId, Resources, TaskId
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import DeleteCampaign, GetCampaigns, SetAfterCampaigns, SetStartRate, Submit
from pilotmtc.protocol.client.pilots import GetPilots, HoldPilot
from pilotmtc.protocol.client.tasks import Explain, GetTasks, HoldTasks
from pilotmtc.protocol.client.watch import GetOverview
from pilotmtc.protocol.records import Filter
from pilotmtc.session.look.explain import explain
from pilotmtc.session.look.filter import parse_filter
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, row

A, B, C = CampaignId(1), CampaignId(2), CampaignId(3)


def later(kit: Kit, *after: int, key: str = "b", rows: int = 2) -> None:
    """Submit a campaign that waits for others."""
    needs = tuple(map(CampaignId, after))
    kit.store.call(Submit(key, 0, key, (ECHO,), (Resources(),), tuple(map(row, range(rows))), last=True, after=needs))


def wait_for(kit: Kit, campaign: CampaignId, *after: CampaignId, more: bool = False) -> None:
    kit.store.call(SetAfterCampaigns(campaign, after, more))


def look(kit: Kit, campaign: CampaignId) -> Campaign:
    (found,) = kit.store.call(GetCampaigns(campaign)).campaigns
    return found


def ids(tasks: tuple[Claimed, ...]) -> list[int]:
    return [task.task for task in tasks]


def why(kit: Kit, task: int) -> list[str]:
    return explain(kit.store.call(Explain(TaskId(task))))


def run(kit: Kit, pilot: PilotId, *, code: int = 0) -> list[int]:
    """Run all that the pilot is given, and return what that was."""
    tasks = kit.claim(pilot)
    kit.start(pilot, *tasks)
    kit.finish(pilot, *tasks, code=code)
    return ids(tasks)


# -- after a campaign --------------------------------------------------------------------------------------------


def test_campaign_waits_until_all_tasks_of_the_other_are_done(kit: Kit) -> None:
    kit.submit(row(1), row(2), name="mesh")
    later(kit, A)
    pilot = kit.pilot()
    first, second = kit.claim(pilot)
    assert ids((first, second)) == [1, 2]
    assert kit.claim(pilot) == ()
    assert look(kit, B).after == (Awaited(A, "mesh", False, 2, 0),)
    assert why(kit, 3) == ["its campaign 2 waits for campaign 1 (mesh): 2 tasks of it have not ended"]
    kit.start(pilot, first, second)
    kit.finish(pilot, first)
    assert kit.claim(pilot) == ()
    kit.finish(pilot, second)
    assert look(kit, B).after == (Awaited(A, "mesh", True),)
    assert run(kit, pilot) == [3, 4]


def test_campaign_waits_until_the_other_is_complete(kit: Kit) -> None:
    kit.submit(row(1), key="a", last=False)
    later(kit, A)
    pilot = kit.pilot()
    assert run(kit, pilot) == [1]
    assert "whose submission has not finished" in why(kit, 2)[0]
    kit.submit(key="a", offset=1)
    assert run(kit, pilot) == [2, 3]


def test_campaign_after_one_that_failed_waits_until_it_was_retried(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    later(kit, A)
    pilot = kit.pilot()
    assert run(kit, pilot, code=1) == [1, 2]
    (one,) = look(kit, B).after
    assert (one.failed, one.bad) == (True, 2)
    said = why(kit, 3)
    assert said[0] == "its campaign 2 waits for campaign 1 (c), which has ended, but 2 tasks of it are not DONE"
    assert said[1:] == ["$ pilotmtc retry --campaign 1", "$ pilotmtc edit --campaign 2 --after-campaign none"]
    kit.cancel(1)
    kit.retry(1, 2)
    assert run(kit, pilot) == [1, 2]
    assert run(kit, pilot) == [3, 4]


def test_wait_that_is_over_does_not_begin_again(kit: Kit) -> None:
    kit.submit(row(1), key="a")
    later(kit, A)
    pilot = kit.pilot()
    assert run(kit, pilot) == [1]
    kit.submit(row(9), key="c", name="c")
    assert look(kit, B).after == (Awaited(A, "c", True),)
    later(kit, A, key="d")  # which has been DONE for long
    assert len(run(kit, pilot)) == 5


def test_what_a_campaign_waits_for_can_be_changed(kit: Kit) -> None:
    kit.submit(row(1), key="a", name="a")
    kit.submit(row(2), key="b", name="b")
    later(kit, A, B, key="c")
    pilot = kit.pilot(C)
    assert kit.claim(pilot) == ()
    wait_for(kit, C, B)
    assert [one.campaign for one in look(kit, C).after] == [B]
    wait_for(kit, C, A, more=True)
    assert [one.campaign for one in look(kit, C).after] == [A, B]
    wait_for(kit, C)
    assert look(kit, C).after == ()
    assert run(kit, pilot) == [3, 4]


def test_campaign_cannot_wait_for_itself_in_any_way(kit: Kit) -> None:
    kit.submit(row(1), key="a")
    later(kit, A, key="b")
    later(kit, B, key="c")
    with pytest.raises(UsageError, match="campaign 1 cannot wait for itself"):
        wait_for(kit, A, A)
    with pytest.raises(UsageError, match="cannot wait for campaign 3, which waits for it: 1 after 3 after 2 after 1"):
        wait_for(kit, A, C)
    with pytest.raises(UsageError, match="there is no campaign 9"):
        wait_for(kit, A, CampaignId(9))
    with pytest.raises(UsageError, match="there is no campaign 9"):
        later(kit, 9, key="d")
    assert [one.after for one in kit.store.call(GetCampaigns(key="d")).campaigns] == []
    assert look(kit, A).after == ()


def test_campaign_that_is_waited_for_cannot_be_deleted_before_it_is_done(kit: Kit) -> None:
    kit.submit(row(1))
    later(kit, A)
    pilot = kit.pilot()
    run(kit, pilot, code=1)
    with pytest.raises(UsageError, match="campaign 2 waits for campaign 1, whose tasks are not all DONE"):
        kit.store.call(DeleteCampaign("x", A))
    kit.retry(1)
    run(kit, pilot)
    kit.store.call(DeleteCampaign("y", A))
    assert look(kit, B).after == ()
    assert run(kit, pilot) == [2, 3]


# -- rates of starts ---------------------------------------------------------------------------------------------


def test_pilots_together_are_given_tasks_at_the_rate_of_their_campaign(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(*map(row, range(6)))
    kit.store.call(SetStartRate(A, 0.5))
    first, second = kit.pilot(), kit.pilot()
    assert ids(kit.claim(first)) == [1]
    batch = kit.claim_batch(second)
    assert (batch.tasks, batch.limited) == ((), True)
    local.take_wakeup()
    assert 1.9 < local.nap() <= 2.0
    clock.advance(1.9)
    local.due()
    assert not local.take_wakeup().ready
    clock.advance(0.1)
    local.due()
    assert local.take_wakeup().ready  # who waits is woken, and nobody before
    assert ids(kit.claim(second)) == [2]
    assert kit.claim(first) == ()
    clock.advance(20)  # in which nobody came: what nobody took is not made up for
    assert ids(kit.claim(first)) == [3]
    assert kit.claim(second) == ()
    kit.store.call(SetStartRate(A, 0.0))
    assert ids(kit.claim(second)) == [4, 5, 6]


def test_high_rate_is_met_in_small_batches(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(*map(row, range(1000)))
    kit.store.call(SetStartRate(A, 100.0))
    pilot = kit.pilot()
    given = []
    for _ in range(100):
        given.append(len(kit.claim(pilot, 1000)))
        clock.advance(0.05)
    assert 480 <= sum(given) <= 511
    assert max(given) <= 11


def test_retries_count_as_starts_and_a_clock_that_was_set_back_stops_nothing(
    local: SqliteStore, clock: FakeClock
) -> None:
    kit = Kit(local)
    kit.submit(row(1), template=msgspec.structs.replace(ECHO, max_retries=5))
    kit.store.call(SetStartRate(A, 1.0))
    pilot = kit.pilot()
    assert run(kit, pilot, code=1) == [1]
    assert kit.state(1) is TaskState.READY
    assert kit.claim(pilot) == ()
    clock.jump(-3600)
    clock.advance(1.0)
    assert run(kit, pilot) == [1]


def test_other_campaigns_do_not_wait_for_one_with_a_rate(local: SqliteStore) -> None:
    kit = Kit(local)
    kit.submit(row(1), row(2), key="a")
    kit.submit(row(3), row(4), key="b")
    kit.store.call(SetStartRate(A, 1.0))
    assert ids(kit.claim(kit.pilot())) == [1, 3, 4]
    assert "pilots are given at most 1/s of the tasks of its campaign 1" in why(kit, 2)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_rate_that_is_none_is_refused(kit: Kit, rate: float) -> None:
    kit.submit(row(1))
    with pytest.raises(UsageError, match="give a rate"):
        kit.store.call(SetStartRate(A, rate))


# -- holds -------------------------------------------------------------------------------------------------------


def hold(kit: Kit, *tasks: int, hold: bool = True, key: str = "") -> Changed:
    return kit.store.call(HoldTasks(key or f"{hold}{tasks}", Filter(ids=tuple(map(TaskId, tasks))), hold))


def test_no_pilot_takes_tasks_on_hold(kit: Kit) -> None:
    kit.submit(*map(row, range(4)))
    pilot = kit.pilot()
    (first,) = kit.claim(pilot, 1)
    assert hold(kit, 1, 2, 3) == Changed(2, 1)
    assert hold(kit, 1, 2, 3) == Changed(2, 1)  # the first answer, again
    assert hold(kit, 2, key="again") == Changed(0)
    task = kit.task(2)
    assert (task.on_hold, task.not_before, task.state) == (True, None, TaskState.READY)
    assert why(kit, 2) == ["it is on hold: no pilot takes it until it is released", "$ pilotmtc release --task 2"]
    assert ids(kit.claim(pilot)) == [4]
    kit.start(pilot, first)
    for word, found in (("yes", [2, 3]), ("no", [1, 4])):
        assert [task.id for task in kit.store.call(GetTasks(parse_filter(f"hold:{word}"))).tasks] == found
    assert kit.store.call(GetOverview()).held == {1: 2}
    assert hold(kit, 2, 4, hold=False) == Changed(1, 1)
    assert not kit.task(2).on_hold
    assert ids(kit.claim(pilot)) == [2]


def test_task_on_hold_stays_so_when_what_it_needs_has_ended(kit: Kit) -> None:
    kit.submit(row(1), row(2, after=[After(TaskId(1))]), row(3, after=[After(TaskId(1))]))
    pilot = kit.pilot()
    hold(kit, 2)
    assert run(kit, pilot) == [1]
    assert (kit.state(2), kit.task(2).on_hold) == (TaskState.READY, True)
    assert run(kit, pilot) == [3]
    assert hold(kit, 2, hold=False) == Changed(1)
    assert run(kit, pilot) == [2]


def test_task_on_hold_is_canceled_skipped_and_waits_again_like_others(kit: Kit) -> None:
    kit.submit(row(1), row(2, after=[After(TaskId(1))]), row(3))
    pilot = kit.pilot()
    hold(kit, 2, 3)
    kit.cancel(3)
    assert (kit.state(3), kit.task(3).on_hold) == (TaskState.CANCELED, False)
    run(kit, pilot, code=1)
    assert (kit.state(2), kit.task(2).on_hold) == (TaskState.SKIPPED, False)


def test_pilot_on_hold_takes_nothing_more_and_ends_what_it_has(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    (first,) = kit.claim(pilot, 1)
    assert kit.store.call(HoldPilot(pilot)) == Changed(1)
    assert kit.store.call(HoldPilot(pilot)) == Changed(0)
    (found,) = kit.store.call(GetPilots(pilot)).pilots
    assert (found.on_hold, found.state) == (True, PilotState.ACTIVE)
    assert kit.claim(pilot) == ()
    assert f"pilot {pilot}: is on hold: it takes nothing new until it is released" in why(kit, 2)
    kit.start(pilot, first)
    kit.finish(pilot, first)
    assert kit.state(1) is TaskState.DONE
    assert kit.store.call(HoldPilot(pilot, hold=False)) == Changed(1)
    assert run(kit, pilot) == [2]
