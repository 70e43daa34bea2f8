"""What a plan is made of: tasks and their durations, from the store and from campaign files."""

import random
from array import array
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, TypedDict, Unpack

from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, Pilot, Resources
from pilotmtc.protocol.client.history import GetKinds
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.report.measure.timeline import SHORT_S
from pilotmtc.report.plan import Plan, make_plan, parse_shape
from pilotmtc.report.report import Report
from pilotmtc.report.simulate import Costs, Shape, Work
from pilotmtc.session.arguments import amount, check_names, several, text, whole
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.report import read_report
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.units import parse_duration, parse_memory

if TYPE_CHECKING:
    from pilotmtc.campaign.submit import TaskSpec

_LEFT = frozenset(TaskState) - TASK_FINAL
_COMMAND_CHARS = 200  # as the store cuts them
_SEED = 1  # the same plan each time


class PlanOptions(TypedDict, total=False):
    """Options of a plan; None is as if it were not given.

    Attributes
    ----------
    shapes
        ``PILOTSxNODES`` or ``PILOTSxNODESxCORES``, such as ``["1x10", "10x1"]``.
    cores, gpus, memory
        What a node has; by default as those of the campaign's largest pilot.
    walltime
        Of the pilots: ``"2h"`` or seconds; 0: no limit.
    wait
        How long they wait in the queue; by default as long as pilots of as many nodes did.
    duration
        How long tasks take of which nothing else is known: ``"30s"``, or ``"27s..33s"`` for any time between.
    """

    shapes: Sequence[str] | None
    cores: int | None
    gpus: int | None
    memory: str | int | None
    walltime: str | float | None
    wait: str | float | None
    duration: str | float | None


class Durations:
    """Durations of tasks: measured of the same command and resources, else of the same command, else as was said."""

    def __init__(self, report: Report | None, said: str | float | None) -> None:
        self._measured: dict[tuple[str, tuple[float, ...] | None], array[float]] = {}
        self._said = None if said is None else _between(said)
        self._random = random.Random(_SEED)
        self.measured = 0
        if report is None:
            return
        past = report.past.attempts
        wanted = frozenset(report.summary.campaigns)
        for at in range(len(past)):
            if past.campaign[at] in wanted and past.succeeded(at):
                command = past.commands[past.template[at]]
                for need in (_key(past.resources[past.resources_id[at]]), None):
                    self._measured.setdefault((command, need), array("d")).append(past.elapsed_s[at])

    def draw(self, command: str, need: Resources) -> float:
        """Return how long a task may take."""
        found = self._measured.get((command, _key(need))) or self._measured.get((command, None))
        if found:
            self.measured += 1
            return self._random.choice(found)
        if self._said is not None:
            return self._random.uniform(*self._said)
        if need.expected_s or need.time_limit_s:
            return need.expected_s or need.time_limit_s
        raise UsageError(
            f"nothing is known of how long {command!r} takes: give a duration, such as 30s or 27s..33s, or tasks an "
            "expected time"
        )


def _key(need: Resources) -> tuple[float, ...]:
    """Return what of its resources a command's duration may depend on."""
    return need.cores, need.gpus, need.memory_bytes, need.ranks


def _between(said: str | float) -> tuple[float, float]:
    low, dots, high = said.partition("..") if isinstance(said, str) else (said, "", "")
    found = (parse_duration(low), parse_duration(high if dots else low))
    if found[0] > found[1] or found[1] <= 0:
        raise UsageError(f"duration {said!r}: give a time above 0, or two with the shorter one first, as 27s..33s")
    return found


def read_plan(
    link: StoreLink, campaign: Campaign | None, tasks: "Iterable[TaskSpec] | None", **options: Unpack[PlanOptions]
) -> Plan:
    """Return a plan for what is left of a campaign (for all of it, if nothing is), or for `tasks` that are like its."""
    check_names(options, PlanOptions.__annotations__)
    report = None if campaign is None else read_report(link, [campaign])
    durations = Durations(report, options.get("duration"))
    work = Work()
    if tasks is not None:
        _add_specs(work, tasks, durations)
    elif report is not None and campaign is not None:
        if any(campaign.counts.get(state) for state in _LEFT):
            _add_left(link, work, campaign, durations)
        else:
            durations.measured = _add_again(work, report)
    if not len(work):
        raise UsageError("there are no tasks to plan: none is left, and none succeeded")
    pilots = link.call(GetPilots()).pilots
    shapes = _shapes(report, pilots, **options)
    return make_plan(work, shapes, _costs(report), durations.measured)


def _add_specs(work: Work, tasks: "Iterable[TaskSpec]", durations: Durations) -> None:
    for spec in tasks:
        command = " ".join(spec.template.command)[:_COMMAND_CHARS]
        work.add(work.kind_of(spec.resources), durations.draw(command, spec.resources))


def _add_left(link: StoreLink, work: Work, campaign: Campaign, durations: Durations) -> None:
    after = 0
    while True:
        page = link.call(GetKinds(campaign.id, after))
        for kind in page.kinds:
            if kind.state in _LEFT:
                need = page.resources[kind.resources]
                number = work.kind_of(need)
                for _ in range(kind.count):
                    work.add(number, durations.draw(page.commands[kind.template], need))
        if not page.next:
            return
        after = page.next


def _add_again(work: Work, report: Report) -> int:
    """Add the tasks that succeeded, in order, with the durations that they had; return how many."""
    past = report.past.attempts
    wanted = frozenset(report.summary.campaigns)
    for at in range(len(past)):
        if past.campaign[at] in wanted and past.succeeded(at):
            work.add(work.kind_of(past.resources[past.resources_id[at]]), past.elapsed_s[at])
    return len(work)


def _costs(report: Report | None) -> Costs:
    """Return what was measured of pilots' starts and of pauses between tasks."""
    if report is None:
        return Costs()
    starts = [
        pilot.first_task_at - pilot.started_at
        for pilot in report.summary.pilots
        if pilot.first_task_at is not None and pilot.started_at is not None and pilot.started_at == pilot.from_at
    ]
    gaps = report.summary.gaps_s
    # The mean, but not of pauses in which there was nothing to do.
    return Costs(max(median(starts), 0.0) if starts else 0.0, gaps.mean if gaps.most <= SHORT_S else gaps.median)


def _shapes(report: Report | None, pilots: Sequence[Pilot], **options: Unpack[PlanOptions]) -> list[Shape]:
    used = [] if report is None else [pilot for pilot in report.past.pilots.values() if pilot.cores and pilot.nodes]
    largest = max(used, key=lambda pilot: pilot.cores, default=None)
    node = Shape(1, 1, 0)
    if largest is not None:
        asked = largest.description
        memory = asked.memory_bytes or largest.node_memory_bytes
        node = Shape(1, largest.nodes, -(-largest.cores // largest.nodes), asked.gpus, memory, asked.named)
    cores, gpus = options.get("cores"), options.get("gpus")
    if cores is not None:
        node = replace(node, cores=whole("cores", cores))
    if gpus is not None:
        node = replace(node, gpus=whole("gpus", gpus))
    if (given := options.get("memory")) is not None:
        node = replace(node, memory_bytes=parse_memory(given))
    walltime, wait = options.get("walltime"), options.get("wait")
    if walltime is not None:
        node = replace(node, walltime_s=parse_duration(amount("walltime", walltime)))
    words = several("shapes", options.get("shapes") or _usual(node.nodes), text)
    if not node.cores and not all(word.count("x") == 2 for word in words):
        raise UsageError("how many cores does a node have? no pilot has told it: give cores, or shapes such as 1x10x48")
    found = [parse_shape(word, node) for word in words]
    wait_s = None if wait is None else parse_duration(amount("wait", wait))
    return [replace(shape, wait_s=_wait_s(pilots, shape.nodes) if wait_s is None else wait_s) for shape in found]


def _usual(nodes: int) -> list[str]:
    """Return shapes that are worth a look, for a pilot that had so many nodes."""
    if nodes == 1:
        return ["1x1", "1x2", "1x4", "2x1", "4x1"]
    return [f"1x{nodes}", f"{nodes}x1", f"1x{-(-nodes // 2)}", f"2x{-(-nodes // 2)}", f"1x{2 * nodes}"]


def _wait_s(pilots: Iterable[Pilot], nodes: int) -> float:
    """Return how long pilots of so many nodes have waited for a scheduler; 0 if there were none."""
    waits = [
        pilot.started_at - pilot.submitted_at
        for pilot in pilots
        if pilot.submitted_at is not None and pilot.started_at is not None and pilot.description.nodes == nodes
    ]
    return max(median(waits), 0.0) if waits else 0.0
