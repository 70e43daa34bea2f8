"""Tasks by command and resources: what they needed of what was reserved for them; and the pace of nodes."""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from pilotmtc.model import Resources
from pilotmtc.report.measure.columns import RUNNING, Attempts
from pilotmtc.report.measure.distribution import distribution, percentile
from pilotmtc.report.records import Death, Kind, NodePace
from pilotmtc.states import Cause

SHOWN = 20  # kinds and deaths; the largest
_MOST_KINDS = 2_000  # all further ones count as one
_SLOW = 1.1  # times the median
_SURE = 3.0  # standard errors
_ENOUGH = 5  # attempts
_REST = (0, 0)


class _Sums:
    """What the attempts of one kind add up to."""

    def __init__(self) -> None:
        self.durations: array[float] = array("d")
        self.peaks: array[float] = array("d")
        self.core_s = self.reserved_core_s = self.cpu_s = self.unused_byte_s = 0.0
        self.attempts = self.timeouts = self.ooms = 0


def _kinds(attempts: Attempts, campaigns: Collection[int]) -> dict[tuple[int, int], _Sums]:
    """Return what the attempts of each template with each resources add up to."""
    found: dict[tuple[int, int], _Sums] = {}
    for at in range(len(attempts)):
        cause = attempts.cause[at]
        if attempts.campaign[at] not in campaigns or cause == RUNNING:
            continue
        kind = (attempts.template[at], attempts.resources_id[at])
        sums = found.get(kind)
        if sums is None:
            if len(found) >= _MOST_KINDS:
                kind = _REST
            sums = found.setdefault(kind, _Sums())
        need = attempts.resources[attempts.resources_id[at]]
        elapsed_s, peak = attempts.elapsed_s[at], attempts.memory_bytes[at]
        cores = need.cores * need.ranks
        sums.attempts += 1
        sums.core_s += elapsed_s * cores
        sums.timeouts += cause == Cause.TIMEOUT
        sums.ooms += cause == Cause.OOM
        if attempts.succeeded(at):
            sums.durations.append(elapsed_s)
            sums.reserved_core_s += elapsed_s * cores
            sums.cpu_s += attempts.cpu_s[at]
            if peak:
                sums.peaks.append(peak)
                sums.unused_byte_s += max(need.memory_bytes - peak, 0) * need.ranks * elapsed_s
    return found


def kinds(attempts: Attempts, campaigns: Collection[int]) -> tuple[Kind, ...]:
    """Return the kinds that took most time of cores."""
    found = _kinds(attempts, campaigns)
    largest = sorted(found, key=lambda kind: (-found[kind].core_s, kind))[:SHOWN]
    return tuple([_kind(attempts, kind, found[kind]) for kind in largest])


def _kind(attempts: Attempts, kind: tuple[int, int], sums: _Sums) -> Kind:
    template, resources = kind
    need = attempts.resources.get(resources, Resources())
    reserved = sums.reserved_core_s
    return Kind(
        command="all other commands" if kind == _REST else attempts.commands.get(template, ""),
        cores=need.cores,
        ranks=need.ranks,
        gpus=need.gpus,
        memory_bytes=need.memory_bytes,
        time_limit_s=need.time_limit_s,
        expected_s=need.expected_s,
        attempts=sums.attempts,
        core_s=sums.core_s,
        duration_s=distribution(sums.durations),
        peak_bytes=distribution(sums.peaks),
        cpu_share=sums.cpu_s / reserved if reserved else 0.0,
        idle_core_s=max(reserved - sums.cpu_s, 0.0),
        idle_byte_s=sums.unused_byte_s,
        timeouts=sums.timeouts,
        ooms=sums.ooms,
    )


def nodes(attempts: Attempts, campaigns: Collection[int], shifts: Mapping[int, float]) -> tuple[NodePace, ...]:
    """Return the pace of each node, the slowest first.

    Durations are compared with the median of their kind, as logarithms: a task that takes twice as long counts as much
    as one that takes half as long.
    """
    by_kind: dict[tuple[int, int], list[float]] = defaultdict(list)
    rows = [
        at for at in range(len(attempts))
        if attempts.campaign[at] in campaigns and attempts.succeeded(at) and attempts.elapsed_s[at] > 0
    ]  # fmt: skip
    for at in rows:
        by_kind[attempts.template[at], attempts.resources_id[at]].append(attempts.elapsed_s[at])
    medians = {kind: percentile(sorted(durations), 0.5) for kind, durations in by_kind.items()}
    sums: dict[int, tuple[int, float, float]] = {}
    for at in rows:
        ratio = math.log(attempts.elapsed_s[at] / medians[attempts.template[at], attempts.resources_id[at]])
        count, total, squares = sums.get(attempts.node[at], (0, 0.0, 0.0))
        sums[attempts.node[at]] = (count + 1, total + ratio, squares + ratio * ratio)
    failed = Counter(
        attempts.node[at] for at in range(len(attempts))
        if attempts.campaign[at] in campaigns and attempts.cause[at] not in (RUNNING, Cause.CANCELED)
        and not attempts.succeeded(at)
    )  # fmt: skip
    found = []
    for node in sums.keys() | failed.keys() | shifts.keys():
        if not node:
            continue
        count, total, squares = sums.get(node, (0, 0.0, 0.0))
        mean = total / count if count else 0.0
        spread = math.sqrt(max(squares / count - mean * mean, 0.0) / max(count - 1, 1)) if count else 0.0
        slow = count >= _ENOUGH and len(sums) > 1 and mean > math.log(_SLOW) and mean > _SURE * spread
        found.append(NodePace(attempts.texts[node], count, failed[node], math.exp(mean), shifts.get(node, 0.0), slow))
    return tuple(sorted(found, key=lambda node: (-node.slow, -node.factor, node.node)))


def deaths(attempts: Attempts, campaigns: Collection[int]) -> tuple[Death, ...]:
    """Return how attempts ended that did not succeed, the most frequent first."""
    counts: Counter[tuple[int, int]] = Counter()
    core_s: dict[tuple[int, int], float] = defaultdict(float)
    example: dict[tuple[int, int], int] = {}
    where: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for at in range(len(attempts)):
        cause = attempts.cause[at]
        if cause == RUNNING or attempts.campaign[at] not in campaigns or attempts.succeeded(at):
            continue
        how = (cause, attempts.code[at])
        need = attempts.resources[attempts.resources_id[at]]
        counts[how] += 1
        core_s[how] += attempts.elapsed_s[at] * need.cores * need.ranks
        example.setdefault(how, attempts.task[at])
        if attempts.node[at]:
            where[how][attempts.node[at]] += 1
    return tuple([
        Death(Cause(how[0]).name, how[1], count, core_s[how], example[how], _most(attempts, where[how]))
        for how, count in counts.most_common(SHOWN)
    ])  # fmt: skip


def _most(attempts: Attempts, where: Counter[int]) -> str:
    return attempts.texts[where.most_common(1)[0][0]] if where else ""
