"""``python -m weak_scaling run`` measures, ``plot`` and ``page`` show what was measured."""

import argparse
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .engines import ENGINES, Unavailable, python_of, version_of
from .study import LISTS, PARTS, measure_all
from .workload import LEAST_S, MOST_S, PER_CORE

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weak_scaling"


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m weak_scaling", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the tasks on engines, and write what happened to a file")
    run.add_argument(
        "--engines", nargs="+", metavar="NAME", default=list(ENGINES), help=f"of {', '.join(ENGINES)}; default: all"
    )
    run.add_argument(
        "--cores",
        nargs="+",
        type=_positive,
        metavar="N",
        default=[2, 4, 8],
        help="numbers of workers; they may be more than the machine has (default: 2 4 8)",
    )
    run.add_argument(
        "--time-scale",
        type=_scale,
        default=0.01,
        metavar="X",
        help=f"tasks take uniform({LEAST_S:g}, {MOST_S:g}) s times this (default: %(default)s)",
    )
    run.add_argument(
        "--rounds", type=_positive, default=1, metavar="N", help="how often each runs, in turn (default: %(default)s)"
    )
    run.add_argument(
        "--parts", nargs="+", choices=PARTS, default=["scaling"], metavar="PART",
        help=f"what is measured: {', '.join(PARTS)} (default: scaling)",
    )  # fmt: skip
    run.add_argument("--seed", type=int, default=1, help="of the durations (default: %(default)s)")
    run.add_argument(
        "--cache",
        type=Path,
        default=_CACHE,
        metavar="DIR",
        help="where the engines' environments are (default: %(default)s)",
    )
    run.add_argument("--out", type=Path, default=Path("weak_scaling.json"), metavar="FILE", help="default: %(default)s")
    run.set_defaults(do=_run)

    join = commands.add_parser("join", help="make one file of several, as of parts that were measured one by one")
    join.add_argument("files", type=Path, nargs="+", metavar="FILE", help="that run has written")
    join.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new one")
    join.set_defaults(do=_join)

    plot = commands.add_parser("plot", help="draw the figures (needs matplotlib)")
    plot.add_argument("file", type=Path, metavar="FILE", help="that run has written")
    plot.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where the pictures go (default: here)")
    plot.add_argument("--type", choices=("png", "svg", "pdf"), default="png", help="default: %(default)s")
    plot.set_defaults(do=_plot)

    page = commands.add_parser("page", help="print the numbers as a page of Markdown")
    page.add_argument("file", type=Path, metavar="FILE", help="that run has written")
    page.add_argument("--pictures", action="store_true", help="with links to pictures/study, where plot has drawn them")
    page.set_defaults(do=_page)

    asked = parser.parse_args()
    try:
        return int(asked.do(asked))
    except _UsageError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130


class _UsageError(Exception):
    """The text says what is wrong and what to do."""


def _run(asked: argparse.Namespace) -> int:
    if unknown := set(asked.engines) - set(ENGINES):
        raise _UsageError(f"no engine is called {', '.join(sorted(unknown))}: there are {', '.join(ENGINES)}")
    _check_new(asked.out)
    study: dict[str, Any] = {
        "conditions": {
            "began_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "machine_cores": len(os.sched_getaffinity(0)), "load_before": round(os.getloadavg()[0], 2),
            "time_scale": asked.time_scale, "seed": asked.seed, "per_core": PER_CORE, "rounds": asked.rounds,
            "niceness": os.nice(0),
        },
        "versions": {}, "unavailable": {}, "failed": [], **{part: [] for part in LISTS}, "runs": [],
    }  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, too
    pythons = {}
    for name in dict.fromkeys(asked.engines):
        try:
            pythons[name] = python_of(ENGINES[name], asked.cache)
            study["versions"][name] = version_of(ENGINES[name], pythons[name])
        except Unavailable as error:
            study["unavailable"][name] = str(error)
            _say(f"{name} is left out: {error}")
    for made in measure_all(asked, pythons):
        made.into(study)
        _say(made.words)
        study["conditions"]["load_after"] = round(os.getloadavg()[0], 2)
        _write(asked.out, study)
    # What becomes of a killed engine is a result, whatever it is; that it could not be measured is not.
    wrong = [each for part in (*LISTS, "failed") for each in study[part] if "failed" in each or part == "failed"]
    return 1 if wrong or not pythons else 0


def _join(asked: argparse.Namespace) -> int:
    """Write what several files have; conditions are those of the first, and the highest loads of all.

    Runs of weak scaling are added, as those of more rounds are. Of others the last one counts.
    """
    _check_new(asked.out)
    first, *others = [_read(file) for file in asked.files]
    first["conditions"]["joined"] = [each["conditions"]["began_at"] for each in (first, *others)]
    for other in others:
        for part in ("failed", "runs"):
            first[part] += other[part]
        for part in LISTS:
            keys = [[each.get(key) for key in ("engine", "victim", "kind")] for each in other[part]]
            kept = [each for each in first[part] if [each.get(k) for k in ("engine", "victim", "kind")] not in keys]
            first[part] = kept + other[part]
        for part in ("versions", "unavailable"):
            first[part] = other[part] | first[part]
        for load in ("load_before", "load_after"):
            first["conditions"][load] = max(first["conditions"][load], other["conditions"][load])
    done = {(run["engine"], run["cores"]) for run in first["runs"]}
    first["failed"] = [each for each in first["failed"] if (each["engine"], each["cores"]) not in done]
    _write(asked.out, first)
    return 0


def _plot(asked: argparse.Namespace) -> int:
    from . import plot

    asked.into.mkdir(parents=True, exist_ok=True)
    try:
        for file in plot.draw(_read(asked.file), asked.into, asked.type):
            print(file)
    except ModuleNotFoundError as error:
        raise _UsageError(f"there is no {error.name} in this Python: pip install matplotlib") from None
    return 0


def _page(asked: argparse.Namespace) -> int:
    from . import page

    print(page.text(_read(asked.file), pictures=asked.pictures), end="")
    return 0


def _check_new(file: Path) -> None:
    if file.exists():
        raise _UsageError(f"{file} is there already: remove it, or give another --out")
    if not file.absolute().parent.is_dir():
        raise _UsageError(f"--out {file}: there is no such directory; make it first")


def _read(file: Path) -> dict[str, Any]:
    try:
        study = json.loads(file.read_text())
    except OSError as error:
        raise _UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise _UsageError(f"{file} is no file that run has written: it is no JSON") from None
    if not isinstance(study, dict) or not any(study.get(part) for part in ("runs", *LISTS)):
        raise _UsageError(f"{file} has no runs in it: give a file that run has written")
    return study


def _write(file: Path, study: dict[str, Any]) -> None:
    """Write it after each run, whole or not at all; a line for each run."""
    parts = []
    for key, value in study.items():
        rows = ",\n".join(f"  {json.dumps(each)}" for each in value) if isinstance(value, list) else ""
        parts.append(f' "{key}": ' + (f"[\n{rows}\n ]" if rows else json.dumps(value)))
    new = file.with_name(f"{file.name}.new")
    new.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    new.replace(file)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 100.0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and up to 100")
    return value


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
