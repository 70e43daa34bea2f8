"""The tables of what was killed, of late workers, of memory and of realistic tasks; only of what was measured."""

from typing import Any

from .engines import ENGINES
from .faults import PROGRAM, WORKER
from .realistic import KINDS

_MB = 1_000_000


def kills(study: dict[str, Any]) -> str:
    """Return a line for each process that was killed."""
    rows = []
    for each in sorted(study["kills"], key=lambda each: list(ENGINES).index(each["engine"])):
        cells = [_title(each), each["victim"]]
        if "failed" in each:
            rows.append([*cells, f"not measured: {_short(each['failed'])}", "", "", ""])
            continue
        cells.append(f"no: {_short(each['reason'])}" if each["reason"] else "yes")
        again = each["again"]
        cells.append("" if again is None else f"no: {_short(again)}" if again else "yes")
        rows.append([*cells, str(each["lost"]), str(each["twice"])])
    return table(["engine", "killed", "went on by itself", "started again, it ended", "lost", "done twice"], rows)


def late(study: dict[str, Any]) -> str:
    """Return a line for each engine to which workers were added."""
    notes, rows = _Notes(), []
    for each in sorted(study["late"], key=lambda each: list(ENGINES).index(each["engine"])):
        if "busy" not in each:
            rows.append([_title(each), notes.dash(each), notes.dash(each)])
        else:
            used = each["used_s"]
            rows.append(
                [_title(each), "not in time" if used is None else f"{used:.1f}", f"{each['busy']} of {each['asked']}"]
            )
    return table(["engine", "s until used", "busy at the same time"], rows) + notes.text()


def memory(study: dict[str, Any]) -> str:
    """Return the memory of each engine, by differences of sizes, and whether workers remember."""
    peaks: dict[str, dict[int, list[int]]] = {}
    for run in study["runs"]:
        if run.get("peak_bytes"):
            peaks.setdefault(run["engine"], {}).setdefault(run["cores"], []).append(run["peak_bytes"])
    remembers = {each["engine"]: each["state"] for each in study["realistic"] if "state" in each}
    rows = []
    for name in (name for name in ENGINES if name in peaks or name in remembers):
        found = {cores: min(each) for cores, each in peaks.get(name, {}).items()}
        few, many = (min(found), max(found)) if found else (0, 0)
        cells = ["", ""]
        if many > few:
            each_one = (found[many] - found[few]) / (many - few)
            cells = [f"{max(0.0, each_one) / _MB:.0f}", f"{max(0.0, found[few] - few * each_one) / _MB:.0f}"]
        state = "" if name not in remembers else "yes" if remembers[name] else "no"
        rows.append([ENGINES[name].title, *cells, state])
    return table(["engine", "MB for each worker", "MB beside them", "what a task leaves is there for the next"], rows)


def realistic(study: dict[str, Any]) -> str:
    """Return a line for each engine, with the efficiencies of all kinds of tasks."""
    found = {(each["engine"], each["kind"]): each for each in study["realistic"]}
    notes, rows = _Notes(), []
    for name in (name for name in ENGINES if any(engine == name for engine, _ in found)):
        cells = [ENGINES[name].title]
        for kind in KINDS:
            each = found.get((name, kind))
            cells.append(
                "" if each is None else f"{each['efficiency']:.2f}" if "efficiency" in each else notes.dash(each)
            )
        rows.append(cells)
    return table(["engine", *(kind.title for kind in KINDS.values())], rows) + notes.text()


def losses(study: dict[str, Any], ours: tuple[str, ...]) -> list[str]:
    """Return in which of these tables others are before each of ours."""
    said = []
    for name in ours:
        for kind, made in KINDS.items():
            there = {
                each["engine"]: each["efficiency"]
                for each in study["realistic"]
                if each["kind"] == kind and "efficiency" in each
            }
            others = [other for other in there if other not in ours]
            if name in there and others:
                ahead = [ENGINES[other].title for other in others if there[other] > there[name]]
                what = f"{len(ahead)} of {len(others)} were more efficient than {ENGINES[name].title}"
                said.append(f"- Tasks of the kind “{made.title}”: {what}{_named(ahead)}.")
        used = {each["engine"]: each["used_s"] for each in study["late"] if each.get("used_s") is not None}
        if name in used:
            ahead = [ENGINES[other].title for other in used if other not in ours and used[other] < used[name]]
            said.append(f"- {len(ahead)} used late workers sooner than {ENGINES[name].title}{_named(ahead)}.")
    good = [each for each in study["kills"] if not each.get("reason", "-") and not each["lost"] and not each["twice"]]
    for victim in (WORKER, PROGRAM):
        there = {each["engine"]: each["took_s"] for each in good if each["victim"] == victim}
        for name in (name for name in ours if name in there):
            ahead = [ENGINES[other].title for other in there if other not in ours and there[other] < there[name]]
            what = f"with a killed {victim}, {len(ahead)} did all tasks once and sooner than {ENGINES[name].title}"
            said.append(f"- {what[0].upper()}{what[1:]}{_named(ahead)}.")
    return said


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown; "" without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


class _Notes:
    """Reasons, each under its number, which stands in a table instead of a value."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def dash(self, record: dict[str, Any]) -> str:
        reason = record.get("cannot") or f"failed: {_short(record['failed'])}"
        if reason not in self._reasons:
            self._reasons.append(reason)
        return f"- ({1 + self._reasons.index(reason)})"

    def text(self) -> str:
        return "".join(
            f"\n{'' if number else chr(10)}{1 + number}. {reason}" for number, reason in enumerate(self._reasons)
        )


def _title(record: dict[str, Any]) -> str:
    return ENGINES[record["engine"]].title


def _named(titles: list[str]) -> str:
    return f": {'; '.join(titles)}" if titles else ""


def _short(reason: str) -> str:
    """Return a reason that fits in a cell."""
    text = " ".join(reason.replace("|", "/").split())
    return text if len(text) <= 160 else f"{text[:157]}..."
