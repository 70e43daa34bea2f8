"""A report as a figure, by matplotlib if it is installed."""

from typing import IO, TYPE_CHECKING, Any

from pilotmtc.errors import UsageError
from pilotmtc.report.report import Report
from pilotmtc.report.show.gantt_data import WAYS, way_of
from pilotmtc.report.show.lanes import Lanes
from pilotmtc.report.show.text import CORE_TIME, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = dict(zip(WAYS, ("#2a78d6", "#d03b3b", "#8a5a00", "#7b6f9c", "#1d9a8b", "#b5b2a8"), strict=True))
_MOST_LANES = 1_000  # more than there are pixels
_SIZE, _DPI = (11.0, 8.0), 150


def plot(report: Report, stream: IO[bytes], form: str) -> None:
    """Write the figure as ``png`` or ``svg``.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: that needs a backend, and keeps figures
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'pilotmtc[plot]'") from error
    summary = report.summary
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    slots, cores, durations, spent = figure.subplots(2, 2).flat
    numbers = ", ".join(map(str, summary.campaigns))
    words = f"campaign {numbers}" + (f" ({summary.name})" if summary.name else "")
    if summary.efficiency is not None:
        words += f": efficiency {percent(summary.efficiency)}"
    figure.suptitle(words)
    _slots(report, slots)
    _cores(report, cores)
    _durations(report, durations)
    _spent(report, spent)
    figure.savefig(stream, format=form)


def _slots(report: Report, axes: "Axes") -> None:
    """Draw what ran on each core; with very many of them, on some, evenly chosen."""
    from matplotlib.collections import PolyCollection

    past = report.past
    lanes = Lanes(past)
    step = max(-(-len(lanes.lanes) // _MOST_LANES), 1)
    begin = report.summary.begin_at or 0.0
    wanted = {campaign.id for campaign in past.campaigns}
    bars: dict[str, list[list[tuple[float, float]]]] = {}
    for at, lane, start, end in lanes.spans():
        if lane % step == 0:
            left, right, low, high = start - begin, end - begin, lane // step, lane // step + 0.9
            corners = [(left, low), (right, low), (right, high), (left, high)]
            bars.setdefault(WAYS[way_of(past, at, wanted)], []).append(corners)
    for way in WAYS:
        if found := bars.get(way):
            axes.add_collection(PolyCollection(found, facecolors=COLOURS[way], label=way, rasterized=True))
    axes.autoscale_view()
    if bars:
        axes.legend(fontsize="small", loc="lower right")
    axes.set(title="slots" if step == 1 else f"slots, one of {step}", xlabel="seconds", ylabel="core")


def _cores(report: Report, axes: "Axes") -> None:
    used = report.summary.utilisation
    times = [at * used.step_s for at in range(len(used.cores) + 1)]
    for values, colour, label in ((used.cores, "#d5d3cc", "of pilots"), (used.busy, COLOURS["succeeded"], "in use")):
        if values:
            axes.stairs(values, times, fill=True, color=colour, label=label)
    if used.cores:
        axes.legend(fontsize="small", loc="lower right")
    axes.set(title="cores", xlabel="seconds", ylabel="cores")


def _durations(report: Report, axes: "Axes") -> None:
    found = report.summary.duration_s
    if found.count and found.edges[0] < found.edges[-1]:
        edges: Any = found.edges
        axes.stairs(found.counts, edges, fill=True, color=COLOURS["succeeded"])
        if found.most > 20 * max(found.p10, 1e-9):
            axes.set_xscale("log")
    axes.set(title="durations of tasks that succeeded", xlabel="seconds", ylabel="attempts")


def _spent(report: Report, axes: "Axes") -> None:
    spent = report.summary.core_s
    rows = [(words, getattr(spent, name)) for name, words in CORE_TIME.items() if getattr(spent, name) > 0][::-1]
    colours = {
        words: COLOURS.get("succeeded" if name == "useful" else name, "#a9a69b") for name, words in CORE_TIME.items()
    }
    unit, name = (3600.0, "core-hours") if spent.total >= 3600 else (1.0, "core-seconds")
    for at, (words, amount) in enumerate(rows):
        axes.barh(at, amount / unit, color=colours[words])
        axes.text(amount / unit, at, f" {percent(amount, spent.total)}", va="center", fontsize="small")
    axes.set(title="where the time of cores went", xlabel=name, yticks=range(len(rows)))
    axes.set_yticklabels([words for words, _ in rows], fontsize="small")
    axes.margins(x=0.15)
