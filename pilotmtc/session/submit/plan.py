"""What would be submitted: all tasks are read and checked as if they were, and nothing is stored."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from pilotmtc.campaign.outputs import apart
from pilotmtc.campaign.submit import Packer, TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Pilot, Resources, Task, TaskId, Template
from pilotmtc.session.look.explain import obstacle
from pilotmtc.states import TaskState
from pilotmtc.template import expand, shown

SHOWN = 3


class PlannedTask(Struct, frozen=True):
    """A task as it would be; where it mentions its own id, that is its `number` among the tasks."""

    number: int
    command: str
    params: Mapping[str, object]
    name: str | None
    tags: tuple[str, ...]
    after: tuple[str, ...]
    cwd: str | None
    stdin: str | None
    stdout: str | None
    stderr: str | None


class PlannedNeeds(Struct, frozen=True):
    """How many tasks need the same."""

    resources: Resources
    tasks: int


class Plan(Struct, frozen=True):
    """What would be submitted: how many tasks, the first and last of them, and what they need."""

    tasks: int
    first: tuple[PlannedTask, ...]
    last: tuple[PlannedTask, ...]
    needs: tuple[PlannedNeeds, ...]
    templates: tuple[Template, ...]


def make_plan(tasks: Iterable[TaskSpec], most: int = SHOWN, *, offset: int = 0) -> Plan:
    """Return what submitting `tasks` would make.

    Parameters
    ----------
    most
        How many tasks to show at the beginning, and at the end.
    offset
        How many tasks are there already.

    Raises
    ------
    UsageError
        If there is no task, or if one is invalid.
    """
    packer = Packer(key="", offset=offset)
    first: list[tuple[int, TaskSpec]] = []
    last: collections.deque[tuple[int, TaskSpec]] = collections.deque(maxlen=most)
    needs: dict[bytes, list[Resources | int]] = {}
    known: dict[int, tuple[Resources, list[Resources | int]]] = {}  # by identity, which the record keeps unique
    templates: dict[int, Template] = {}
    number = 0
    for number, spec in enumerate(apart(tasks), 1):
        if packer.add(spec):
            packer.take()
        (first if len(first) < most else last).append((number, spec))
        counted = known.get(id(spec.resources))
        if counted is None:
            same = needs.setdefault(msgspec.msgpack.encode(spec.resources), [spec.resources, 0])
            counted = known[id(spec.resources)] = (spec.resources, same)
        counted[1][1] += 1  # type: ignore[operator]  # the count
        templates.setdefault(id(spec.template), spec.template)
    if not number:
        raise UsageError("there are no tasks: the source of parameters is empty")
    return Plan(
        number,
        tuple([planned(offset + at, spec) for at, spec in first]),
        tuple([planned(offset + at, spec) for at, spec in last]),
        tuple([PlannedNeeds(*one) for one in needs.values()]),  # type: ignore[arg-type]
        tuple(templates.values()),
    )


def planned(number: int, spec: TaskSpec) -> PlannedTask:
    """Return a task with its values in place, which would have that number."""
    as_if = {"task": number, "attempt": 1, "campaign": 0}
    todo = expand(spec.template, spec.params, **as_if)
    return PlannedTask(
        number,
        shown(spec.template, spec.params, **as_if),
        dict(zip(spec.template.fields, spec.params, strict=True)),
        spec.name,
        spec.tags,
        tuple([str(after.task) for after in spec.after]),
        todo.cwd,
        todo.stdin,
        todo.stdout,
        todo.stderr,
    )


def places(needs: Resources, pilots: Sequence[Pilot], limits: Mapping[str, float], now: float) -> dict[int, str]:
    """Return for each of `pilots` that is for any campaign why it could not run such a task; empty if it could."""
    task = Task(TaskId(0), CampaignId(0), TaskState.READY, 0, 0, (), False, {}, needs)
    free = [pilot for pilot in pilots if pilot.description.campaign is None]
    return {pilot.id: obstacle(pilot, task, now, limits=limits) for pilot in free}
