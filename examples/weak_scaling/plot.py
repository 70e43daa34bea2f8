"""The study's figures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .engines import ENGINES
from .measure import summarise
from .page import by_engine

_STATIC, _DYNAMIC = (
    ("mpi4py-static", "ipyparallel-static", "bash"),
    ("pilotmtc", "pilotmtc-commands", "multiprocessing"),
)


def draw(study: dict[str, Any], into: Path, kind: str) -> Iterator[Path]:
    """Draw all figures of which there is something to show, and yield their files."""
    import matplotlib as mpl

    mpl.use("agg")
    yield _lines(study, into / f"initialisation.{kind}")
    yield _lines(study, into / f"efficiency.{kind}")
    if shown := _chosen(study):
        yield _gantt(shown, into / f"gantt.{kind}")


def _lines(study: dict[str, Any], file: Path) -> Path:
    """Draw a line for each engine against the number of workers."""
    from matplotlib import pyplot as plt

    starting = file.stem == "initialisation"
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, (name, found) in enumerate(by_engine(study).items()):
        points = [(cores, each.filled_s if starting else each.efficiency) for cores, each in found.items()]
        known = [(cores, value) for cores, value in points if value is not None]
        dash = "--" if ENGINES[name].static else "-"
        width = 2.5 if name.startswith("pilotmtc") else 1.2
        axes.plot(
            *zip(*known, strict=True) if known else ([], []),
            dash,
            marker="os^vDP*X"[number % 8],
            lw=width,
            label=ENGINES[name].title,
        )
    cores = sorted({run["cores"] for run in study["runs"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(cores, [str(each) for each in cores])
    axes.set_xlabel("workers")
    if starting:
        axes.set_yscale("log")
        axes.set_ylabel("seconds from start until all workers had a task")
    else:
        first = {run["cores"]: summarise(run).greedy for run in study["runs"]}
        axes.plot(cores, [first[each] for each in cores], ":", color="black", label="greedy, at no cost")
        axes.set_ylabel("efficiency, from the first task's start")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return file


def _chosen(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a static and a dynamic run of the same number of workers, the largest."""
    most = max(run["cores"] for run in study["runs"])
    there = {run["engine"]: run for run in study["runs"] if run["cores"] == most}
    pairs = [next((there[name] for name in names if name in there), None) for names in (_STATIC, _DYNAMIC)]
    return [run for run in pairs if run is not None]


def _gantt(runs: list[dict[str, Any]], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(runs), figsize=(5 * len(runs), 4), layout="constrained", squeeze=False, sharey=True
    )
    for one, run in zip(axes[0], runs, strict=True):
        began = min(row[0] for row in run["ran"])
        bars: dict[int, list[tuple[float, float]]] = {}
        for start, end, lane in run["ran"]:
            bars.setdefault(lane, []).append((start - began, end - start))
        for lane, spans in bars.items():
            one.broken_barh(spans, (lane + 0.1, 0.8), facecolors=("tab:blue", "tab:cyan"))
        one.set_title(ENGINES[run["engine"]].title)
        one.set_xlabel("seconds since the first task began")
    axes[0][0].set_ylabel("worker")
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return file
