"""Where the time of every core went, from the first to the last moment of each pilot."""

import math
from array import array
from collections.abc import Collection, Mapping

from msgspec import Struct, structs

from pilotmtc.report.measure.columns import RUNNING, Attempts, places_of
from pilotmtc.report.records import CoreTime
from pilotmtc.states import NOT_CHARGED, Cause

SHORT_S = 1.0  # a longer pause between two tasks of a core is want of tasks
_NEVER = -math.inf


class Window(Struct, frozen=True):
    """What is counted of a pilot: its cores from `begin` to `end`, by the store's clock."""

    begin: float
    end: float
    cores: int


class Timeline:
    """What has happened on a pilot's cores.

    Attributes
    ----------
    first_at, last_at
        When the first task started, and when the last one ended; None: there was none.
    needs, durations
        How many cores each attempt had, and for how long, in the order in which they started.
    core_s
        As the fields of `CoreTime`.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.needs: array[int] = array("i")
        self.durations: array[float] = array("d")
        self.core_s = dict.fromkeys(CoreTime.__struct_fields__, 0.0)
        self.cores: list[Core] = []
        self.unplaced_s = 0.0  # lost with the pilot, on cores that nobody knows any more

    @property
    def full_at(self) -> float | None:
        """When all cores that were ever used had a task."""
        return max([core.first_at for core in self.cores], default=None)

    def take(self, used: list["Core"], start: float, end: float, category: str, gaps: "array[float]") -> None:
        """Count an attempt, and the pause before it, on each of its cores."""
        self.first_at = start if self.first_at is None else min(self.first_at, start)
        self.last_at = end if self.last_at is None else max(self.last_at, end)
        self.needs.append(len(used))
        self.durations.append(end - start)
        spent = self.core_s
        latest = max([core.busy_until for core in used])
        shared = 0.0  # what even the last of the cores to be free has waited
        if latest != _NEVER:
            shared = max(start - latest, 0.0)
            gaps.append(shared)
        between = "dispatch" if shared <= SHORT_S else "want_of_tasks"
        for core in used:
            before = core.busy_until
            if before == _NEVER:
                core.first_at = before = start
                self.cores.append(core)
                spent["startup"] += start - self.window.begin
            elif before < start:
                spent[between] += shared
                spent["wide"] += start - before - shared
                before = start
            if end > before:
                spent[category] += end - before
                before = end
            core.busy_until = before

    def close(self) -> CoreTime:
        """Count what comes after the last tasks, and return where the time of all cores went."""
        spent = self.core_s
        begin, end = self.window.begin, self.window.end
        last = begin if self.last_at is None else self.last_at
        for core in self.cores:
            spent["tail"] += last - core.busy_until
            spent["leaving"] += end - last
        spent["unused"] += (self.window.cores - len(self.cores)) * (end - begin)
        for idle in ("leaving", "tail", "unused", "want_of_tasks"):  # where it must have been
            part = min(self.unplaced_s, spent[idle])
            spent[idle] -= part
            spent["lost"] += part
            self.unplaced_s -= part
        return CoreTime(**spent)


class Core:
    """A core: since when, and until when, it was in use."""

    __slots__ = ("busy_until", "first_at")

    def __init__(self) -> None:
        self.first_at = _NEVER
        self.busy_until = _NEVER


def timelines(
    attempts: Attempts, starts: "array[float]", windows: Mapping[int, Window], campaigns: Collection[int]
) -> tuple[dict[int, Timeline], "array[float]"]:
    """Return what has happened on the cores of each pilot, and the pauses between two tasks of a slot.

    Parameters
    ----------
    starts
        When each attempt started, by the store's clock.
    windows
        By pilot; attempts of other pilots are left out.
    campaigns
        Those that the report is about.
    """
    lines = {pilot: Timeline(window) for pilot, window in windows.items()}
    cores: dict[tuple[int, str, int], Core] = {}
    slots: dict[tuple[int, int, int], list[Core]] = {}
    gaps = array("d")
    for at in sorted(range(len(attempts)), key=starts.__getitem__):
        pilot = attempts.pilot[at]
        line = lines.get(pilot)
        if line is None:
            continue
        window = line.window
        start = max(starts[at], window.begin)
        end = min(starts[at] + attempts.elapsed_s[at], window.end)
        slot = (pilot, attempts.node[at], attempts.slot[at])
        used = slots.get(slot)
        if used is None:
            where = places_of(attempts.texts[slot[1]], attempts.texts[slot[2]])
            used = slots[slot] = [cores.setdefault((pilot, *core), Core()) for core in where]
        if used:
            if end >= start:
                line.take(used, start, end, _category(attempts, at, campaigns), gaps)
        elif attempts.cause[at] in NOT_CHARGED and starts[at] > 0:
            need = attempts.resources[attempts.resources_id[at]]
            until = min(attempts.recorded_at[at], window.end)
            line.unplaced_s += need.cores * need.ranks * max(until - start, 0.0)
    for line in lines.values():  # cores that were not reported, such as those of nodes that came back under other names
        if len(line.cores) > line.window.cores:
            line.window = structs.replace(line.window, cores=len(line.cores))
    return lines, gaps


def _category(attempts: Attempts, at: int, campaigns: Collection[int]) -> str:
    cause = attempts.cause[at]
    if attempts.campaign[at] not in campaigns:
        return "others"
    if cause == RUNNING:
        return "running"
    if attempts.succeeded(at):
        return "useful"
    if cause == Cause.CANCELED:
        return "canceled"
    return "lost" if cause in NOT_CHARGED else "failed"
