"""More tasks for a campaign, with its own command: points that a study has missed."""

import itertools
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from pilotmtc.campaign.submit import Packer, TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, Task, Template
from pilotmtc.parameters import Row, Source
from pilotmtc.protocol.client.campaigns import ReopenCampaign, SetAfterCampaigns
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.template import NUMBER_OF_ROW

_PAGE = 10_000
_SHOWN = 3


class Added(NamedTuple):
    """How many tasks were added, and how many were passed over because the campaign has such tasks already."""

    added: int
    passed_over: int


def add(
    link: StoreLink,
    campaign: Campaign,
    source: Source,
    *,
    new_only: bool = False,
    again: bool = False,
    after: tuple[CampaignId, ...] = (),
) -> Added:
    """Add a task for each row of `source` to a campaign that is complete.

    The tasks have the command, the resources, the priority and the limits of the campaign's last task.

    Parameters
    ----------
    new_only
        Pass over rows of which the campaign has a task.
    again
        Add tasks for such rows, too.
    after
        Campaigns for which the campaign waits from now on, besides others.

    Raises
    ------
    UsageError
        If the campaign cannot be added to, if the names of parameters differ, or if it has tasks for some of the rows
        and neither `new_only` nor `again` is given. Nothing is added then.
    """
    if new_only and again:
        raise UsageError("points that are there already are either passed over or added again: choose one")
    if not campaign.sealed:
        raise UsageError(
            f"the submission of campaign {campaign.id} was interrupted: complete it first, with pilotmtc run --resume "
            f"{campaign.id}, with or without its command and parameters"
        )
    last, template = _last(link, campaign)
    order = _order(source, template, campaign)
    known = set() if again else _digests(link, campaign, template)
    rows: list[Row] = []
    twice: list[Row] = []
    for row in source:
        values = tuple([row[at] for at in order])
        digest = _digest(values)
        if digest in known:
            twice.append(values)
        else:
            rows.append(values)
            if not again:
                known.add(digest)
    if twice and not new_only:
        raise UsageError(_there_already(template, twice, len(rows), campaign))
    if not rows:
        return Added(0, len(twice))
    number = itertools.count(campaign.received + 1)
    if NUMBER_OF_ROW in template.fields:
        rows = [(*row, str(next(number))) for row in rows]
    tasks = [TaskSpec(template, last.resources, row, last.priority) for row in rows]
    _check(tasks, campaign)
    if after:  # before the tasks are there, which pilots would take
        link.call(SetAfterCampaigns(campaign.id, after, more=True))
    key = new_key()
    there = link.call(ReopenCampaign(campaign.id, key, complete_with=campaign.received)).received
    try:
        submit(link, tasks, key=key, offset=there)
    except UsageError:  # of the store, which refuses a message as a whole
        seal(link, key, there)
        raise
    return Added(len(tasks), len(twice))


def _last(link: StoreLink, campaign: Campaign) -> tuple[Task, Template]:
    """Return the campaign's last task, and its template."""
    task = next(
        (task for page in pages(link, Filter(campaign=campaign.id), newest=True, size=1) for task in page), None
    )
    detail = link.call(GetTask(task.id)) if task is not None else None
    if task is None or detail is None or detail.template is None:
        raise UsageError(f"campaign {campaign.id} has no task whose command others could have: submit a new one")
    if detail.template.function is not None:
        raise UsageError(
            f"campaign {campaign.id} calls a Python function: add calls with PilotExecutor(name={campaign.name!r}, "
            "resume=True), or with pilotmtc map"
        )
    return task, detail.template


def _order(source: Source, template: Template, campaign: Campaign) -> tuple[int, ...]:
    """Return where the template's fields are in the rows of `source`; positions count if rows have no names."""
    fields = tuple([field for field in template.fields if field != NUMBER_OF_ROW])
    if len(source.fields) == len(fields) and all(field.isdecimal() for field in source.fields):
        return tuple(range(len(fields)))
    if sorted(source.fields) != sorted(fields):
        needs = ", ".join(fields) or "none"
        raise UsageError(
            f"the tasks of campaign {campaign.id} have the parameters {needs}, and these are "
            f"{', '.join(source.fields) or 'none'}: give the same ones"
        )
    return tuple([source.fields.index(field) for field in fields])


def _digests(link: StoreLink, campaign: Campaign, template: Template) -> set[bytes]:
    """Return digests of the parameters of all tasks of the campaign, without numbers of rows."""
    fields = [field for field in template.fields if field != NUMBER_OF_ROW]
    found = set()
    for page in pages(link, Filter(campaign=campaign.id), size=_PAGE):
        for task in page:
            if task.params.keys() >= set(fields):
                found.add(_digest([task.params[field] for field in fields]))
    return found


def _digest(values: Iterable[str]) -> bytes:
    return blake2b("\0".join(values).encode("utf-8", "surrogateescape"), digest_size=12).digest()


def _there_already(template: Template, twice: Sequence[Row], new: int, campaign: Campaign) -> str:
    some = "; ".join([_words(template, row) for row in itertools.islice(twice, _SHOWN)])
    more = "; ..." if len(twice) > _SHOWN else ""
    return (
        f"campaign {campaign.id} has {len(twice):,} of these {len(twice) + new:,} points already: {some}{more}. "
        "Pass over them with --new-only (new_only=True), or run them again with --again (again=True)"
    )


def _words(template: Template, row: Row) -> str:
    names = [field for field in template.fields if field != NUMBER_OF_ROW]
    return " ".join([value if name.isdecimal() else f"{name}={value}" for name, value in zip(names, row, strict=True)])


def _check(tasks: Sequence[TaskSpec], campaign: Campaign) -> None:
    """Check all tasks before the first is sent, as far as that can be done here."""
    packer = Packer(key="", offset=campaign.received)
    for task in tasks:
        if packer.add(task):
            packer.take()
