"""What growth teaches: after some successes with more, later tasks begin with it."""

import msgspec
import pytest

from pilotmtc.model import Campaign, CampaignId, PilotId, Resources, Template
from pilotmtc.protocol.client.campaigns import GetCampaigns, ReopenCampaign
from pilotmtc.states import Cause
from pilotmtc.store.requests import growth
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, row

GROWS = msgspec.structs.replace(ECHO, max_retries=5, retry_memory=2.0, retry_time=1.5)
FIRST = Resources(memory_bytes=1 << 30, time_limit_s=60.0)
A = CampaignId(1)


def submit(kit: Kit, tasks: int, template: Template = GROWS) -> PilotId:
    kit.submit(*map(row, range(tasks)), template=template, resources=(FIRST,), key="a")
    return kit.pilot()


def end(kit: Kit, pilot: PilotId, tasks: int, cause: Cause = Cause.EXIT) -> list[int]:
    """End the next tasks so; return the memory that they had."""
    found = kit.claim_batch(pilot, tasks)
    kit.start(pilot, *found.tasks)
    kit.finish(pilot, *found.tasks, cause=cause)
    return [found.resources[task.resources].memory_bytes >> 30 for task in found.tasks]


def look(kit: Kit) -> Campaign:
    (found,) = kit.store.call(GetCampaigns(A)).campaigns
    return found


def test_later_tasks_begin_with_what_was_enough_for_several(kit: Kit) -> None:
    pilot = submit(kit, 10)
    assert end(kit, pilot, 3, Cause.OOM) == [1, 1, 1]
    assert end(kit, pilot, 2) == [2, 2]
    assert look(kit).learned == ()  # two may be chance
    assert end(kit, pilot, 1) == [2]
    (learned,) = look(kit).learned
    assert (learned.before, learned.tasks) == (FIRST, growth.ENOUGH)
    assert learned.after == msgspec.structs.replace(FIRST, memory_bytes=2 << 30)
    assert end(kit, pilot, 2) == [2, 2]
    assert look(kit).learned[0].tasks == growth.ENOUGH  # these two have lacked nothing
    kit.store.call(ReopenCampaign(A, "b", complete_with=10))
    kit.submit(row(11), template=GROWS, resources=(FIRST,), key="b", offset=10)
    assert end(kit, pilot, 9) == [2] * 6


def test_growth_of_a_few_among_many_teaches_nothing(kit: Kit) -> None:
    pilot = submit(kit, 20)
    first, *others = kit.claim(pilot, 8)
    kit.start(pilot, first, *others)
    kit.finish(pilot, first, *others[:2], cause=Cause.OOM)
    kit.finish(pilot, *others[2:])  # as many as will be DONE with more, and more
    assert end(kit, pilot, 3) == [2, 2, 2]
    assert look(kit).learned == ()
    assert kit.task(20).resources == FIRST


def test_what_was_learned_twice_is_begun_with_at_once(kit: Kit) -> None:
    pilot = submit(kit, 8)
    end(kit, pilot, 3, Cause.OOM)
    assert end(kit, pilot, 3, Cause.OOM) == [2, 2, 2]
    assert end(kit, pilot, 3) == [4, 4, 4]
    assert [one.after.memory_bytes >> 30 for one in look(kit).learned] == [2, 4]
    assert end(kit, pilot, 9) == [4] * 5


def test_time_that_was_enough_is_learned_like_memory(kit: Kit) -> None:
    pilot = submit(kit, 4)
    end(kit, pilot, 3, Cause.TIMEOUT)
    end(kit, pilot, 3)
    (learned,) = look(kit).learned
    assert (learned.before.time_limit_s, learned.after.time_limit_s) == (60.0, 90.0)
    assert kit.task(4).resources.time_limit_s == 90.0


def test_nothing_is_learned_without_growth(kit: Kit) -> None:
    pilot = submit(kit, 8, msgspec.structs.replace(ECHO, max_retries=5))
    end(kit, pilot, 3, Cause.OOM)
    end(kit, pilot, 3)
    assert look(kit).learned == ()
    assert kit.task(8).resources == FIRST


def test_many_tasks_are_given_more_slice_by_slice(local: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_WINDOW", 4)
    kit = Kit(local)
    pilot = submit(kit, 11)
    end(kit, pilot, 3, Cause.OOM)
    end(kit, pilot, 3)
    assert [kit.task(id_).resources.memory_bytes >> 30 for id_ in (4, 5, 11)] == [2, 1, 1]
    assert local.nap() == 0
    local.due()
    local.due()
    assert [kit.task(id_).resources.memory_bytes >> 30 for id_ in (5, 11)] == [2, 2]
    assert local.nap() > 0
