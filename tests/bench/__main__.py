"""``make bench``: the budgets that exist so far, beside their baselines, measured in one run."""

import argparse
import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pilotmtc import __version__
from pilotmtc.errors import PilotMTCError
from tests.bench import calls, crash, functions, nodes, processes, remote, scale, screen, starting, storage
from tests.bench.measure import Measured, plain, say, table

BENCHMARKS: dict[str, Callable[[int, float, int], list[Measured]]] = {
    "processes": processes.no_ops,
    "sleeps": processes.sleeps,
    "claims": storage.claim_and_finish,
    "submit": storage.submit,
    "delete": storage.delete,
    "calls": calls.calls,
    "starting": starting.start_up,
    "memory": starting.waiting,
    "wide": processes.wide,
    "crash": crash.killed_agent,
    "ssh-claims": remote.claims,
    "ssh-trips": remote.trips,
    "ssh-many": remote.many,
    "ssh-traffic": remote.traffic,
    "nodes": nodes.real,
    "nodes-emulated": nodes.emulated,
    "study": nodes.study,
    "large-study": nodes.large_study,
    "growth-nodes": scale.nodes,
    "growth-tasks": scale.tasks,
    "screen": screen.screen,
    "functions": functions.pools,
    "function-sleeps": functions.sleeps,
    "first-call": functions.first_call,
    "large-values": functions.large,
    "worker-memory": functions.worker_memory,
}


def main() -> int:
    """Measure what the command line asks for; return 1 if a budget is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all without one")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)), help="default: this machine's cores")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tasks, for trying things out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE too; - is stdout instead")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(BENCHMARKS)}")

    results: list[Measured] = []
    broken = []
    for name in asked.names or BENCHMARKS:
        say(f"{name} ...")
        try:
            results += BENCHMARKS[name](asked.rounds, asked.scale, asked.slots)
        except (PilotMTCError, OSError, RuntimeError) as error:  # the others can still be measured
            say(f"{name} could not be measured: {type(error).__name__}: {error}")
            broken.append(name)
    about = {
        "version": __version__,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "rounds": asked.rounds,
        "scale": asked.scale,
    }
    if asked.json is not None:
        text = json.dumps(plain(results, about) | {"broken": broken}, indent=1)
        if str(asked.json) == "-":
            print(text)
        else:
            asked.json.write_text(text + "\n")
    if str(asked.json) != "-":
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(results))
        for name in broken:
            print(f"{name}: could not be measured, see above")
    missed = [result for result in results if result.kept is False]
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
