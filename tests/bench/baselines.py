"""Other ways of running many commands, each a function from command lines to seconds."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.measure import say

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / ".bench"  # not in version control
C_LOOP = "C posix_spawn loop"
PYTHON_LOOP = "Python posix_spawn loop with capture"
_TIMEOUT_S = 900.0

Runner = Callable[[Sequence[str], int], float]


def available() -> dict[str, tuple[Runner, int]]:
    """Return the baselines that are to be had here, with how many tasks are enough of each; install what may be."""
    runners: dict[str, tuple[Runner, int]] = {
        C_LOOP: (c_loop(), 12_000), PYTHON_LOOP: (_python_loop, 12_000), "xargs -P": (_xargs, 6000)
    }  # fmt: skip
    if _have_parallel():
        runners["GNU parallel"] = (_parallel, 600)
    if (hypershell := _hypershell()) is not None:
        runners["HyperShell"] = (hypershell, 1000)
    return runners


def c_loop() -> Runner:
    """Compile the C loop and return it."""
    BUILD.mkdir(exist_ok=True)
    program = BUILD / "spawn"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(HERE / "spawn.c")], check=True, timeout=_TIMEOUT_S)

    return lambda lines, slots: _timed_by_itself([str(program), str(slots)], lines)


def _python_loop(lines: Sequence[str], slots: int) -> float:
    return _timed_by_itself([sys.executable, "-I", "-S", str(HERE / "spawn.py"), str(slots)], lines)


def _timed_by_itself(argv: Sequence[str], lines: Sequence[str]) -> float:
    done = subprocess.run(
        argv, input=_text(lines), stdout=subprocess.PIPE, text=True, check=True, timeout=_TIMEOUT_S
    )  # fmt: skip
    return float(done.stdout)


def _xargs(lines: Sequence[str], slots: int) -> float:
    # The line's words are the command: the fastest way that xargs has, no shell between.
    command = lines[0].split()[0]
    words = [line.partition(" ")[2] or "x" for line in lines]
    return _piped(["xargs", "-P", str(slots), "-n1", command], words)


def _parallel(lines: Sequence[str], slots: int) -> float:
    # The notice about citing it would wait for an answer.
    return _piped(["parallel", "--will-cite", "-j", str(slots)], lines)


def _have_parallel() -> bool:
    if shutil.which("parallel"):
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing GNU parallel by apt")
        done = subprocess.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", "parallel"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return True
    say("GNU parallel is not here (install the package `parallel`): left out")
    return False


def _hypershell() -> Runner | None:
    """HyperShell from PyPI in an environment of its own."""
    place = BUILD / "hypershell"
    program = place / "bin" / "hs"
    if not program.exists():
        say("installing HyperShell into .bench/hypershell")
        try:
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=_TIMEOUT_S)
            subprocess.run(
                [place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "hypershell"],
                check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            say(f"HyperShell cannot be installed: left out ({error})")
            return None

    def run(lines: Sequence[str], slots: int) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-hypershell-") as home:
            environment = os.environ | {"HOME": home, "HYPERSHELL_DATABASE_FILE": str(Path(home, "hs.db"))}
            # A database, as pilotmtc has; bundles, which are faster than its default of one task each.
            return _piped(
                [str(program), "cluster", "-N", str(slots), "--initdb", "--capture", "--no-tls", "-p", "50731",
                 "-b", "64", "-w", "1"],
                lines, environment,
            )  # fmt: skip

    return run


def _piped(argv: Sequence[str], lines: Sequence[str], environment: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    subprocess.run(
        argv, input=_text(lines), env=environment, text=True, check=True, timeout=_TIMEOUT_S,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
