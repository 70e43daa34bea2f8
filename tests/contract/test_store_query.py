"""Filters, pages, changes, and the store about itself."""

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Resources, TaskId, TaskRow
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.client.tasks import GetTask, GetTasks
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.file.opening import SCHEMA
from tests.contract.storekit import ECHO, Kit, result, row

S = TaskState


@pytest.fixture
def filled(kit: Kit) -> Kit:
    """1 done, 2 failed with code 3, 3 failed by signal, 4 running, 5 claimed, 6 ready; 7 in another campaign."""
    rows = tuple(TaskRow(0, 0, (str(n),), 0, f"t[{n}]", ("even",) if n % 2 == 0 else ("odd", "x")) for n in range(1, 7))
    kit.store.call(Submit("k", 0, "c", (ECHO,), (Resources(),), rows, True))
    kit.submit(row(7))
    pilot = kit.pilot()
    one, two, three, four, _ = kit.claim(pilot, 5)
    kit.store.call(Finish(pilot, (result(one), result(two, code=3), result(three, cause=Cause.SIGNAL))))
    kit.start(pilot, four)
    return kit


@pytest.mark.parametrize(
    ("wish", "ids"),
    [
        (Filter(), [1, 2, 3, 4, 5, 6, 7]),
        (Filter(ids=()), []),
        (Filter(ids=(TaskId(2), TaskId(99), TaskId(1))), [1, 2]),
        (Filter(campaign=CampaignId(1)), [1, 2, 3, 4, 5, 6]),
        (Filter(campaign=CampaignId(2)), [7]),
        (Filter(states=()), []),
        (Filter(states=(S.FAILED,)), [2, 3]),
        (Filter(states=(S.RUNNING,)), [4]),
        (Filter(states=(S.RUNNING, S.CLAIMED)), [4, 5]),
        (Filter(states=(S.READY, S.DONE)), [1, 6, 7]),
        (Filter(names=("t[2]",)), [2]),
        (Filter(names=("t[*",)), [1, 2, 3, 4, 5, 6]),
        (Filter(names=("t[?]", "other")), [1, 2, 3, 4, 5, 6]),
        (Filter(names=()), []),
        (Filter(tags=("odd", "x")), [1, 3, 5]),
        (Filter(tags=("even",), states=(S.FAILED,)), [2]),
        (Filter(exit_codes=(3, 0)), [1, 2]),
        (Filter(causes=(Cause.SIGNAL,)), [3]),
    ],
)
def test_filters_find_exactly_what_they_say(filled: Kit, wish: Filter, ids: list[int]) -> None:
    assert [task.id for task in filled.store.call(GetTasks(wish)).tasks] == ids
    newest = filled.store.call(GetTasks(wish, newest=True)).tasks
    assert [task.id for task in newest] == ids[::-1]


@pytest.mark.parametrize("newest", [False, True])
def test_pages_follow_each_other_without_gap_or_overlap(filled: Kit, newest: bool) -> None:
    seen: list[int] = []
    after = 0
    while True:
        page = filled.store.call(GetTasks(after=after, limit=3, newest=newest))
        seen += [task.id for task in page.tasks]
        if not (after := page.next):
            break
    assert seen == sorted(range(1, 8), reverse=newest)


def test_an_unknown_campaign_is_said_to_be_unknown(kit: Kit) -> None:
    with pytest.raises(UsageError, match="no campaign 5"):
        kit.store.call(GetTasks(Filter(campaign=CampaignId(5))))
    assert kit.store.call(GetCampaigns(CampaignId(5))).campaigns == ()
    assert kit.store.call(GetTask(TaskId(5))).task is None


def test_watchers_see_every_transition_in_order(kit: Kit) -> None:
    start = kit.store.call(GetChanges())
    assert start.reset
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    (one,) = kit.claim(pilot, 1)
    kit.finish(pilot, one)
    changes = kit.store.call(GetChanges(start.seq))
    assert changes.changes == ((1, S.READY, 0), (2, S.READY, 0), (1, S.CLAIMED, 1), (1, S.DONE, 1))
    assert kit.store.call(GetChanges(changes.seq)).changes == ()
    first = kit.store.call(GetChanges(start.seq, limit=3))
    assert first.changes + kit.store.call(GetChanges(first.seq)).changes == changes.changes


def test_watchers_of_a_campaign_see_no_other(kit: Kit) -> None:
    start = kit.store.call(GetChanges())
    kit.submit(row(1))
    mine = kit.submit(row(2)).campaign
    assert kit.store.call(GetChanges(start.seq, mine)).changes == ((2, S.READY, 0),)


def test_a_watcher_from_another_time_is_told_to_look_anew(kit: Kit) -> None:
    seq = kit.store.call(GetChanges()).seq
    for since in (1, seq - 1, seq + 1):
        assert kit.store.call(GetChanges(since)).reset


def test_counts_are_told_without_looking(filled: Kit) -> None:
    info = filled.store.call(GetStore())
    assert info.tasks == {S.READY: 2, S.CLAIMED: 1, S.RUNNING: 1, S.DONE: 1, S.FAILED: 2}
    assert (info.mode, info.schema) == ("local", SCHEMA)
    assert info.size_bytes > 0
