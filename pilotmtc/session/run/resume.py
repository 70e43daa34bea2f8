"""Continuing an interrupted submission: the tasks must start with those that the campaign has."""

from collections.abc import Iterable, Iterator

from pilotmtc.campaign.outputs import apart
from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.errors import UsageError, shown
from pilotmtc.model import Campaign, Task, Template
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages

_PAGE = 10_000
_SHOWN = 200
_COMPARED = ("fields", "env", "cwd", "stdin", "stdout", "stderr", "append", "setup", "shell_program")


def rest(link: StoreLink, campaign: Campaign, tasks: Iterable[TaskSpec]) -> tuple[int, Iterator[TaskSpec]]:
    """Return the number of tasks that the campaign has, and the rest of `tasks`.

    Commands, parameters, names, tags and directories are compared. Needs, priorities and retries are not, because they
    may have been edited.

    Raises
    ------
    UsageError
        If `tasks` do not start with those of the campaign; the text shows the first difference.
    """
    coming = apart(tasks)
    same: dict[tuple[int, int], Template] = {}  # equal pairs, by identity: the value keeps ours alive
    number = 0
    for page in pages(link, Filter(campaign=campaign.id), size=_PAGE):
        for there in page:
            number += 1
            spec = next(coming, None)
            if spec is None:
                raise _other(campaign, f"it has {campaign.received} tasks, and these are {number - 1}")
            pair = (id(spec.template), there.template)
            if pair not in same:
                _compare_templates(link, campaign, number, there, spec.template)
                same[pair] = spec.template
            if tuple(there.params.values()) != spec.params:
                now = dict(zip(spec.template.fields, spec.params, strict=False))
                raise _other(campaign, f"task {number} of it has {_values(there.params)}, and here {_values(now)}")
            if there.name != spec.name:
                raise _other(campaign, f"task {number} of it is called {there.name!r}, and here {spec.name!r}")
            if there.tags != spec.tags:
                raise _other(campaign, f"task {number} of it has the tags {there.tags}, and here {spec.tags}")
    return number, coming


def _compare_templates(link: StoreLink, campaign: Campaign, number: int, there: Task, ours: Template) -> None:
    theirs = link.call(GetTask(there.id)).template
    assert theirs is not None
    if (theirs.command, theirs.shell) != (ours.command, ours.shell):
        raise UsageError(f"campaign {campaign.id} runs another command: {' '.join(theirs.command)[:_SHOWN]}")
    for field in _COMPARED:
        before, now = getattr(theirs, field), getattr(ours, field)
        if before != now:
            what = "directory" if field == "cwd" else field
            raise _other(campaign, f"the {what} of task {number} of it is {shown(before)}, and here {shown(now)}")


def _values(params: dict[str, str]) -> str:
    words = " ".join(repr(value) if name.isdecimal() else f"{name}={value!r}" for name, value in params.items())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def _other(campaign: Campaign, difference: str) -> UsageError:
    return UsageError(
        f"campaign {campaign.id} has other tasks than these: {difference}; give the same ones in the same order, with "
        "new ones behind them, or start another campaign"
    )
