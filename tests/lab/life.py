"""The life of a study, played on a pilot: ``python -m tests.lab.life [--scheduler URL] [--points N]``.

A program in three versions, points added twice, memory that grows, a campaign that halts, hold and release, reruns of
what has changed with what depends on it, and deletion. Every count, and the version behind every result, is checked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., str]

_PROGRAM = """\
import json, os, sys, time

x = int(sys.argv[1])
if x == 3:
    ballast = b"x" * (200 << 20)
    if os.environ["PILOTMTC_ATTEMPT"] == "1":
        time.sleep(60)  # until its memory is seen
print(json.dumps({{"version": {version}, "x": x, "y": x * x + {version}}}))
"""
_TOTAL = """\
import json, pathlib, sys

points = [json.loads(pathlib.Path("out", str(x)).read_text()) for x in range(1, int(sys.argv[1]) + 1)]
print(sum(point["y"] for point in points))
"""
_WAIT_S = 120


_LINE = f"{sys.executable} {{}} {{{{}}}} | tee out/{{{{}}}}"
_GROWS = ["--memory", "100M", "--retries", "2", "--retry-on", "oom", "--retry-memory", "x4", "--max-memory", "1G"]


class Study:
    """The study of somebody in the directory `here`, who gives commands by `cli`; each returns what it printed."""

    def __init__(self, here: Path, cli: Cli, pilot: tuple[str, ...] = ("--cores", "2")) -> None:
        self.here = here
        self.cli = cli
        self._pilot = pilot

    def play(self, points: int) -> None:
        """Play it all with this number of points, at least four, to begin with."""
        self.write(version=1)
        (self.here / "out").mkdir()
        (self.here / "total.py").write_text(_TOTAL)
        self.begin(points)
        self.add(points)
        self.change(points)
        self.edit(points)
        self.halt()
        self.delete(points)

    def write(self, version: int) -> None:
        """Write a version of the program."""
        (self.here / "sim.py").write_text(_PROGRAM.format(version=version))

    def begin(self, points: int) -> None:
        """Submit, with too little memory for one point; hold; start a pilot; release."""
        scan = ["--name", "scan", *_GROWS, "--watch", "sim.py", "--", _LINE.format("sim.py"), ":::", *_words(points)]
        (planned,) = self.records("submit", "--dry-run", "--json", *scan)
        same("planned", planned["tasks"], points)
        self.cli("submit", *scan)
        self.cli("submit", "--name", "total", "--after", f"1-{points}", "--", sys.executable, "total.py", str(points))
        self.cli("hold", "scan")
        self.cli("pilot", "submit", "--idle", "600s", *self._pilot)
        same("held", self.states("scan"), {"READY": points})
        self.cli("release", "scan")
        self.wait("scan", "total")
        self.results("scan", {1: points})
        grown = [task for task in self.records("tasks", "-c", "scan", "--json") if task["attempt"] > 1]
        same("grown", [(task["params"]["1"], task["attempt"]) for task in grown], [("3", 2)])
        self.total(points, version=1)

    def add(self, points: int) -> None:
        """Add points twice, some of them again."""
        self.cli("add", "scan", ":::", str(points + 1), str(points + 2))
        self.cli("add", "scan", "--new-only", ":::", str(points + 2), str(points + 3))
        self.wait("scan")
        self.results("scan", {1: points + 3})

    def change(self, points: int) -> None:
        """Change the program, add a point that only the new one has run, and run again what the old one ran."""
        self.write(version=2)
        self.cli("add", "scan", ":::", str(points + 4))
        self.wait("scan")
        self.results("scan", {1: points + 3, 2: 1})
        self.cli("rerun", "--changed", "-c", "scan")
        self.wait("scan", "total")
        self.results("scan", {2: points + 4})
        self.total(points, version=2)
        (again,) = self.records("rerun", "--changed", "-c", "scan", "--json")
        same("changed since", again["changed"], 0)

    def edit(self, points: int) -> None:
        """Give tasks that have not begun the command of a third version, and leave the others."""
        (self.here / "sim3.py").write_text(_PROGRAM.format(version=3))
        self.cli("hold", "scan")
        self.cli("add", "scan", ":::", str(points + 5))
        self.cli("edit", "-c", "scan", "--state", "ready", "--command", _LINE.format("sim3.py"))
        self.cli("release", "scan")
        self.wait("scan")
        self.results("scan", {2: points + 4, 3: 1})

    def halt(self) -> None:
        """Stop a campaign that fails, mend it, and let it go on."""
        gently = ["--halt", "2", "--max-running", "1"]
        self.cli("submit", "--name", "broken", *gently, "test -e mended && echo {}", ":::", *_words(6))
        self.wait("broken", code=1)
        found = self.states("broken")
        same("halted", found["FAILED"] < 6 and found["FAILED"] + found["READY"] == 6, True)
        (self.here / "mended").touch()
        self.cli("release", "broken")
        self.cli("retry", "-c", "broken")
        self.wait("broken")
        same("mended", self.states("broken"), {"DONE": 6})

    def delete(self, points: int) -> None:
        """Delete a campaign; the others stay."""
        self.cli("delete", "broken", "--yes")
        same(
            "left",
            {name: sum(counts.values()) for name, counts in self.counts().items()},
            {"scan": points + 5, "total": 1},
        )
        self.cli("store", "check")

    # -- what is looked at -----------------------------------------------------------------------------------------

    def records(self, *words: str) -> list[dict[str, Any]]:
        """Return the JSON objects that a command prints."""
        return [json.loads(line) for line in self.cli(*words).splitlines()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many tasks of each campaign are in each state."""
        (status,) = self.records("status", "--json")
        return {one["name"]: {state: n for state, n in one["counts"].items() if n} for one in status["campaigns"]}

    def states(self, campaign: str) -> Counter[str]:
        """Return how many tasks of a campaign are in each state."""
        return Counter(self.counts()[campaign])

    def wait(self, *campaigns: str, code: int = 0) -> None:
        """Wait for campaigns to end, with this exit code of the command."""
        self.cli("wait", *campaigns, "--timeout", f"{_WAIT_S}s", code=code)

    def results(self, campaign: str, versions: dict[int, int]) -> None:
        """Check that each result is what the version of the program that is on record for it prints."""
        found = self.records("results", campaign, "--json")
        printed = [json.loads(one["stdout"]) for one in found]
        same("values", [one["y"] - one["x"] ** 2 for one in printed], [one["version"] for one in printed])
        same("versions", Counter(one["version"] for one in printed), versions)
        # What pilotmtc has on record for an attempt tells the program's versions apart, too.
        pairs = {(row["version"], one["version"]) for row, one in zip(found, printed, strict=True)}
        same("versions on record", len({theirs for theirs, _ in pairs}), len(versions))

    def total(self, points: int, version: int) -> None:
        """Check what the task that depends on all points has found."""
        (found,) = self.records("results", "total", "--json")
        expected = sum(x * x + version for x in range(1, points + 1))
        same("total", int(found["stdout"]), expected)


def same(what: str, found: object, expected: object) -> None:
    """Raise `AssertionError` unless both are the same."""
    if found != expected:
        raise AssertionError(f"{what}: {found} in place of {expected}")


def _words(number: int) -> list[str]:
    return [str(value) for value in range(1, number + 1)]


def main() -> None:
    """Play it in a directory of its own, at a shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", help="SAGA's URL of a scheduler for the pilot, such as slurm://localhost/")
    parser.add_argument("--points", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:  # where the nodes of a cluster see it
        here = Path(place)
        environment = os.environ | {"PILOTMTC_STORE": str(here / "store.db")}

        def cli(*words: str, code: int = 0) -> str:
            print("pilotmtc", *words[:8], *(["..."] if len(words) > 8 else []), file=sys.stderr)
            command = [sys.executable, "-m", "pilotmtc", *words]
            done = subprocess.run(
                command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True, timeout=2 * _WAIT_S, check=False
            )
            same(f"exit code of {words[0]}", done.returncode, code)
            return done.stdout

        pilot = (
            ("--scheduler", asked.scheduler, "--nodes", "2", "--walltime", "10m")
            if asked.scheduler
            else ("--cores", "2")
        )
        study = Study(here, cli, pilot)
        study.play(asked.points)
        cli("pilot", "cancel", "--all")
    print("all counts and versions are as they must be")


if __name__ == "__main__":
    main()
