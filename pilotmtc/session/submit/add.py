"""More tasks for a campaign, with its own command: points that a study has missed."""

import itertools
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from pilotmtc.campaign.submit import CampaignOptions, Packer, TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, Task, Template
from pilotmtc.parameters import Row, Source
from pilotmtc.protocol.client.campaigns import ReopenCampaign, SetAfterCampaigns
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.session.arguments import several
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.session.needs import read_watched
from pilotmtc.session.submit.programs import Programs
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.template import NUMBER_OF_ROW

_PAGE = 10_000
_SHOWN = 3


class Added(NamedTuple):
    """How many tasks were added, and how many were passed over because the campaign has such tasks already."""

    added: int
    passed_over: int


class NewPoints(NamedTuple):
    """The tasks that would be added, and how many points the campaign has already."""

    tasks: list[TaskSpec]
    passed_over: int


def new_points(
    link: StoreLink, campaign: Campaign, source: Source, *, new_only: bool = False, again: bool = False,
    watch: Sequence[str] | None = None,
) -> NewPoints:  # fmt: skip
    """Return a task for each row of `source`, as the tasks of a campaign are, which is complete.

    They have the command, the resources, the priority and the limits of the campaign's last task; not what retries have
    given it.

    Parameters
    ----------
    new_only
        Pass over rows of which the campaign has a task.
    again
        Take such rows, too.
    watch
        Other files to watch.

    Raises
    ------
    UsageError
        If the campaign cannot be added to, if the names of parameters differ, or if it has tasks for some of the rows
        and neither `new_only` nor `again` is given.
    """
    if new_only and again:
        raise UsageError("points that are there already are either passed over or added again: choose one")
    if not campaign.sealed:
        raise UsageError(
            f"the submission of campaign {campaign.id} was interrupted: complete it first, with pilotmtc run --resume "
            f"{campaign.id}, with or without its command and parameters"
        )
    last, template = _last(link, campaign)
    if watch is not None:
        template = replace(template, watch=several("watch", watch, read_watched))
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
    number = itertools.count(campaign.received + 1)
    if NUMBER_OF_ROW in template.fields:
        rows = [(*row, str(next(number))) for row in rows]
    needs = last.before_growth or last.resources
    tasks = [TaskSpec(template, needs, row, last.priority) for row in rows]
    _check(tasks, campaign)
    return NewPoints(tasks, len(twice))


def add(
    link: StoreLink, campaign: Campaign, points: NewPoints, *, after: tuple[CampaignId, ...] = (), memo: bool = False
) -> Added:
    """Add tasks to a campaign; if others were added since they were made, nothing is.

    Parameters
    ----------
    after
        Campaigns for which the campaign waits from now on, besides others.
    memo
        Take them as DONE if earlier tasks have run the same.
    """
    if not points.tasks:
        return Added(0, points.passed_over)
    programs = Programs(link)
    programs.look_ahead(points.tasks[0].template)  # before the campaign is opened
    if after:  # before the tasks are there, which pilots would take
        link.call(SetAfterCampaigns(campaign.id, after, more=True))
    key = new_key()
    there = link.call(ReopenCampaign(campaign.id, key, complete_with=campaign.received)).received
    try:
        submit(link, points.tasks, key=key, offset=there, options=CampaignOptions(memo=memo), programs=programs)
    except UsageError:  # of the store, which refuses a message as a whole
        seal(link, key, there)
        raise
    return Added(len(points.tasks), points.passed_over)


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
            f"campaign {campaign.id} calls a Python function, and only commands can be added to: resume it with more "
            "calls, by pilotmtc map or an executor"
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
        f"campaign {campaign.id} has {len(twice):,} of these {len(twice) + new:,} points already: {some}{more}: "
        "say whether they are to be passed over (new only) or added again"
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
