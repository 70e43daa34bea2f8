"""A report as text for terminals."""

import textwrap
from collections.abc import Iterator, Sequence

from pilotmtc.report.records import CoreTime, Distribution, Kind, PilotReport, Summary
from pilotmtc.text.numbers import clock, count
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import Column, paint, pairs, shorten, table
from pilotmtc.units import format_duration, format_memory

# What `CoreTime` counts, in words.
CORE_TIME = {
    "useful": "attempts that succeeded",
    "running": "attempts that still run",
    "failed": "attempts that failed",
    "lost": "attempts lost with their node or pilot",
    "canceled": "attempts that were canceled",
    "others": "other campaigns",
    "startup": "start-up, to each core's first task",
    "dispatch": "between two tasks",
    "want_of_tasks": "idle for want of tasks",
    "wide": "kept free for tasks of several cores",
    "tail": "idle in the tail",
    "leaving": "idle after the last task",
    "unused": "cores that never had a task",
}
_SPARKS = " ▁▂▃▄▅▆▇█"
_BAR = 20
_NODES = 10


def lines(summary: Summary, *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the lines of a report."""
    found = [_title(summary, colour), *pairs(list(_facts(summary)), colour=colour)]
    if not summary.attempts:
        return [*found, "", "No task has started yet."]
    for title, part in (
        ("Where the time of cores went", _core_time(summary.core_s, width, colour)),
        ("Pilots", _pilots(summary.pilots, width, colour)),
        ("Tasks", _tasks(summary, width, colour)),
        ("Slow nodes", _slow_nodes(summary, width, colour)),
        ("How attempts ended that did not succeed", _deaths(summary, width, colour)),
        ("Next time", list(_advice(summary, width))),
    ):
        if part:
            found += ["", paint(title, "bold", on=colour), *part]
    return found


def core_time(seconds: float) -> str:
    """Return an amount of core time: ``12.5 core-h``, ``90 core-s``."""
    if seconds >= 3600:
        hours = seconds / 3600
        return f"{hours:,.0f} core-h" if hours >= 100 else f"{hours:.3g} core-h"
    return f"{seconds:.0f} core-s" if seconds >= 10 or seconds == 0 else f"{seconds:.2g} core-s"


def percent(part: float, whole: float = 1.0) -> str:
    """Return a part of a whole: ``93%``, ``0.4%``, ``99.6%``."""
    if not whole:
        return ""
    value = 100 * part / whole
    return f"{value:.1f}%" if value < 10 or 99 <= value < 99.95 else f"{value:.0f}%"


def sparkline(values: Sequence[float], most: float | None = None) -> str:
    """Return values as bars of up to a line's height; what is not zero can be seen."""
    top = max(values, default=0.0) if most is None else most
    if top <= 0:
        return ""
    last = len(_SPARKS) - 1
    return "".join(_SPARKS[0 if value <= 0 else min(max(round(value / top * last), 1), last)] for value in values)


def _title(summary: Summary, colour: bool) -> str:
    numbers = summary.campaigns
    which = f"campaign{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    return paint(f"Report on {which}{f' ({summary.name})' if summary.name else ''}", "bold", on=colour)


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    states = ", ".join(f"{n:,} {state.lower()}" for state, n in summary.tasks.items())
    yield "tasks", f"{sum(summary.tasks.values()):,}{f': {states}' if states else ''}"
    yield "attempts", f"{summary.attempts:,}"
    if summary.begin_at is None:
        return
    yield "first task", clock(summary.begin_at)
    yield (
        "makespan",
        f"{format_duration(summary.makespan_s)}, and {format_duration(summary.turnaround_s)} since submission",
    )
    if summary.efficiency is not None:
        yield "efficiency", f"{percent(summary.efficiency)} of the time of the pilots' cores, until the last task ended"
    if summary.greedy_efficiency is not None:
        yield (
            "greedy",
            f"list scheduling of the same durations would need {percent(summary.greedy_efficiency)} of the time",
        )
    used = summary.utilisation
    if used.cores:
        yield "utilisation", f"{sparkline(_fewer(used.busy, 40), max(used.cores))}  of {max(used.cores):,.0f} cores"
    if summary.clock_shifts:
        yield "clocks", f"those of {count(summary.clock_shifts, 'node')} were corrected"


def _fewer(values: Sequence[float], most: int) -> list[float]:
    step = max(len(values) // most, 1)
    return [sum(values[at : at + step]) / len(values[at : at + step]) for at in range(0, len(values), step)]


def _core_time(spent: CoreTime, width: int | None, colour: bool) -> list[str]:
    total = spent.total
    rows = []
    for name, words in CORE_TIME.items():
        amount = getattr(spent, name)
        if amount > 0 and total:
            bar = "█" * max(round(_BAR * amount / total), 0) or "▏"
            rows.append((words, core_time(amount), percent(amount, total), bar))
    rows.append(("all", core_time(total), "", ""))
    return table(
        [Column("WHAT"), Column("TIME", right=True), Column("PART", right=True), Column("", spare=1)],
        rows, width=width, colour=colour,
    )  # fmt: skip


def _pilots(pilots: Sequence[PilotReport], width: int | None, colour: bool) -> list[str]:
    columns = (
        Column("PILOT", right=True), Column("STATE", state=True), Column("NODES", right=True, spare=4),
        Column("CORES", right=True), Column("WAITED", right=True), Column("FIRST TASK", right=True),
        Column("ALL BUSY", right=True), Column("LAST TASK", right=True), Column("ENDED", right=True, spare=3),
        Column("ATTEMPTS", right=True, spare=2), Column("USEFUL", right=True), Column("GREEDY", right=True, spare=1),
    )  # fmt: skip
    rows = pilot_rows(pilots)
    return table(columns, rows, width=width, colour=colour) if rows else []


def pilot_rows(pilots: Sequence[PilotReport]) -> list[tuple[str, ...]]:
    """Return what a report says of each pilot, in texts."""
    rows: list[tuple[str, ...]] = []
    for pilot in pilots:
        start = pilot.started_at

        def after(at: float | None, start: float | None = start) -> str:
            return "" if at is None or start is None else f"+{format_duration(max(at - start, 0.0))}"

        rows.append((
            str(pilot.id), pilot.state, f"{pilot.nodes:,}", f"{pilot.cores:,}",
            "" if start is None else format_duration(max(start - pilot.submitted_at, 0.0)),
            after(pilot.first_task_at), after(pilot.full_at), after(pilot.last_task_at), after(pilot.ended_at),
            f"{pilot.attempts:,}", percent(pilot.core_s.useful, pilot.core_s.total),
            format_duration(pilot.greedy_s) if pilot.attempts else "",
        ))  # fmt: skip
    return rows


def _tasks(summary: Summary, width: int | None, colour: bool) -> list[str]:
    found = _distributions(
        [
            ("duration", summary.duration_s, format_duration),
            ("peak memory", summary.peak_bytes, lambda amount: format_memory(int(amount))),
            ("pause between two", summary.gaps_s, format_duration),
        ],
        width, colour,
    )  # fmt: skip
    if summary.kinds:
        found += ["", *_kinds(summary.kinds, width, colour)]
    return found


def _distributions(rows: Sequence[tuple[str, Distribution, object]], width: int | None, colour: bool) -> list[str]:
    columns = [
        Column(""), *(Column(name, right=True) for name in ("MEDIAN", "MEAN", "P90", "P99", "MOST")),
        Column("HISTOGRAM", spare=1),
    ]  # fmt: skip
    cells = []
    for name, found, words in rows:
        if found.count and callable(words):
            numbers = (found.median, found.mean, found.p90, found.p99, found.most)
            ends = f"{words(found.least)} {sparkline(found.counts)} {words(found.most)}"
            cells.append((name, *map(words, numbers), ends))
    return table(columns, cells, width=width, colour=colour) if cells else []


def _kinds(kinds: Sequence[Kind], width: int | None, colour: bool) -> list[str]:
    columns = (
        Column("COMMAND"), Column("CORES", right=True), Column("ATTEMPTS", right=True), Column("MEDIAN", right=True),
        Column("LONGEST", right=True, spare=2), Column("PEAK", right=True),
        Column("RESERVED", right=True, optional=True), Column("CPU", right=True),
        Column("NOT COMPUTED", right=True, spare=1),
    )  # fmt: skip
    rows = [(shorten(plain(command), 60), *others) for command, *others in kind_rows(kinds)]
    return table(columns, rows, width=width, colour=colour)


def kind_rows(kinds: Sequence[Kind]) -> list[tuple[str, ...]]:
    """Return what a report says of each kind of task, in texts."""
    return [
        (
            kind.command, f"{kind.ranks} x {kind.cores}" if kind.ranks > 1 else str(kind.cores),
            f"{kind.attempts:,}", format_duration(kind.duration_s.median) if kind.duration_s.count else "",
            format_duration(kind.duration_s.most) if kind.duration_s.count else "",
            format_memory(int(kind.peak_bytes.most)) if kind.peak_bytes.count else "",
            format_memory(kind.memory_bytes) if kind.memory_bytes else "",
            percent(kind.cpu_share) if kind.duration_s.count else "",
            core_time(kind.idle_core_s) if kind.duration_s.count else "",
        )
        for kind in kinds
    ]  # fmt: skip


def _slow_nodes(summary: Summary, width: int | None, colour: bool) -> list[str]:
    slow = [node for node in summary.nodes if node.slow]
    columns = (
        Column("NODE"), Column("ATTEMPTS", right=True), Column("FAILED", right=True), Column("TIME", right=True),
    )  # fmt: skip
    rows = [(node.node, f"{node.attempts:,}", f"{node.failed:,}", f"x {node.factor:.2f}") for node in slow[:_NODES]]
    return table(columns, rows, width=width, colour=colour) if rows else []


def _deaths(summary: Summary, width: int | None, colour: bool) -> list[str]:
    columns = (
        Column("CAUSE"), Column("ATTEMPTS", right=True), Column("TIME", right=True), Column("FOR EXAMPLE"),
        Column("MOSTLY ON", optional=True, spare=1),
    )  # fmt: skip
    rows = [
        (
            f"{death.cause}{f' {death.code}' if death.code else ''}", f"{death.attempts:,}", core_time(death.core_s),
            f"task {death.task}", death.node,
        )
        for death in summary.deaths
    ]  # fmt: skip
    return table(columns, rows, width=width, colour=colour) if rows else []


def _advice(summary: Summary, width: int | None) -> Iterator[str]:
    for one in summary.advice:
        instead = f" instead of {one.now}" if one.now else ""
        words = f"{one.what} of {shorten(plain(one.of), 60)}: {one.ask}{instead}, because {plain(one.reason)}"
        yield from textwrap.wrap(words, max(width or 120, 20), initial_indent="- ", subsequent_indent="  ")
