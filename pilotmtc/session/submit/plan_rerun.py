"""Which tasks would run again; nothing is stored."""

import collections
from collections.abc import Iterator

from msgspec.structs import replace

from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.model import CampaignId, Program, Task, TaskId, Template
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.tasks import GetDependencies, GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.session.submit.changes import as_rerun
from pilotmtc.session.submit.plan import SHOWN, Plan, PlannedTask, planned
from pilotmtc.session.submit.programs import look_all_again
from pilotmtc.states import TASK_FINAL
from pilotmtc.template.programs import files_of

_PAGE = 10_000


def plan_rerun(link: StoreLink, select: Filter, *, dependents: bool, changed: bool) -> Plan:
    """Return the tasks that `Session.rerun` would run again, as far as those that they need let them.

    Raises
    ------
    UsageError
        If `changed` is asked for, and a program file cannot be read now, or none is known.
    """
    programs = look_all_again(link, select, changed=True) if changed else {}
    select = as_rerun(select, changed=changed)
    states = TASK_FINAL if select.states is None else TASK_FINAL.intersection(select.states)
    ids: list[TaskId] = []
    if states:
        found = (task for page in pages(link, replace(select, states=tuple(states)), size=_PAGE) for task in page)
        ids = [task.id for task in (_changed(link, found, programs) if changed else found)]
    if dependents or changed:
        ids = _with_dependents(link, ids)
    first = ids[:SHOWN]
    last = ids[len(first) :][-SHOWN:]
    return Plan(len(ids), tuple(_shown(link, first)), tuple(_shown(link, last)), (), ())


def _changed(link: StoreLink, tasks: Iterator[Task], programs: dict[CampaignId, Program]) -> Iterator[Task]:
    """Yield the tasks that would run something else now."""
    ran: dict[int, tuple[Template, Program | None]] = {}
    for task in tasks:
        version = task.last.version if task.last is not None else 0
        if not version or task.campaign not in programs:
            continue
        if version not in ran:
            versions = link.call(GetTask(task.id)).versions
            ran.update({id_: (one.template, one.program) for id_, one in versions.items()})
        template, program = ran[version]
        now = files_of(template, programs[task.campaign])
        if (template.command, template.shell) != (task.command, task.shell) or (
            program is not None and files_of(template, program) != now
        ):
            yield task


def _with_dependents(link: StoreLink, ids: list[TaskId]) -> list[TaskId]:
    """Return tasks and those finished ones that depend on them, in order."""
    wanted = set(ids)
    needs: dict[TaskId, list[TaskId]] = collections.defaultdict(list)
    for campaign in link.call(GetCampaigns()).campaigns:
        after = (0, 0)
        while True:
            page = link.call(GetDependencies(campaign.id, after))
            for one in page.dependencies:
                needs[one.task].append(one.needs)
            if not any(after := page.next):
                break
    waiting = sorted(needs)  # a task comes after what it needs
    for task in waiting:
        if any(need in wanted for need in needs[task]):
            wanted.add(task)
    more = tuple(wanted.difference(ids))
    over = Filter(ids=more, states=tuple(TASK_FINAL))
    return sorted([*ids, *(task.id for page in pages(link, over, size=_PAGE) for task in page)] if more else ids)


def _shown(link: StoreLink, ids: list[TaskId]) -> Iterator[PlannedTask]:
    for detail in link.call_many([GetTask(id_) for id_ in ids]):
        task, template = detail.task, detail.template
        if task is not None and template is not None and template.function is None:
            values = tuple(task.params.values())
            spec = TaskSpec(template, task.resources, values, task.priority, task.name, task.tags)
            yield planned(task.id, spec)
        elif task is not None:  # a call
            yield PlannedTask(
                task.id, f"{task.function}({', '.join(task.params.values())})", task.params, task.name, task.tags, (),
                None, None, None, None,
            )  # fmt: skip
