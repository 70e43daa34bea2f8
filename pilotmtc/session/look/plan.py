"""What a plan is made of: tasks and how they may go, from the store and from campaign files."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, Pilot
from pilotmtc.protocol.client.history import GetLinks, GetWorkload, WorkKind, Workload
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.report.expected import Expected, courses, repeat
from pilotmtc.report.measure.columns import Attempts, unpacked
from pilotmtc.report.measure.timeline import SHORT_S
from pilotmtc.report.plan import Plan, check_shape, make_plan, parse_durations, parse_shape
from pilotmtc.report.report import Report
from pilotmtc.report.simulate import Costs, Shape
from pilotmtc.report.work import Work
from pilotmtc.session.arguments import amount, check_names, several, text, whole
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.report import read_report
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.units import parse_duration, parse_memory

if TYPE_CHECKING:
    from pilotmtc.campaign.file import CampaignFile

_LEFT = frozenset(TaskState) - TASK_FINAL


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


def read_plan(
    link: StoreLink, campaign: Campaign | None, file: "CampaignFile | None", **options: Unpack[PlanOptions]
) -> Plan:
    """Return a plan for what is left of a campaign (for all of it, if nothing is), or for a file's tasks, like its."""
    check_names(options, PlanOptions.__annotations__)
    shapes = _Shapes(**options)
    said = options.get("duration")
    said_s = None if said is None else parse_durations(said)
    report = None if campaign is None else read_report(link, [campaign])
    past = None if report is None else report.past.attempts
    expected = Expected(past, frozenset(() if report is None else report.summary.campaigns), said_s)
    if file is not None:
        work = _of_file(file, expected)
    else:
        assert campaign is not None
        assert past is not None
        if any(campaign.counts.get(state) for state in _LEFT):
            work = _left(link, campaign, expected)
        else:
            work = _once_more(link, campaign, past)
            expected.measured = len(work)
    if not len(work):
        raise UsageError("there are no tasks to plan: none is left, and none has run")
    waited = campaign is not None and bool(link.call(GetLinks(campaign.id)).tasks)
    found = shapes.found(report, link.call(GetPilots()).pilots)
    return make_plan(work, found, _costs(report, waited), expected.measured)


def _of_file(file: "CampaignFile", expected: Expected) -> Work:
    """Return the tasks of a campaign file."""
    work = Work(file.options.max_running)
    names: dict[str, list[int]] = {}
    for spec in file.tasks():
        task = expected.add(work, spec.template, spec.resources, priority=spec.priority)
        for other in spec.after:
            for need in names.get(str(other.task), ()):
                work.depend(task, need, well=other.well)
        if spec.name is not None:
            names.setdefault(spec.name, []).append(task)
    return work


def _left(link: StoreLink, campaign: Campaign, expected: Expected) -> Work:
    """Return what is left of a campaign."""
    work = Work(campaign.max_running)
    ids = array("q")
    for task, kind, page in _workload(link, campaign):
        if kind.state in _LEFT:
            ids.append(task)
            template, need = page.templates[kind.template], page.resources[kind.resources]
            expected.add(work, template, need, failures=kind.failures, priority=kind.priority)
    _link_up(link, campaign, work, ids)
    return work


def _once_more(link: StoreLink, campaign: Campaign, past: Attempts) -> Work:
    """Return the tasks of a campaign that have succeeded or failed, each with the attempts that it had."""
    work = Work(campaign.max_running)
    ids = array("q")
    found = courses(past, frozenset([campaign.id]))
    at, course = next(found, (-1, ()))
    for task, kind, page in _workload(link, campaign):
        if at >= 0 and past.task[at] == task:
            ids.append(task)
            number = work.kind_of(page.resources[kind.resources])
            repeat(work, number, course, page.templates[kind.template].backoff_s, kind.priority)
            at, course = next(found, (-1, ()))
    _link_up(link, campaign, work, ids)
    return work


def _workload(link: StoreLink, campaign: Campaign) -> Iterator[tuple[int, WorkKind, Workload]]:
    """Yield a campaign's tasks in order of their ids: what they are, and the page that this is on."""
    after = 0
    while True:
        page = link.call(GetWorkload(campaign.id, after))
        for task, kind in zip(unpacked("q", page.tasks), unpacked("i", page.kind), strict=True):
            yield task, page.kinds[kind], page
        if not page.next:
            return
        after = page.next


def _link_up(link: StoreLink, campaign: Campaign, work: Work, ids: "array[int]") -> None:
    """Let tasks of `work` wait for each other as in the store; `ids` are theirs. Others count as over."""
    numbers: dict[int, int] = {}
    after = (0, 0)
    while True:
        page = link.call(GetLinks(campaign.id, after))
        if page.tasks and not numbers:
            numbers = {task: number for number, task in enumerate(ids)}
        tasks, needs = unpacked("q", page.tasks), unpacked("q", page.needs)
        for task, need, well in zip(tasks, needs, unpacked("b", page.well), strict=True):
            if task in numbers and need in numbers:
                work.depend(numbers[task], numbers[need], well=bool(well))
        if not page.more:
            return
        after = (tasks[-1], needs[-1])


def _costs(report: Report | None, waited: bool) -> Costs:
    """Return what was measured of pilots' starts and of pauses between tasks, which may have `waited` for others."""
    if report is None:
        return Costs()
    starts = [
        pilot.first_task_at - pilot.started_at
        for pilot in report.summary.pilots
        if pilot.first_task_at is not None and pilot.started_at is not None and pilot.started_at == pilot.from_at
    ]
    gaps = report.summary.gaps_s
    # The mean, but not of pauses in which there was nothing to do: for others to end, or for a retry.
    waited = waited or bool(report.summary.deaths) or gaps.most > SHORT_S
    return Costs(max(median(starts), 0.0) if starts else 0.0, gaps.median if waited else gaps.mean)


class _Shapes:
    """The pilots to try, as they were asked for: what is wrong with that is said before anything else is looked at."""

    def __init__(self, **options: Unpack[PlanOptions]) -> None:
        self._words = several("shapes", options.get("shapes") or (), text)
        for word in self._words:
            check_shape(word)
        self._changes: dict[str, Any] = {}
        for name in ("cores", "gpus"):
            if (given := options.get(name)) is not None:
                self._changes[name] = whole(name, given)
        if (memory := options.get("memory")) is not None:
            self._changes["memory_bytes"] = parse_memory(memory)
        if (walltime := options.get("walltime")) is not None:
            self._changes["walltime_s"] = parse_duration(amount("walltime", walltime))
        wait = options.get("wait")
        self._wait_s = None if wait is None else parse_duration(amount("wait", wait))

    def found(self, report: Report | None, pilots: Sequence[Pilot]) -> list[Shape]:
        """Return them; what was not said is as the largest pilot of the report had it."""
        used = [] if report is None else [pilot for pilot in report.past.pilots.values() if pilot.cores and pilot.nodes]
        largest = max(used, key=lambda pilot: pilot.cores, default=None)
        node = Shape(1, 1, 0)
        if largest is not None:
            asked = largest.description
            memory = asked.memory_bytes or largest.node_memory_bytes
            node = Shape(1, largest.nodes, -(-largest.cores // largest.nodes), asked.gpus, memory, asked.named)
        node = replace(node, **self._changes)
        words = self._words or _usual(node.nodes)
        if not node.cores and not all(word.count("x") == 2 for word in words):
            raise UsageError(
                "how many cores does a node have? no pilot has told it: give cores, or shapes such as 1x10x48"
            )
        shapes = [parse_shape(word, node) for word in words]
        return [
            replace(shape, wait_s=_wait_s(pilots, shape.nodes) if self._wait_s is None else self._wait_s)
            for shape in shapes
        ]


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
