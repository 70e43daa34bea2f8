"""Start-up times, and the memory of what waits."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.store import serve
from tests.bench.measure import Measured, Series, in_turn, timed
from tests.bench.place import memory_mb, place

_PILOTMTC = str(Path(sys.executable).parent / "pilotmtc")
_TIMEOUT_S = 60.0


def start_up(rounds: int, scale: float, slots: int) -> list[Measured]:
    """`pilotmtc --help`, and `pilotmtc run` on a store that is not there yet until the first result is on stdout."""
    values = in_turn(
        {
            "pilotmtc --help": lambda: timed(lambda: _quiet([_PILOTMTC, "--help"])),
            "python -c 'import click'": lambda: timed(lambda: _quiet([sys.executable, "-c", "import click"])),
            "python -c pass": lambda: timed(lambda: _quiet([sys.executable, "-c", "pass"])),
            "pilotmtc run": _first_result,
        },
        3 * rounds,
    )
    series = {name: Series(name, "s", tuple(found), best=min) for name, found in values.items()}
    first = series.pop("pilotmtc run")
    return [
        Measured("pilotmtc --help", series["pilotmtc --help"].value, "s", 0.15, series=tuple(series.values())),
        Measured(
            "pilotmtc run 'echo {}' ::: 1, to the first result", first.value, "s", 0.4, series=(first,),
            note="least of the rounds; a new store: its server and a pilot are started on the way",
        ),
    ]  # fmt: skip


def waiting(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Memory of a waiting `serve`, the server of a new store, and the agent of a pilot that waits."""
    with place() as here:
        here.client.call(GetStore())
        here.pilot(slots)
        time.sleep(1.0)
        found = {
            "waiting serve": (_pids(here.mark, os.path.basename(serve.__file__)), 12.0),
            "store server, new store": (here.processes("pilotmtc.store.server"), 80.0),
            "agent, waiting": (here.processes("pilotmtc.agent --store"), 150.0),
            "the agent's guard": (_pids(here.mark, "mtc-guard"), None),
        }
        return [
            Measured(f"memory: {name}", max(memory_mb(pid)[0] for pid in pids), "MB", budget)
            for name, (pids, budget) in found.items()
            if pids
        ]


def _pids(mark: str, what: str) -> list[int]:
    from tests.support import processes_with

    return [pid for pid, command in processes_with(mark).items() if what in command]


def _first_result() -> float:
    with place() as here:
        here.client.close()  # the server leaves; run starts one
        store = str(here.directory / "other.db")
        started = time.perf_counter()
        with subprocess.Popen(
            [_PILOTMTC, "--store", store, "run", "echo {}", ":::", "1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            line = process.stdout.readline()
            elapsed = time.perf_counter() - started
            _, words = process.communicate(timeout=_TIMEOUT_S)
        if line != b"1\n" or process.returncode != 0:
            raise RuntimeError(f"pilotmtc run printed {line!r} and ended with {process.returncode}: {words!r}")
        return elapsed


def _quiet(argv: Sequence[str]) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=_TIMEOUT_S)
