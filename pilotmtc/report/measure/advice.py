"""What to ask for next time, and why."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from pilotmtc.model import Pilot
from pilotmtc.report.records import Advice, Kind, PilotReport
from pilotmtc.units import format_duration, format_memory

_SPARE = 1.2  # times what was measured
_MUCH = 1.5  # times what would do: less is not worth a change
_SHORT_S = 0.1  # shorter tasks say little about the cores that they use
_GOOD = 0.9  # efficiency
_POOR = 0.8
_WORTH_S = 600.0
_UNUSED = 0.25  # of all time
_LITTLE = 64 << 20  # memory that is always there
_FACTORS = (0.125, 0.25, 0.5, 2, 4, 8)
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def advice(
    kinds: Iterable[Kind],
    pilots: Sequence[tuple[Pilot, PilotReport]],
    greedy: Callable[[int, int], float],
) -> tuple[Advice, ...]:
    """Return what to ask for next time.

    Parameters
    ----------
    pilots
        Those that ran attempts, as the store has them and what the report says of them.
    greedy
        Returns how long greedy list scheduling of a pilot's durations needs on another number of cores.
    """
    found: list[Advice] = []
    for kind in kinds:
        if kind.duration_s.count or kind.ooms or kind.timeouts:
            found += [*_memory(kind), *_cores(kind), *_time_limit(kind)]
    found += _walltime(pilots, max((kind.duration_s.p99 for kind in kinds), default=0.0))
    found += _size(pilots, greedy)
    return tuple(found)


def _memory(kind: Kind) -> Iterator[Advice]:
    asked, peak = kind.memory_bytes, kind.peak_bytes.most
    enough = max(_round_memory(_SPARE * peak), _LITTLE)
    if kind.ooms:
        ask = max(2 * asked, enough)
        if ask:
            why = f"{_attempts(kind.ooms)} exceeded {format_memory(asked) if asked else 'what the node had'}"
            yield Advice("memory", kind.command, _amount(asked), format_memory(ask), why)
    elif peak and asked > _MUCH * enough:
        why = f"the largest of {kind.peak_bytes.count:,} peaks was {format_memory(int(peak))}"
        yield Advice("memory", kind.command, _amount(asked), format_memory(enough), why)


def _cores(kind: Kind) -> Iterator[Advice]:
    if kind.duration_s.median < _SHORT_S:
        return
    used = kind.cpu_share * kind.cores
    ask = max(1, math.ceil(used - 0.1))
    if kind.cores > 1 and used < kind.cores / 2 and ask < kind.cores:
        yield Advice("cores", kind.command, str(kind.cores), str(ask), f"they computed on {used:.2g} cores on average")
    elif used > 1.3 * kind.cores:
        why = f"they computed on {used:.2g} cores on average, more than were theirs"
        yield Advice("cores", kind.command, str(kind.cores), str(ask), why)


def _time_limit(kind: Kind) -> Iterator[Advice]:
    limit, longest = kind.time_limit_s, kind.duration_s.most
    enough = _round_time(_MUCH * longest)
    if kind.timeouts:
        ask = max(2 * limit, enough)
        why = f"{_attempts(kind.timeouts)} exceeded it"
        if longest:
            why += f"; the longest of the others took {format_duration(longest)}"
        yield Advice("time limit", kind.command, format_duration(limit), format_duration(ask), why)
    elif limit > 2 * enough and kind.duration_s.count >= 10:
        why = f"the longest of {kind.duration_s.count:,} took {format_duration(longest)}; pilots with less time left "
        why += "than the limit do not start them"
        yield Advice("time limit", kind.command, format_duration(limit), format_duration(enough), why)


def _walltime(pilots: Sequence[tuple[Pilot, PilotReport]], typical_s: float) -> Iterator[Advice]:
    limited = [(pilot, report) for pilot, report in pilots if pilot.description.walltime_s and report.started_at]
    if not limited:
        return
    pilot, report = max(limited, key=lambda both: both[1].core_s.total)
    asked = pilot.description.walltime_s
    if report.core_s.lost > 0 and pilot.reason == "walltime":
        why = f"tasks were stopped when the walltime of pilot {pilot.id} ended; that they are expected to take as long "
        why += "lets pilots not start what cannot end in time"
        yield Advice("expected time", f"pilot {pilot.id}", "", format_duration(_round_time(typical_s)), why)
    used = (report.last_task_at or 0.0) - (report.started_at or 0.0)
    if used > 0 and report.ended_at is not None and _round_time(_SPARE * used) < asked / _MUCH:
        why = f"the last task ended after {format_duration(used)}; shorter jobs tend to wait less in queues"
        ask = format_duration(_round_time(_SPARE * used))
        yield Advice("walltime", f"pilot {pilot.id}", format_duration(asked), ask, why)


def _size(pilots: Sequence[tuple[Pilot, PilotReport]], greedy: Callable[[int, int], float]) -> Iterator[Advice]:
    """Advise on the number of cores of the pilot that took most time."""
    if not pilots:
        return
    report = max((report for _, report in pilots), key=lambda report: report.core_s.total)
    spent = report.core_s
    work = spent.useful + spent.failed + spent.lost + spent.canceled + spent.others
    if report.ended_at is None or not work or report.greedy_s <= 0 or report.cores < 1:
        return
    if spent.unused > _UNUSED * spent.total:  # list scheduling would use cores that memory, say, keeps free
        used = max(round(report.cores * (1 - spent.unused / spent.total)), 1)
        why = f"{report.cores - used:,} never had a task: there were too few tasks, or what they need lets no more of "
        why += "them run side by side"
        yield Advice("cores of pilots", f"pilot {report.id}", f"{report.cores:,}", f"{used:,}", why)
        return
    now = work / (report.cores * report.greedy_s)
    node = max(report.cores // max(report.nodes, 1), 1) if report.nodes > 1 else 1
    best: tuple[int, float] | None = None
    for factor in _FACTORS if now >= _GOOD else _FACTORS[:3]:
        cores = max(round(report.cores * factor / node), 1) * node
        needs = greedy(report.id, cores)
        if needs > 0 and work / (cores * needs) >= _GOOD and cores != report.cores:
            best = (cores, needs)
    if best is None:
        return
    cores, needs = best
    asked, ask = f"{report.cores:,}", f"{cores:,}"
    if node > 1:
        asked, ask = f"{asked} on {report.nodes:,} nodes", f"{ask} on {cores // node:,} nodes"
    if cores < report.cores and now < _POOR:
        why = f"greedy scheduling keeps {100 * now:.0f}% of the cores busy, and {cores:,} would need "
        why += f"{format_duration(needs)} rather than {format_duration(report.greedy_s)}"
        yield Advice("cores of pilots", f"pilot {report.id}", asked, ask, why)
    elif cores > report.cores and report.greedy_s >= _WORTH_S:
        why = f"{cores:,} would need {format_duration(needs)} rather than {format_duration(report.greedy_s)}, with at "
        why += f"least {100 * _GOOD:.0f}% of them busy"
        yield Advice("cores of pilots", f"pilot {report.id}", asked, f"up to {ask}", why)


def _attempts(count: int) -> str:
    return f"{count:,} attempt{'' if count == 1 else 's'}"


def _amount(memory: int) -> str:
    return format_memory(memory) if memory else "none"


def _round_memory(amount: float) -> int:
    """Return at least that amount, in steps of about a tenth."""
    step = 1 << 20
    while amount > 16 * step:
        step *= 2
    return math.ceil(amount / step) * step


def _round_time(seconds: float) -> float:
    """Return at least that time, in steps that people use."""
    step = next((step for step in _STEPS_S if seconds <= 12 * step), 3600)
    return float(math.ceil(seconds / step) * step)
