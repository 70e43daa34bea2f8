"""Puts a report together."""

from array import array
from collections.abc import Collection, Iterator, Sequence

from pilotmtc.model import Campaign, Pilot
from pilotmtc.report.greedy import makespan
from pilotmtc.report.measure.advice import advice
from pilotmtc.report.measure.clocks import shifts
from pilotmtc.report.measure.columns import RUNNING, Attempts
from pilotmtc.report.measure.distribution import distribution
from pilotmtc.report.measure.kinds import deaths, kinds, nodes
from pilotmtc.report.measure.timeline import Timeline, Window, timelines
from pilotmtc.report.measure.utilisation import utilisation
from pilotmtc.report.records import CoreTime, PilotReport, Summary, Utilisation
from pilotmtc.states import TaskState


class Past:
    """What a report is made of.

    Attributes
    ----------
    attempts
        Those of the campaigns, and of others on the same pilots; with times as the nodes have measured them.
    campaigns
        Those that the report is about.
    pilots
        Those that ran the attempts, and those that were only there for the campaigns.
    now
        The time of the store's host.
    starts
        When each attempt started, by the clock of the store's host.
    shifts
        What that added to the times of each node, by the index of its name.
    """

    def __init__(self, attempts: Attempts, campaigns: Sequence[Campaign], pilots: Sequence[Pilot], now: float) -> None:
        self.attempts = attempts
        self.campaigns = campaigns
        self.pilots: dict[int, Pilot] = {pilot.id: pilot for pilot in pilots}
        self.now = now
        known: dict[int, float] = {pilot.id: pilot.started_at for pilot in pilots if pilot.started_at is not None}
        self.shifts = moved = shifts(attempts, known)
        self.starts = array("d", (
            at if cause == RUNNING else at + moved.get(node, 0.0)
            for at, node, cause in zip(attempts.started_at, attempts.node, attempts.cause, strict=True)
        ))  # fmt: skip


def make_summary(past: Past) -> Summary:
    """Return all numbers of a report."""
    attempts, starts, campaigns, now = past.attempts, past.starts, past.campaigns, past.now
    wanted = frozenset(campaign.id for campaign in campaigns)
    created_at = min((campaign.created_at for campaign in campaigns), default=now)
    own = [at for at in range(len(attempts)) if attempts.campaign[at] in wanted and starts[at] > 0]
    begin_at = min((starts[at] for at in own), default=None)
    end_at = max((starts[at] + attempts.elapsed_s[at] for at in own), default=None)
    windows = _windows(past, wanted, created_at)
    lines, gaps = timelines(attempts, starts, windows, wanted)
    spent = {pilot: line.close() for pilot, line in lines.items()}
    whole = CoreTime(**{name: sum(getattr(one, name) for one in spent.values()) for name in CoreTime.__struct_fields__})
    known = past.pilots
    reports = {pilot: _pilot(known[pilot], line, spent[pilot]) for pilot, line in sorted(lines.items())}
    efficiency, greedy_efficiency = _efficiencies(reports.values(), whole, end_at)
    found = kinds(attempts, wanted)
    counts: dict[str, int] = {}
    for campaign in campaigns:
        for state, number in campaign.counts.items():
            counts[state.name] = counts.get(state.name, 0) + number
    good = [at for at in own if attempts.succeeded(at)]

    def greedy(pilot: int, cores: int) -> float:
        return makespan(zip(lines[pilot].needs, lines[pilot].durations, strict=True), cores)

    return Summary(
        campaigns=tuple(sorted(wanted)),
        name=", ".join(campaign.name for campaign in campaigns if campaign.name),
        read_at=now,
        tasks={state.name: counts[state.name] for state in TaskState if counts.get(state.name)},
        attempts=len(own),
        created_at=created_at,
        begin_at=begin_at,
        end_at=end_at,
        makespan_s=0.0 if begin_at is None or end_at is None else end_at - begin_at,
        turnaround_s=0.0 if end_at is None else max(end_at - created_at, 0.0),
        efficiency=efficiency,
        greedy_efficiency=greedy_efficiency,
        core_s=whole,
        duration_s=distribution(attempts.elapsed_s[at] for at in good),
        peak_bytes=distribution(attempts.memory_bytes[at] for at in good if attempts.memory_bytes[at]),
        gaps_s=distribution(gaps),
        utilisation=_utilisation(attempts, starts, own, lines, end_at),
        pilots=tuple(reports.values()),
        kinds=found,
        nodes=nodes(attempts, wanted, past.shifts),
        deaths=deaths(attempts, wanted),
        advice=advice(found, [(known[id_], report) for id_, report in reports.items() if report.attempts], greedy),
        clock_shifts=sum(shift != 0 for shift in past.shifts.values()),
    )


def _windows(past: Past, campaigns: Collection[int], created_at: float) -> dict[int, Window]:
    """Return what is counted of each pilot: if others share it, what lies between the campaigns' first and last."""
    attempts, starts, now = past.attempts, past.starts, past.now
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for at in range(len(attempts)):
        if attempts.campaign[at] in campaigns and starts[at] > 0:
            by = attempts.pilot[at]
            first[by] = min(first.get(by, starts[at]), starts[at])
            end = starts[at] + attempts.elapsed_s[at]
            last[by] = max(last.get(by, end), end)
    over = max(last.values(), default=now)
    found = {}
    for pilot in past.pilots.values():
        own = pilot.description.campaign in campaigns
        if pilot.started_at is None or not (own or pilot.id in first):
            continue
        begin = min(max(pilot.started_at, created_at), first.get(pilot.id, now))
        end = pilot.ended_at if pilot.ended_at is not None else now
        end = max(end if own else min(end, over), last.get(pilot.id, begin), begin)
        found[int(pilot.id)] = Window(begin, end, pilot.cores)
    return found


def _pilot(pilot: Pilot, line: Timeline, spent: CoreTime) -> PilotReport:
    window = line.window
    return PilotReport(
        id=pilot.id,
        state=pilot.state.name,
        nodes=pilot.nodes,
        cores=window.cores,
        submitted_at=pilot.submitted_at if pilot.submitted_at is not None else pilot.created_at,
        started_at=pilot.started_at,
        first_task_at=line.first_at,
        full_at=line.full_at,
        last_task_at=line.last_at,
        ended_at=pilot.ended_at,
        from_at=window.begin,
        until_at=window.end,
        attempts=len(line.needs),
        greedy_s=makespan(zip(line.needs, line.durations, strict=True), window.cores),
        core_s=spent,
    )


def _efficiencies(
    pilots: Collection[PilotReport], spent: CoreTime, end_at: float | None
) -> tuple[float | None, float | None]:
    """Return the useful part of the cores' time up to the last task, and greedy's time as part of the real one."""
    if end_at is None:
        return None, None
    had = sum(pilot.cores * max(min(pilot.until_at, end_at) - pilot.from_at, 0.0) for pilot in pilots)
    begin = min((pilot.from_at for pilot in pilots if pilot.attempts), default=end_at)
    greedy = max((pilot.from_at + pilot.greedy_s for pilot in pilots if pilot.attempts), default=end_at)
    real = max((pilot.last_task_at or begin for pilot in pilots if pilot.attempts), default=end_at) - begin
    return spent.useful / had if had else None, min((greedy - begin) / real, 1.0) if real > 0 else None


def _utilisation(
    attempts: Attempts, starts: "array[float]", own: Sequence[int], lines: dict[int, Timeline], end_at: float | None
) -> Utilisation:
    used = [line.window for line in lines.values()]
    begin = min((window.begin for window in used), default=0.0)

    def spans() -> Iterator[tuple[float, float, int]]:
        cores: dict[tuple[int, int], int] = {}
        for at in own:
            need = attempts.resources[attempts.resources_id[at]]
            place = (attempts.node[at], attempts.slot[at])
            if place not in cores:
                cores[place] = attempts.cores(at)
            yield starts[at], starts[at] + attempts.elapsed_s[at], cores[place] or need.cores * need.ranks

    return utilisation(spans(), [(one.begin, one.end, one.cores) for one in used], begin, end_at or begin)
