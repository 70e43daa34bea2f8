"""What-if: the same work on pilots of different shapes."""

import re
from array import array
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.report.greedy import makespan
from pilotmtc.report.simulate import Costs, Shape, simulate
from pilotmtc.report.work import Work
from pilotmtc.text.numbers import count
from pilotmtc.text.tables import Column, paint, table
from pilotmtc.units import format_duration, parse_duration

_SHAPE = re.compile(r"(\d+)x(\d+)(?:x(\d+))?")
_NEARLY = 1.1  # times the earliest end: not worth more core-hours
_MOST = 1_000_000  # cores


class Row(Struct, frozen=True):
    """What comes of a shape.

    Attributes
    ----------
    finish_s
        From the submission of the pilots to the end of the last task; None: some tasks were not run.
    static_s
        The same if the tasks were dealt out to slots (or to pilots, if they need different numbers of cores) before;
        None also if they wait for each other.
    core_s
        Time of cores that the pilots take.
    busy
        The part of it in which tasks run.
    left
        Tasks that were not run.
    """

    shape: str
    cores: int
    wait_s: float
    finish_s: float | None
    static_s: float | None
    core_s: float
    busy: float
    left: int


class Plan(Struct, frozen=True):
    """What comes of all shapes.

    Attributes
    ----------
    tasks
        How many there are.
    measured
        For how many of them durations of tasks like them are known.
    work_core_s
        What all of them take, with attempts that fail.
    failures
        How many attempts fail, with a retry or without.
    failed, skipped
        How many tasks fail for good, and how many do not run because of that.
    rows
        In the order in which the shapes were given.
    best, reason
        The shape to choose, and why; empty if none runs all tasks.
    """

    tasks: int
    measured: int
    work_core_s: float
    startup_s: float
    gap_s: float
    rows: tuple[Row, ...]
    best: str = ""
    reason: str = ""
    failures: int = 0
    failed: int = 0
    skipped: int = 0


def parse_shape(text: str, node: Shape) -> Shape:
    """Return the shape that ``PILOTSxNODES`` or ``PILOTSxNODESxCORES`` means.

    Parameters
    ----------
    node
        What a node has if the text does not say it.

    Raises
    ------
    UsageError
        If it means none, or too much.
    """
    match = _SHAPE.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a shape: write PILOTSxNODES, such as 2x10, or PILOTSxNODESxCORES")
    pilots, nodes, cores = (int(word) if word else node.cores for word in match.groups())
    if not (pilots and nodes and cores) or pilots * nodes * cores > _MOST:
        raise UsageError(f"{text!r} has {pilots * nodes * cores:,} cores: give between 1 and {_MOST:,}")
    return replace(node, pilots=pilots, nodes=nodes, cores=cores)


def check_shape(text: str) -> None:
    """Raise `UsageError` as `parse_shape` does, whatever a node has."""
    parse_shape(text, Shape(1, 1, 1))


def parse_durations(said: str | float) -> tuple[float, float]:
    """Return the shortest and the longest time that ``"30s"``, ``"27s..33s"`` or a number of seconds means.

    Raises
    ------
    UsageError
        If it means none.
    """
    low, dots, high = said.partition("..") if isinstance(said, str) else (said, "", "")
    found = (parse_duration(low), parse_duration(high if dots else low))
    if found[0] > found[1] or found[1] <= 0:
        raise UsageError(f"duration {said!r}: give a time above 0, or two with the shorter one first, as 27s..33s")
    return found


def name_of(shape: Shape) -> str:
    """Return a shape as it is written."""
    return f"{shape.pilots}x{shape.nodes}x{shape.cores}"


def make_plan(work: Work, shapes: Sequence[Shape], costs: Costs, measured: int) -> Plan:
    """Return what comes of `work` on each of the shapes, and which one to choose."""
    rows = tuple([_row(work, shape, costs) for shape in shapes])
    skipped = work.skipped()
    failed = len(work.failing - skipped)
    failures = failed + sum(len(some) for task, some in work.failures.items() if task not in skipped)
    plan = Plan(
        len(work), measured, work.core_s(), costs.startup_s, costs.gap_s, rows,
        failures=failures, failed=failed, skipped=len(skipped),
    )  # fmt: skip
    ended = [row for row in rows if row.finish_s is not None]
    if not ended:
        return plan
    first = min(row.finish_s or 0.0 for row in ended)
    best = min(
        (row for row in ended if (row.finish_s or 0.0) <= _NEARLY * first), key=lambda row: (row.core_s, row.finish_s)
    )
    cheapest = min(ended, key=lambda row: row.core_s)
    soon = "it ends first" if best.finish_s == first else "it ends nearly as soon as the first, with less time of cores"
    if cheapest.shape != best.shape and cheapest.core_s < 0.99 * best.core_s:
        soon += f"; {cheapest.shape} needs least: {_core_h(cheapest.core_s)} core-hours"
    return replace(plan, best=best.shape, reason=soon)


def _row(work: Work, shape: Shape, costs: Costs) -> Row:
    found = simulate(work, shape, costs)
    fixed = not (found.left or shape.walltime_s or work.unmet)
    static = None if not fixed else shape.wait_s + costs.startup_s + _static(work, shape, costs)
    busy = found.useful_core_s / found.core_s if found.core_s else 0.0
    finish = None if found.left else found.finish_s
    return Row(name_of(shape), shape.all_cores, shape.wait_s, finish, static, found.core_s, busy, found.left)


def _static(work: Work, shape: Shape, costs: Costs) -> float:
    """Return how long it takes if tasks are dealt out like cards before anything is known of them."""
    widths = {work.needs[kind].cores * work.needs[kind].ranks for kind in work.kinds}
    width = widths.pop() if len(widths) == 1 else 0
    if 0 < width <= shape.cores:
        slots = array("d", bytes(8 * shape.pilots * shape.nodes * (shape.cores // width)))
        for at in range(len(work)):
            slots[at % len(slots)] += work.took_s(at) + costs.gap_s
        return max(slots) - costs.gap_s if len(work) else 0.0
    tasks = [
        (work.needs[kind].cores * work.needs[kind].ranks, work.took_s(task) + costs.gap_s)
        for task, kind in enumerate(work.kinds)
    ]
    return max(makespan(tasks[pilot :: shape.pilots], shape.nodes * shape.cores) for pilot in range(shape.pilots))


def plan_lines(plan: Plan, *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the lines of a plan."""
    columns = (
        Column("PILOTS x NODES x CORES"), Column("CORES", right=True), Column("WAIT", right=True, optional=True),
        Column("ENDS AFTER", right=True), Column("CORE-HOURS", right=True), Column("BUSY", right=True, spare=2),
        Column("IF DEALT OUT BEFORE", right=True, spare=1), Column("NOT RUN", right=True, optional=True),
    )  # fmt: skip
    rows = [
        (
            row.shape, f"{row.cores:,}", format_duration(row.wait_s) if row.wait_s else "",
            "never" if row.finish_s is None else format_duration(row.finish_s), _core_h(row.core_s),
            f"{100 * row.busy:.0f}%", "" if row.static_s is None else format_duration(row.static_s),
            f"{row.left:,}" if row.left else "",
        )
        for row in plan.rows
    ]  # fmt: skip
    known = "all durations measured" if plan.measured == plan.tasks else f"{plan.measured:,} of the durations measured"
    head = f"{count(plan.tasks, 'task')}, {_core_h(plan.work_core_s)} core-hours of work, {known}"
    costs = (
        f"{format_duration(plan.startup_s)} to a pilot's first task, {format_duration(plan.gap_s)} between two tasks"
    )
    bad = [f"{count(plan.failures, 'attempt')} will fail"] if plan.failures else []
    bad += [f"{count(plan.failed, 'task')} for good"] if plan.failed else []
    bad += [f"{count(plan.skipped, 'task')} will be skipped"] if plan.skipped else []
    found = [head, costs, *([", ".join(bad)] if bad else []), "", *table(columns, rows, width=width, colour=colour), ""]
    best = f"best: {plan.best}, because {plan.reason}" if plan.best else "none of them runs all tasks"
    return [*found, paint(best, "bold", on=colour)]


def _core_h(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
