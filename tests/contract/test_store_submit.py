"""Submit: each row once, dependencies tied."""

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.model import After, CampaignId, Resources, TaskId, TaskRow, Template
from pilotmtc.protocol.client.campaigns import GetCampaigns, ReopenCampaign, Submit, Submitted
from pilotmtc.protocol.client.tasks import GetTasks
from pilotmtc.protocol.records import Filter
from pilotmtc.states import TaskState
from tests.contract.storekit import ECHO, Kit, row

S = TaskState


def test_tasks_come_back_as_they_were_submitted(kit: Kit) -> None:
    template = Template(("sim", "{mass}"), fields=("mass", "seed"), env={"A": "1"}, max_retries=2)
    need = Resources(cores=2, gpus=0.5, named={"licence": 1.0}, time_limit_s=60.0)
    rows = (TaskRow(0, 0, ("1.5", "7"), 3, "first", ("a", "b")),)
    campaign = kit.submit(*rows, template=template, resources=[need]).campaign
    (task,) = kit.store.call(GetTasks(Filter(campaign=campaign))).tasks
    assert (task.params, task.command, task.resources) == ({"mass": "1.5", "seed": "7"}, ("sim", "{mass}"), need)
    assert (task.name, task.tags, task.priority, task.max_retries) == ("first", ("a", "b"), 3, 2)
    assert (task.state, task.attempt, task.last) == (S.READY, 0, None)


def test_a_repeated_chunk_adds_nothing(kit: Kit) -> None:
    first = kit.submit(row(1), row(2), key="k", last=False)
    assert kit.submit(row(1), row(2), key="k", last=False) == first
    assert first.received == 2
    assert kit.counts(first.campaign) == {S.READY: 2}


def test_an_overlapping_chunk_adds_only_what_is_new(kit: Kit) -> None:
    kit.submit(row(1), row(2), key="k", last=False)
    done = kit.submit(row(2), row(3), key="k", offset=1)
    assert (done.received, done.sealed) == (3, True)
    tasks = kit.store.call(GetTasks(Filter(campaign=done.campaign))).tasks
    assert [task.params["x"] for task in tasks] == ["1", "2", "3"]
    assert kit.submit(row(2), row(3), key="k", offset=1) == done


def test_a_gap_is_refused(kit: Kit) -> None:
    kit.submit(row(1), key="k", last=False)
    with pytest.raises(UsageError, match="send from 1"):
        kit.submit(row(3), key="k", offset=2)


def test_a_complete_campaign_takes_no_more(kit: Kit) -> None:
    kit.submit(row(1), key="k")
    with pytest.raises(UsageError, match="complete"):
        kit.submit(row(2), key="k", offset=1)


def test_an_empty_last_chunk_seals(kit: Kit) -> None:
    kit.submit(row(1), key="k", last=False)
    assert kit.submit(key="k", offset=1).sealed
    assert kit.store.call(GetCampaigns(key="k")).campaigns[0].sealed


def test_a_refused_chunk_leaves_nothing(kit: Kit) -> None:
    with pytest.raises(UsageError, match="'nobody'"):
        kit.submit(row(1), row(2, after=[After("nobody")]), key="k")
    assert kit.store.call(GetCampaigns(key="k")).campaigns == ()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (TaskRow(1, 0, ("1",)), "template 1"),
        (TaskRow(-1, 0, ("1",)), "template -1"),
        (TaskRow(0, 9, ("1",)), "resources 9"),
        (TaskRow(0, 0, ()), "0 values for the 1 fields"),
        (TaskRow(0, 0, ("1",), 1 << 63), "cannot be stored"),
        (TaskRow(0, 0, ("1",), after=(After(99),)), "no task 99"),
    ],
)
def test_rows_that_make_no_sense_are_refused_with_words(kit: Kit, bad: TaskRow, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        kit.submit(bad)


def test_dependencies_by_name_wait_for_all_of_that_name(kit: Kit) -> None:
    kit.submit(row(1, name="sim"), key="k", last=False)
    kit.submit(row(2, name="sim"), row(3, after=[After("sim")]), key="k", offset=1)
    assert (kit.state(3), kit.task(3).unmet) == (S.WAITING, 2)
    pilot = kit.pilot()
    one, two = kit.claim(pilot)
    kit.finish(pilot, one)
    assert (kit.state(3), kit.task(3).unmet) == (S.WAITING, 1)
    kit.finish(pilot, two)
    assert kit.state(3) is S.READY


def test_names_do_not_reach_into_other_campaigns(kit: Kit) -> None:
    kit.submit(row(1, name="sim"))
    with pytest.raises(UsageError, match="'sim'"):
        kit.submit(row(2, after=[After("sim")]))


def test_dependencies_by_id_reach_into_other_campaigns(kit: Kit) -> None:
    kit.submit(row(1))
    kit.submit(row(2, after=[After(TaskId(1))]))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    assert kit.state(2) is S.READY


def test_a_dependency_on_a_failed_task_skips_at_once(kit: Kit) -> None:
    kit.submit(row(1))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=1)
    kit.submit(row(2, name="b", after=[After(TaskId(1))]), row(3, after=[After("b")]), row(4, after=[After(1, False)]))
    assert [kit.state(n) for n in (2, 3, 4)] == [S.SKIPPED, S.SKIPPED, S.READY]


def test_the_same_template_is_kept_once(kit: Kit) -> None:
    request = Submit("k", 0, "c", (ECHO, ECHO), (Resources(), Resources()), (row(1), TaskRow(1, 1, ("2",))), True)
    kit.store.call(request)
    batch = kit.claim_batch(kit.pilot())
    assert (list(batch.templates.values()), list(batch.resources.values())) == ([ECHO], [Resources()])


def test_reopened_campaign_takes_more_under_its_new_key_only(kit: Kit) -> None:
    campaign = kit.submit(row(1), row(2), key="old").campaign
    for _ in range(2):  # safe to repeat
        assert kit.store.call(ReopenCampaign(campaign, "new")) == Submitted(campaign, 2)
    assert not kit.store.call(GetCampaigns(campaign)).campaigns[0].sealed
    more = kit.submit(row(3), key="new", offset=2)
    assert (more.campaign, more.received, more.sealed) == (campaign, 3, True)
    with pytest.raises(UsageError, match="another program goes on with it"):
        kit.submit(row(4), key="old", offset=2)
    assert [found.id for found in kit.store.call(GetCampaigns()).campaigns] == [campaign]


def test_campaign_to_which_another_program_adds_is_not_taken_from_it(kit: Kit) -> None:
    campaign = kit.submit(row(1), row(2), key="old").campaign
    for _ in range(2):  # safe to repeat
        assert kit.store.call(ReopenCampaign(campaign, "new", complete_with=2)).received == 2
    with pytest.raises(UsageError, match="another program is adding to campaign 1"):
        kit.store.call(ReopenCampaign(campaign, "other", complete_with=2))
    assert kit.submit(row(3), key="new", offset=2).received == 3
    with pytest.raises(UsageError, match="another program has added to campaign 1, which has 3 tasks by now"):
        kit.store.call(ReopenCampaign(campaign, "other", complete_with=2))
    assert kit.store.call(ReopenCampaign(campaign, "other")) == Submitted(campaign, 3)


def test_campaign_that_is_not_there_cannot_be_reopened(kit: Kit) -> None:
    with pytest.raises(UsageError, match="there is no campaign 9 "):
        kit.store.call(ReopenCampaign(CampaignId(9), "new"))
    campaign = kit.submit(row(1)).campaign
    with pytest.raises(UsageError, match="needs a key"):
        kit.store.call(ReopenCampaign(campaign, ""))
