"""Campaigns by name: finding, selecting and renaming them."""

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Template
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.client.campaigns import GetCampaigns, HoldCampaign, RenameCampaign, SetHalt
from pilotmtc.protocol.client.tasks import GetTasks
from pilotmtc.protocol.records import Filter
from tests.contract.storekit import Kit, row


def four(kit: Kit) -> None:
    """Campaigns 1 to 4, with one task each."""
    for number, name in enumerate(("scan", "night-1", "night-2", ""), 1):
        kit.submit(row(number), key=name or "none", name=name)


def named(kit: Kit, name: str) -> list[int]:
    return [one.id for one in kit.store.call(GetCampaigns(name=name)).campaigns]


def tasks(kit: Kit, campaign: str | tuple[CampaignId | str, ...]) -> list[int]:
    return [task.id for task in kit.store.call(GetTasks(Filter(campaign=campaign))).tasks]


def test_names_and_wildcards_find_campaigns_and_their_tasks(kit: Kit) -> None:
    four(kit)
    assert named(kit, "scan") == [1]
    assert named(kit, "night-*") == [3, 2]
    assert named(kit, "*") == [4, 3, 2, 1]
    assert tasks(kit, "scan") == [1]
    assert tasks(kit, "night-?") == [2, 3]
    assert tasks(kit, ("scan", CampaignId(1), "night-2", CampaignId(4))) == [1, 3, 4]


def test_name_that_nothing_has_is_an_error_that_says_what_there_is(kit: Kit) -> None:
    with pytest.raises(UsageError, match="none has a name"):
        named(kit, "scan")
    four(kit)
    for wrong in ("scam", "day-*", "scan[1]"):
        with pytest.raises(UsageError, match="there are night-2, night-1, scan"):
            tasks(kit, wrong)


def test_name_that_several_have_is_an_error_that_lists_them(kit: Kit) -> None:
    four(kit)
    kit.store.call(RenameCampaign(CampaignId(2), "scan"))
    with pytest.raises(UsageError, match=r"2 campaigns are called 'scan': give a number \(2, 1\)"):
        tasks(kit, "scan")
    assert named(kit, "sca*") == [2, 1]


@pytest.mark.parametrize("name", ["night-*", "scan?"])
def test_name_with_a_wildcard_in_it_is_refused(kit: Kit, name: str) -> None:
    four(kit)
    with pytest.raises(UsageError, match=r"\* and \? would mean other campaigns, too"):
        kit.store.call(RenameCampaign(CampaignId(4), name))
    with pytest.raises(UsageError, match=r"\* and \? would mean other campaigns, too"):
        kit.submit(row(5), key="five", name=name)


def test_campaigns_are_renamed(kit: Kit) -> None:
    four(kit)
    assert kit.store.call(RenameCampaign(CampaignId(1), "old")) == Done()
    assert named(kit, "old") == [1]
    with pytest.raises(UsageError, match="there is no campaign 9"):
        kit.store.call(RenameCampaign(CampaignId(9), "x"))
    with pytest.raises(UsageError, match="cannot be called '17'"):
        kit.store.call(RenameCampaign(CampaignId(1), "17"))
    with pytest.raises(UsageError, match="cannot be called '17'"):
        kit.submit(row(5), key="five", name="17")


def test_campaigns_know_the_command_of_their_first_task(kit: Kit) -> None:
    kit.submit(row("a"), key="a", template=Template(("echo", "{x}"), fields=("x",)))
    (found,) = kit.store.call(GetCampaigns()).campaigns
    assert found.command == ("echo", "{x}")


def test_no_pilot_takes_tasks_of_a_campaign_on_hold(kit: Kit) -> None:
    four(kit)
    kit.submit(row(5), key="own", own=True)
    mine, own = CampaignId(1), CampaignId(5)
    for campaign in (mine, own):
        assert kit.store.call(HoldCampaign(campaign)) == Changed(1)
        assert kit.store.call(HoldCampaign(campaign)) == Changed(0)
    pilot, its = kit.pilot(), kit.pilot(own)
    assert [one.task for one in kit.claim(pilot)] == [2, 3, 4]
    assert kit.claim(its) == ()
    found = {one.id: one.on_hold for one in kit.store.call(GetCampaigns()).campaigns}
    assert found == {1: True, 2: False, 3: False, 4: False, 5: True}
    for campaign in (mine, own):
        assert kit.store.call(HoldCampaign(campaign, hold=False)) == Changed(1)
    assert [one.task for one in kit.claim(pilot)] == [1]
    assert [one.task for one in kit.claim(its)] == [5]
    with pytest.raises(UsageError, match="there is no campaign 9"):
        kit.store.call(HoldCampaign(CampaignId(9)))


def test_campaign_halts_after_so_many_failures(kit: Kit) -> None:
    kit.submit(*[row(n) for n in range(10)], key="a")
    kit.submit(*[row(n) for n in range(10)], key="b")
    one, other = CampaignId(1), CampaignId(2)
    kit.store.call(SetHalt(one, failed=3))
    kit.store.call(SetHalt(other, share=0.2))
    pilot = kit.pilot()
    held = {int(task.task): task for task in kit.claim(pilot, 12)}  # 1 to 10, 11 and 12
    kit.finish(pilot, held[1], held[2], held[11], code=1)
    assert not any(campaign.on_hold for campaign in kit.store.call(GetCampaigns()).campaigns)
    kit.finish(pilot, held[3], held[12], code=1)
    assert all(campaign.halted for campaign in kit.store.call(GetCampaigns()).campaigns)
    assert kit.claim(pilot) == ()
    kit.finish(pilot, *[held[id_] for id_ in range(4, 11)])
    kit.store.call(HoldCampaign(other, hold=False))
    assert [task.task for task in kit.claim(pilot, 1)] == [13]
    found = {campaign.id: (campaign.on_hold, campaign.halted) for campaign in kit.store.call(GetCampaigns()).campaigns}
    assert found == {1: (True, True), 2: (False, False)}


def test_halt_counts_what_has_failed_before(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot, 1), code=1)
    kit.store.call(SetHalt(CampaignId(1), failed=1))
    assert kit.claim(pilot) == ()
    with pytest.raises(UsageError, match="cannot halt"):
        kit.store.call(SetHalt(CampaignId(1), share=2.0))
