"""Deleting campaigns: all of it goes, nothing else does, and numbers are not used again."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.clock import FakeClock
from pilotmtc.errors import UsageError
from pilotmtc.model import After, CampaignId, TaskId
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import DeleteCampaign, GetCampaigns, ReopenCampaign
from pilotmtc.protocol.client.tasks import Cancel, GetOutput, GetTask, GetTasks
from pilotmtc.protocol.client.watch import GetOverview
from pilotmtc.protocol.records import Filter
from pilotmtc.store.file.check import problems
from pilotmtc.store.requests.steer import delete
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, result, row


@pytest.fixture(autouse=True)
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete all in one slice, and with one of the stores two tasks at a time."""
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("store") == "exclusive":
        monkeypatch.setattr(delete, "SLICE", 2)
        monkeypatch.setattr(delete, "_WINDOW", 3)


def remove(kit: Kit, campaign: int, *, key: str = "d", keep: bool = False) -> Changed:
    return kit.store.call(DeleteCampaign(key, CampaignId(campaign), keep_results=keep))


def two(kit: Kit) -> None:
    """Campaigns 1 and 2, of which the tasks alternate and have all run: 1, 3, 5, 7 and 2, 4, 6, 8."""
    for number in range(4):
        for key in ("a", "b"):
            kit.submit(row(number, name=f"t{number}"), key=key, offset=number, last=number == 3)
    pilot = kit.pilot()
    kit.store.call(Finish(pilot, tuple([result(one, out=b"out %d" % one.task) for one in kit.claim(pilot)])))


def ids(kit: Kit) -> list[int]:
    return [task.id for task in kit.store.call(GetTasks(Filter())).tasks]


def test_campaign_is_deleted_and_the_other_stays(kit: Kit) -> None:
    two(kit)
    before = kit.store.call(GetOverview())
    assert remove(kit, 1) == Changed(4)
    assert ids(kit) == [2, 4, 6, 8]
    assert [one.id for one in kit.store.call(GetCampaigns()).campaigns] == [2]
    assert not kit.store.call(GetOutput(TaskId(3))).found
    assert kit.store.call(GetOutput(TaskId(4))).stdout == b"out 4"
    assert kit.store.call(GetTask(TaskId(3))).task is None
    after = kit.store.call(GetOverview(before.seq))
    assert after.whole  # whoever has the campaign must forget it
    assert [one.id for one in after.campaigns] == [2]
    assert remove(kit, 1) == Changed(4)  # the same request once more
    with pytest.raises(UsageError, match="there is no campaign 1"):
        remove(kit, 1, key="another")
    with pytest.raises(UsageError, match="there is no campaign 1"):
        kit.store.call(GetTasks(Filter(campaign=CampaignId(1))))
    with pytest.raises(UsageError, match="there is no campaign 1"):
        kit.store.call(ReopenCampaign(CampaignId(1), "k"))
    with pytest.raises(UsageError, match="it was removed"):
        kit.submit(row(9), key="a", offset=4)


def test_unfinished_campaign_is_not_deleted(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    kit.cancel(1)
    with pytest.raises(UsageError, match="1 task has not finished in campaign 1: cancel them first"):
        remove(kit, 1)
    assert ids(kit) == [1, 2]
    kit.cancel(2)
    assert remove(kit, 1, key="again") == Changed(2)


def test_half_submitted_campaign_is_deleted(kit: Kit) -> None:
    kit.submit(row(1), key="a", last=False)
    kit.cancel(1)
    assert remove(kit, 1) == Changed(1)
    with pytest.raises(UsageError, match="it was removed"):
        kit.submit(row(2), key="a", offset=1)


def test_numbers_are_not_used_again_and_late_results_are_of_nobody(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path, clock)
    kit = Kit(store)
    kit.submit(row(1))
    pilot = kit.pilot()
    (held,) = kit.claim(pilot)
    clock.advance(10_000)
    store.due()  # the pilot is given up
    kit.cancel(1)
    assert remove(kit, 1) == Changed(1)
    store.close()
    store = SqliteStore(path, clock)
    kit = Kit(store)
    assert kit.submit(row(2)).campaign == 2
    assert ids(kit) == [2]
    kit.attach(pilot, held)
    assert kit.finish(pilot, held).stale == 1
    assert not kit.store.call(GetOutput(TaskId(1))).found
    store.close()


def test_dependents_go_with_what_they_needed(kit: Kit) -> None:
    kit.submit(row(1, name="a"), row(2, after=[After("a")]))
    pilot = kit.pilot()
    for _ in range(2):
        kit.finish(pilot, *kit.claim(pilot))
    assert remove(kit, 1) == Changed(2)
    assert ids(kit) == []


def test_results_are_kept_without_what_was_written(kit: Kit) -> None:
    two(kit)
    assert remove(kit, 1, keep=True) == Changed(4)
    assert ids(kit) == [1, 2, 3, 4, 5, 6, 7, 8]
    found = kit.store.call(GetOutput(TaskId(3)))
    assert (found.stdout, found.stdout_bytes) == (b"", 5)
    assert kit.store.call(GetOutput(TaskId(4))).stdout == b"out 4"
    last = kit.task(3).last
    assert last is not None
    assert last.exit_code == 0
    assert remove(kit, 1, key="all") == Changed(4)


def test_files_of_large_outputs_go_and_files_of_the_user_stay(kit: Kit, tmp_path: Path) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    (held,) = kit.claim(pilot)
    ours = Path(f"{tmp_path}/store.db.d/pilots/1/outputs/1.1.stdout")
    ours.parent.mkdir(parents=True)
    theirs = tmp_path / "mine"
    for file in (ours, theirs):
        file.write_text("x" * 100)
    end = replace(result(held), stdout_path=str(ours), stdout_bytes=100, stderr_path=str(theirs), stderr_bytes=100)
    kit.store.call(Finish(pilot, (end,)))
    assert remove(kit, 1) == Changed(1)
    assert not ours.exists()
    assert theirs.exists()


def test_nobody_adds_to_a_campaign_that_is_being_deleted(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "SLICE", 2)
    path = tmp_path / "store.db"
    store = SqliteStore(path, clock)
    kit = Kit(store)
    two(kit)
    store.call_many([DeleteCampaign("d", CampaignId(1))])
    assert store.pending_changes == 1
    store.close()  # the next server goes on with it
    store = SqliteStore(path, clock)
    with pytest.raises(UsageError, match="campaign 1 is being deleted"):
        store.call(ReopenCampaign(CampaignId(1), "k"))
    while store.pending_changes:
        store.due()
    assert ids(Kit(store)) == [2, 4, 6, 8]
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert not list(problems(connection, str(path)))


def test_tasks_that_came_while_the_deletion_waited_go_too(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path, clock)
    kit = Kit(store)
    kit.submit(*[row(n) for n in range(2_001)], key="a")  # too many to be canceled in one slice
    kit.submit(row(1), key="b", last=False)
    pilot = kit.pilot(CampaignId(2))
    kit.finish(pilot, *kit.claim(pilot))
    store.call_many([Cancel("c", Filter(campaign=CampaignId(1))), DeleteCampaign("d", CampaignId(2))])
    assert store.pending_changes == 2
    kit.submit(row(2), key="b", offset=1)
    kit.finish(pilot, *kit.claim(pilot))
    while store.pending_changes:
        store.due()
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert not list(problems(connection, str(path)))
        assert connection.execute("SELECT count(*) FROM task WHERE campaign_id = 2").fetchone() == (0,)
