"""Pools of Python functions, ours and others, each driven by ``pools/pool.py`` in processes of its own."""

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.weak_scaling.brokers import redis_program
from examples.weak_scaling.engines import MPI_ENVIRONMENT
from tests.bench.baselines import BUILD
from tests.bench.measure import say
from tests.bench.place import cpu_s
from tests.support import kill, processes_with, wait_until

OURS = "pilotmtc"
_DRIVER = Path(__file__).resolve().parent / "pools" / "pool.py"
_ROOT = _DRIVER.parents[3]
_PYTHON = BUILD / "rivals" / "bin" / "python"
_TIMEOUT_S = 900.0
_HERE = ("pilotmtc", "processes", "multiprocessing_pool")  # which need no environment of their own
# What each needs from PyPI, and how many calls are enough of it.
_PACKAGES = {
    "mpi4py": ("mpi4py", 20_000), "executorlib": ("executorlib", 2000), "parsl": ("parsl", 5000),
    "dask": ("distributed", 5000), "ipyparallel": ("ipyparallel", 3000), "celery": ("celery[redis]", 3000),
}  # fmt: skip
NAMES = {
    "pilotmtc": "pilotmtc", "processes": "ProcessPoolExecutor, chunksize 1",
    "multiprocessing_pool": "multiprocessing.Pool", "mpi4py": "mpi4py.futures", "executorlib": "executorlib",
    "parsl": "Parsl, HTEX", "dask": "dask.distributed", "ipyparallel": "ipyparallel", "celery": "Celery, redis",
}  # fmt: skip


def available() -> dict[str, int]:
    """Return which pools are to be had here, with how many calls are enough of each; install what may be."""
    found = {"pilotmtc": 100_000, "processes": 30_000, "multiprocessing_pool": 100_000}
    for name, (package, enough) in _PACKAGES.items():
        if why := _missing(name, package):
            say(f"{NAMES[name]} is left out: {why}")
        else:
            found[name] = enough
    return found


def _missing(name: str, package: str) -> str:
    """Return why a pool is not to be had; "" if it is."""
    if name == "mpi4py" and shutil.which("mpiexec") is None:
        return "there is no mpiexec (install openmpi-bin or mpich)"
    if name == "celery" and not _have_redis():
        return "its broker is not here (install the package redis-tools)"
    if not _PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(BUILD / "rivals")], check=True, timeout=_TIMEOUT_S)
    if _imports(name):
        return ""
    say(f"installing {package} into .bench/rivals")
    try:
        subprocess.run(
            [_PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", package],
            check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300.0,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        return f"pip does not install it ({error})"
    return "" if _imports(name) else "it cannot be imported"


def _imports(name: str) -> bool:
    module = {"dask": "distributed", "mpi4py": "mpi4py.MPI"}.get(name, name)
    done = subprocess.run([_PYTHON, "-c", f"import {module}"], capture_output=True, timeout=60.0, check=False)
    return done.returncode == 0


def _have_redis() -> bool:
    if redis_program() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing redis-tools by apt")
        subprocess.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", "redis-tools"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300.0, check=False,
        )  # fmt: skip
    return redis_program() is not None


class Driven:
    """A pool that runs.

    Parameters
    ----------
    mark
        What the environment of all its processes holds.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]", mark: str, log: Path) -> None:
        self._name = name
        self._process = process
        self._mark = mark
        self._log = log

    def ask(self, words: str) -> Any:
        """Return what the pool answers to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        """Return what the pool says next."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(_TIMEOUT_S) else ""
        if not line:
            raise RuntimeError(f"{self._name} says nothing any more: {self._log.read_text()[-2000:]}")
        return json.loads(line)

    def cpu(self) -> dict[str, float]:
        """Return the seconds of CPU time that each of its living processes has taken, by kind of process."""
        found: dict[str, float] = {}
        for pid, command in processes_with(self._mark).items():
            with contextlib.suppress(OSError):  # it ended meanwhile
                kind = next((kind for kind, words in _KINDS.items() if words in command), "others")
                found[kind] = found.get(kind, 0.0) + cpu_s(pid)
        return found


_KINDS = {
    "client": "pools/pool.py pilotmtc", "server": "pilotmtc.store.server", "agent": "pilotmtc.agent --store",
    "workers": "functions/worker.py",
}  # fmt: skip


@contextlib.contextmanager
def driven(name: str, slots: int) -> Iterator[Driven]:
    """Start a pool, wait until its workers have begun, and end it."""
    directory = Path(tempfile.mkdtemp(prefix="mtcpool-", dir=os.environ.get("BENCH_DIR")))
    here = {key: str(directory) for key in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME", "TMPDIR")}
    environment = os.environ | here | {
        "PILOTMTC_SERVER_LINGER_S": "1",
        "PYTHONPATH": os.pathsep.join([str(_DRIVER.parent), str(_ROOT)]),
        "PATH": f"{_PYTHON.parent}{os.pathsep}{os.environ['PATH']}",  # parsl and ipyparallel start programs by name
    }  # fmt: skip
    python = sys.executable if name in _HERE else str(_PYTHON)
    argv = [python, str(_DRIVER), name, str(slots), str(directory)]
    if name == "mpi4py":
        argv = ["mpiexec", "-n", str(slots + 1), python, "-m", "mpi4py.futures", *argv[1:]]
        environment |= MPI_ENVIRONMENT
    mark = f"XDG_RUNTIME_DIR={directory}"
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=environment, cwd=directory
        )
    try:
        pool = Driven(name, process, mark, log)
        if pool.hear() != "ready":
            raise RuntimeError(f"{name} did not begin by saying that it is ready")
        yield pool
        process.communicate(timeout=60.0)
    finally:
        process.kill()
        process.communicate(timeout=10.0)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not processes_with(mark), 10.0)
        for pid in processes_with(mark):
            kill(pid)
        shutil.rmtree(directory, ignore_errors=True)


def measure(name: str, slots: int, number: int, idle: int) -> tuple[float, dict[str, float], list[float]]:
    """Start a pool and have it make no-op calls.

    Returns
    -------
    Calls a second; microseconds of CPU time a call by kind of process; seconds until each of `idle` single calls had
    returned.
    """
    with driven(name, slots) as pool:
        before = pool.cpu()
        took = float(pool.ask(f"map {number}"))
        time.sleep(0.05)  # what is done behind the last result counts, too
        cost = {kind: 1e6 * (spent - before.get(kind, 0.0)) / number for kind, spent in pool.cpu().items()}
        return number / took, cost, [float(wait) for wait in pool.ask(f"one {idle} 0.02")]
