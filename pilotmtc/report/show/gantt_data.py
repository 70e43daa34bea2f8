"""The attempts of a report in columns for the page's chart: compact enough for a million of them.

Spans lie lane by lane, in order; each start is said as the time since the end of the span before it. Of each column the
lowest bytes come first, then the next ones: that is what deflate makes smallest.
"""

import base64
import json
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable

from pilotmtc.report.measure.columns import RUNNING
from pilotmtc.report.measure.make import Past
from pilotmtc.report.show.lanes import Lanes
from pilotmtc.states import NOT_CHARGED, Cause

MOST_SPANS = 2_000_000  # above it, wide tasks are drawn on the first of their cores only
_FINEST_S = 1e-6
_STEPS = 1 << 23  # times are exact to this part of the whole
# How spans are coloured, by their place in this list.
WAYS = ("succeeded", "failed", "lost", "canceled", "running", "others")


def gantt_data(past: Past) -> str:
    """Return base64 of the deflated columns, after a JSON object that says what they are."""
    some = past.attempts
    lanes = Lanes(past)
    spans = list(lanes.spans())
    narrow = len(spans) > MOST_SPANS
    by_lane: list[array[int]] = [array("q") for _ in lanes.lanes]
    starts, ends = array("d"), array("d")
    for number, (at, lane, start, end) in enumerate(spans):
        starts.append(start)
        ends.append(end)
        if not narrow or lane == lanes.of(at)[0]:
            by_lane[lane].append(number)
    which = [spans[number][0] for numbers in by_lane for number in numbers]
    begin = min(starts, default=0.0)
    whole = max(ends, default=0.0) - begin
    unit = max(whole / _STEPS, _FINEST_S)
    gaps, lengths = array("q"), array("q")
    for numbers in by_lane:
        before = 0
        for number in numbers:
            start = max(round((starts[number] - begin) / unit), before)
            end = max(round((ends[number] - begin) / unit), start)
            gaps.append(start - before)
            lengths.append(end - start)
            before = end
    texts = {"": 0}
    wanted = {campaign.id for campaign in past.campaigns}
    columns: dict[str, Iterable[int]] = {
        "gap": gaps,
        "length": lengths,
        "task": _changes([some.task[at] for at in which]),
        "attempt": [some.attempt[at] for at in which],
        "way": [way_of(past, at, wanted) for at in which],
        "cause": [some.cause[at] + 1 for at in which],
        "code": [some.code[at] & 0xFFFF for at in which],
        "name": [texts.setdefault(some.texts[some.name[at]], len(texts)) for at in which],
        "tags": [texts.setdefault(some.texts[some.tags[at]], len(texts)) for at in which],
    }
    packed = {name: _planes(values) for name, values in columns.items()}
    head = {
        "begin": begin, "unit": unit, "whole": whole, "count": len(which), "narrow": narrow,
        "ways": WAYS, "causes": ["RUNNING", *(cause.name for cause in Cause)], "texts": list(texts),
        "lanes": _lanes(lanes, [len(numbers) for numbers in by_lane]),
        "columns": [[name, width] for name, (width, _) in packed.items()],
    }  # fmt: skip
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=True).encode()
    data = b"".join([len(text).to_bytes(4, "little"), text, *(body for _, body in packed.values())])
    return base64.b64encode(zlib.compress(data, 6)).decode()


def way_of(past: Past, at: int, wanted: Collection[int]) -> int:
    """Return how an attempt went, as its place in `WAYS`; `wanted`: the report's campaigns."""
    some = past.attempts
    if some.campaign[at] not in wanted:
        return 5
    cause = some.cause[at]
    if cause == RUNNING:
        return 4
    if some.succeeded(at):
        return 0
    if cause == Cause.CANCELED:
        return 3
    return 2 if cause in NOT_CHARGED else 1


def _lanes(lanes: Lanes, counts: list[int]) -> list[list[object]]:
    """Return the lanes, node by node: pilot, node, cores, and how many spans each of these has."""
    found: list[list[object]] = []
    cores: list[int] = []
    spans: list[int] = []
    for lane, count in zip(lanes.lanes, counts, strict=True):
        if not found or found[-1][:2] != [lane.pilot, lane.node]:
            cores, spans = [], []
            found.append([lane.pilot, lane.node, cores, spans])
        cores.append(lane.core)
        spans.append(count)
    return found


def _changes(values: list[int]) -> list[int]:
    """Return by how much each value differs from the one before, so that it is not negative."""
    found = []
    before = 0
    for value in values:
        change = value - before
        found.append(change << 1 if change >= 0 else (-change << 1) - 1)
        before = value
    return found


def _planes(values: Iterable[int]) -> tuple[int, bytes]:
    """Return how many bytes a value takes, and the values' lowest bytes, the next ones, and so on."""
    whole = array("Q", values)
    most = max(whole, default=0)
    width = max((most.bit_length() + 7) // 8, 1)
    data = whole.tobytes()
    order: Callable[[int], int] = (lambda at: at) if _LITTLE else (lambda at: 7 - at)
    return width, b"".join(data[order(at) :: 8] for at in range(width))


_LITTLE = array("H", [1]).tobytes()[0] == 1
