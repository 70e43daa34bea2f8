"""Attempts of whole campaigns, in columns."""

import pytest
from msgspec.structs import replace

from pilotmtc.model import After, CampaignId, PilotId, Resources, Template
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.client.history import COLUMNS, GetHistory, GetLinks, GetWorkload, History, Links
from pilotmtc.report.measure.columns import Attempts, unpacked
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.requests.look import history
from tests.contract.storekit import ECHO, Kit, result, row


def read(kit: Kit, *campaigns: int, pilots: tuple[PilotId, ...] = ()) -> tuple[Attempts, int]:
    """Return all attempts, and how many pages they came in."""
    found, after, pages = Attempts(), 0, 0
    while True:
        page = kit.store.call(GetHistory(tuple(map(CampaignId, campaigns)), pilots, after))
        found.add(page)
        pages += 1
        if not page.next:
            return found, pages
        after = page.next


def test_attempts_come_in_columns(kit: Kit) -> None:
    needs = (Resources(), Resources(cores=2, memory_bytes=5))
    first = kit.submit(replace(row(1, name="a"), tags=("x", "y")), row(2, res=1), row(3), resources=needs)
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    kit.finish(pilot, tasks[0], code=3)
    long = replace(result(tasks[1]), node="n[1-2]", slot="0;1", elapsed_s=9.5, cpu_s=4.0, memory_bytes=7)
    kit.store.call(Finish(pilot, (long,)))
    found, _ = read(kit, first.campaign)
    assert [*zip(found.task, found.attempt, found.newest, strict=True)] == [(1, 1, 1), (2, 1, 1)]
    assert [*found.state] == [TaskState.FAILED, TaskState.DONE]
    assert [*zip(found.cause, found.code, strict=True)] == [(Cause.EXIT, 3), (Cause.EXIT, 0)]
    assert [found.succeeded(at) for at in range(2)] == [False, True]
    assert [found.texts[at] for at in (*found.name, *found.tags)] == ["a", "", '["x","y"]', ""]
    assert [(found.node_name(at), found.texts[found.slot[at]], found.cores(at)) for at in range(2)] == [
        ("n1", "0", 1), ("n[1-2]", "0;1", 2),
    ]  # fmt: skip
    assert [found.resources[at] for at in found.resources_id] == [*needs]
    assert {found.commands[at] for at in found.template} == {"echo {x}"}
    assert (found.started_at[1], found.elapsed_s[1], found.cpu_s[1], found.memory_bytes[1]) == (5.0, 9.5, 4.0, 7)
    assert found.recorded_at[1] > 0
    assert [*found.pilot] == [pilot, pilot]


def test_attempts_of_others_on_the_same_pilots_are_asked_for(kit: Kit) -> None:
    mine, others = kit.submit(row(1), row(2)), kit.submit(row(3), row(4), row(5))
    shared, other = kit.pilot(), kit.pilot()
    kit.finish(shared, *kit.claim(shared, 3))
    kit.finish(other, *kit.claim(other))
    assert [*read(kit, mine.campaign)[0].task] == [1, 2]
    assert [*read(kit, mine.campaign, pilots=(shared,))[0].task] == [3]
    assert [*read(kit, mine.campaign, others.campaign)[0].task] == [1, 2, 3, 4, 5]
    assert len(read(kit, 99)[0]) == 0


def test_retried_task_has_all_attempts(kit: Kit) -> None:
    campaign = kit.submit(row(1)).campaign
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=1)
    kit.retry(1)
    kit.finish(pilot, *kit.claim(pilot))
    found, _ = read(kit, campaign)
    assert [*zip(found.attempt, found.newest, strict=True)] == [(1, 0), (2, 1)]


def test_pages_go_on_where_the_last_one_ended(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_WINDOW", 3)
    monkeypatch.setattr(history, "_MOST_ROWS", 4)
    campaign = kit.submit(*map(row, range(20))).campaign
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    found, _ = read(kit, campaign)
    assert [*found.task] == list(range(1, 21))


def test_page_has_all_columns_also_without_rows(kit: Kit) -> None:
    page = kit.store.call(GetHistory((CampaignId(1),)))
    assert (len(page.columns), page.texts, page.next) == (len(COLUMNS), ("",), 0)
    assert isinstance(page, History)


def test_workload_says_what_tasks_are_and_how_they_stand(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_WINDOW", 2)
    monkeypatch.setattr(history, "_MOST_ROWS", 2)
    kit.submit(row(0))
    needs = (Resources(), Resources(cores=2))
    template = replace(ECHO, max_retries=3, backoff_s=2.0, env={"A": "long"})
    found = kit.submit(row(1, priority=5), *[row(n, res=1) for n in range(6)], template=template, resources=needs)
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot, 1), code=1)
    tasks, after = {}, 0
    while True:
        page = kit.store.call(GetWorkload(found.campaign, after))
        for task, kind in zip(unpacked("q", page.tasks), unpacked("i", page.kind), strict=True):
            tasks[task] = page.kinds[kind]
        if page.tasks:
            (about,) = page.templates.values()
            assert about == Template(("echo {x}",), max_retries=3, backoff_s=2.0)
        if not page.next:
            break
        after = page.next
    assert [*tasks] == [*range(2, 9)]
    assert [(kind.state, kind.priority, kind.failures) for kind in tasks.values()] == [
        (TaskState.READY, 5, 1), *[(TaskState.READY, 0, 0)] * 6,
    ]  # fmt: skip
    assert len({kind.resources for kind in tasks.values()}) == 2


def test_links_say_which_tasks_wait_for_which(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_ROWS", 2)
    empty = kit.submit(row(0))
    assert kit.store.call(GetLinks(empty.campaign)) == Links()
    rows = [row(name="a"), row(name="a"), row(after=[After("a")]), row(after=[After("a", False), After(1)])]
    campaign = kit.submit(*rows).campaign
    found: list[tuple[int, int, int]] = []
    after, pages = (0, 0), 0
    while True:
        page = kit.store.call(GetLinks(campaign, after))
        tasks, needs = unpacked("q", page.tasks), unpacked("q", page.needs)
        found += zip(tasks, needs, unpacked("b", page.well), strict=True)
        pages += 1
        if not page.more:
            break
        after = (tasks[-1], needs[-1])
    assert found == [(4, 2, 1), (4, 3, 1), (5, 1, 1), (5, 2, 0), (5, 3, 0)]
    assert pages in (3, 1)  # a server of its own has its own size of pages
    assert kit.store.call(GetLinks(empty.campaign)) == Links()
