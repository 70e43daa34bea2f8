"""A report as one HTML page that needs nothing else: no network, no other file."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from pilotmtc.report.records import Distribution, Summary, Utilisation
from pilotmtc.report.report import Report
from pilotmtc.report.show.gantt_data import MOST_SPANS, WAYS, gantt_data
from pilotmtc.report.show.text import CORE_TIME, core_time, kind_rows, percent, pilot_rows
from pilotmtc.text.numbers import count
from pilotmtc.units import format_duration, format_memory

# The colour of each line of core time; what is not here is idle.
_COLOURS = {
    "useful": "succeeded", "running": "running", "failed": "failed", "lost": "lost", "canceled": "canceled",
    "others": "others", "startup": "startup",
}  # fmt: skip
_NODES = 20
_WIDTH, _HEIGHT = 960, 150


def page(report: Report) -> Iterator[str]:
    """Yield the page in pieces."""
    summary = report.summary
    style, script = _file("page.css"), _file("page.js")
    title = f"Campaign{'s' if len(summary.campaigns) > 1 else ''} {', '.join(map(str, summary.campaigns))}"
    if summary.name:
        title += f" ({summary.name})"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing that a name or a command says can run, or load anything.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    yield f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}: report of pilotmtc</title><style>{style}</style></head><body>
<header><h1>{escape(title)}</h1><button id="theme">light or dark</button></header>
"""
    yield from _facts(summary)
    for heading, body in (
        ("Next time", _advice(summary)),
        ("Where the time of cores went", _core_time(summary)),
        ("Cores in use", _utilisation(summary.utilisation)),
        ("Slots", _chart(summary)),
        ("Pilots", _pilots(summary)),
        ("Tasks", _tasks(summary)),
        ("Slow nodes", _slow_nodes(summary)),
        ("How attempts ended that did not succeed", _deaths(summary)),
    ):
        if body:
            yield f"<section><h2>{heading}</h2>\n{body}</section>\n"
    if summary.attempts:
        yield f'<div id="tip" hidden></div>\n<script type="text/plain" id="data">{gantt_data(report.past)}</script>\n'
        yield f"<script>{script}</script>\n"
    yield "</body></html>\n"


def _file(name: str) -> str:
    return files("pilotmtc.report.show").joinpath(name).read_text(encoding="utf-8")


def _facts(summary: Summary) -> Iterator[str]:
    facts = [(f"{sum(summary.tasks.values()):,}", _states(summary)), (f"{summary.attempts:,}", "attempts")]
    if summary.begin_at is not None:
        facts.append((format_duration(summary.makespan_s), "from the first task to the end of the last"))
        facts.append((format_duration(summary.turnaround_s), "since submission"))
    if summary.efficiency is not None:
        facts.append((percent(summary.efficiency), "efficiency: useful part of the pilots' cores"))
    if summary.greedy_efficiency is not None:
        facts.append((percent(summary.greedy_efficiency), "of the time greedy list scheduling would need"))
    if summary.core_s.total:
        facts.append((core_time(summary.core_s.total), "of the pilots"))
    yield '<div class="facts">'
    for number, words in facts:
        yield f'<div class="fact"><b>{escape(number)}</b>{escape(words)}</div>'
    yield "</div>\n"
    if summary.clock_shifts:
        yield f'<p class="quiet">The clocks of {count(summary.clock_shifts, "node")} were corrected.</p>\n'


def _states(summary: Summary) -> str:
    return "tasks: " + ", ".join(f"{n:,} {state.lower()}" for state, n in summary.tasks.items())


def _advice(summary: Summary) -> str:
    lines = []
    for one in summary.advice:
        instead = f" instead of {escape(one.now)}" if one.now else ""
        what = f"{escape(one.what)} of <code>{escape(one.of)}</code>"
        lines.append(f"<li>{what}: <b>{escape(one.ask)}</b>{instead}, because {escape(one.reason)}</li>")
    return f'<ul class="advice">{"".join(lines)}</ul>' if lines else ""


def _core_time(summary: Summary) -> str:
    total = summary.core_s.total
    rows = []
    for name, words in CORE_TIME.items():
        amount = getattr(summary.core_s, name)
        if amount > 0:
            colour = _COLOURS.get(name, "idle")
            width = f"width:{100 * amount / total:.2f}%;background:var(--{colour})"
            bar = f'<td class="bar"><div class="amount" style="{width}"></div></td>'
            numbers = f"<td>{core_time(amount)}</td><td>{percent(amount, total)}</td>"
            rows.append(f'<tr><td class="text">{words}</td>{numbers}{bar}</tr>')
    head = '<tr><th class="text">what</th><th>time</th><th>part</th><th></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>' if rows else ""


def _utilisation(used: Utilisation) -> str:
    if not used.cores:
        return ""
    most = max(used.cores)
    step = _WIDTH / len(used.cores)

    def steps(values: Sequence[float]) -> str:
        high = [
            f"{at * step:.1f},{_HEIGHT - _HEIGHT * value / most:.1f}H{(at + 1) * step:.1f}"
            for at, value in enumerate(values)
        ]
        return f"M0,{_HEIGHT}L" + "L".join(high) + f"V{_HEIGHT}Z"

    length = format_duration(used.step_s * len(used.cores))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="cores in use over time" '
        f'preserveAspectRatio="none" style="height:9rem"><path d="{steps(used.cores)}" fill="var(--idle)"/>'
        f'<path d="{steps(used.busy)}" fill="var(--succeeded)"/></svg>'
        f'<p class="quiet">{length}; the height is {most:,.0f} cores, of which the coloured part was in use.</p>'
    )


def _chart(summary: Summary) -> str:
    if not summary.attempts:
        return ""
    legend = "".join(f'<span><i style="background:var(--{way})"></i>{way}</span>' for way in WAYS)
    return f"""<div id="tools"><input id="search" type="search" placeholder="task number, name, tag, state or cause"
 aria-label="search attempts"><button id="before">before</button><button id="next">next</button>
<button id="whole">whole</button><span id="found" class="quiet" aria-live="polite"></span></div>
<canvas id="gantt" tabindex="0" role="img" aria-label="what ran on each core and when"></canvas>
<div id="legend">{legend}</div>
<p class="quiet">Drag to move; wheel to zoom, with Shift only the cores, with Ctrl only the time; double-click for the
whole. If there are more cores than the chart is high, one a line is drawn, and whatever failed as dots. Tasks of
several cores are on each of them (above {MOST_SPANS:,} bars on the first only).</p>
"""


def _pilots(summary: Summary) -> str:
    heads = ("pilot", "state", "nodes", "cores", "waited", "first task", "all busy", "last task", "ended", "attempts",
             "useful", "greedy")  # fmt: skip
    return _table(heads, pilot_rows(summary.pilots))


def _tasks(summary: Summary) -> str:
    charts = "".join(
        _histogram(title, found, words)
        for title, found, words in (
            ("duration", summary.duration_s, format_duration),
            ("peak memory", summary.peak_bytes, lambda amount: format_memory(int(amount))),
            ("pause between two tasks of a slot", summary.gaps_s, format_duration),
        )
        if found.count
    )
    heads = ("command", "cores", "attempts", "median", "longest", "peak", "reserved", "CPU", "not computed")
    return f'<div class="charts">{charts}</div>{_table(heads, kind_rows(summary.kinds), text=(0,))}'


def _histogram(title: str, found: Distribution, words: object) -> str:
    assert callable(words)
    most = max(found.counts)
    step = _WIDTH / 2 / len(found.counts)
    bars = "".join(
        f'<rect x="{at * step:.1f}" y="{_HEIGHT - (high := max(_HEIGHT * n / most, 2.0 if n else 0.0)):.1f}" '
        f'width="{max(step - 1.5, 1):.1f}" height="{high:.1f}" fill="var(--succeeded)"><title>{n:,}: {words(low)} to '
        f"{words(up)}</title></rect>"
        for at, (n, low, up) in enumerate(zip(found.counts, found.edges[:-1], found.edges[1:], strict=True))
    )  # fmt: skip
    numbers = f"{words(found.least)} to {words(found.most)}; median {words(found.median)}, mean {words(found.mean)}, "
    numbers += f"90% up to {words(found.p90)}, 99% up to {words(found.p99)}"
    return (
        f'<div><p><b>{title}</b></p><svg viewBox="0 0 {_WIDTH // 2} {_HEIGHT}" role="img" '
        f'aria-label="histogram: {title}">{bars}</svg><p class="quiet">{numbers}</p></div>'
    )


def _slow_nodes(summary: Summary) -> str:
    rows = [
        (node.node, f"{node.attempts:,}", f"{node.failed:,}", f"{node.factor:.2f}")
        for node in summary.nodes[:_NODES]
        if node.slow
    ]
    return _table(("node", "attempts", "failed", "times as long"), rows, text=(0,)) if rows else ""


def _deaths(summary: Summary) -> str:
    rows = [
        (f"{one.cause} {one.code or ''}", f"{one.attempts:,}", core_time(one.core_s), f"task {one.task}", one.node)
        for one in summary.deaths
    ]
    return _table(("cause", "attempts", "time", "for example", "mostly on"), rows, text=(0, 4)) if rows else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="text"' if at in text else "" for at in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(word)}</{tag}>" for kind, word in zip(kinds, row, strict=True))

    lines = [cells("th", heads), *(cells("td", row) for row in rows)]
    return f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
