"""The engines of the study: what each needs, and its Python."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MPI_ENVIRONMENT = {  # of Open MPI, for more ranks than there are cores; others do not know it
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
}  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]
_INSTALL_S = 900.0


class Engine(NamedTuple):
    """An engine.

    Attributes
    ----------
    driver
        MODULE:FUNCTION among the drivers.
    package
        What pip installs; "" if Python's own library is enough.
    programs
        What must be there, of each inner tuple one; the package of Debian comes last.
    ranks
        The words behind ``mpiexec -n``; without them it is no program of MPI.
    """

    title: str
    driver: str
    package: str = ""
    programs: tuple[tuple[str, ...], ...] = ()
    ranks: tuple[str, ...] = ()
    static: bool = False


_MPI = (("mpiexec", "openmpi-bin"),)
_RANKS, _MORE = ("{cores}", "{python}"), ("{more}", "{python}")
ENGINES = {
    "pilotmtc": Engine("pilotmtc, functions", "pilotmtc:functions", "pilotmtc"),
    "pilotmtc-commands": Engine("pilotmtc, commands", "pilotmtc:commands", "pilotmtc"),
    "multiprocessing": Engine("multiprocessing.Pool", "multiprocessing:run"),
    "bash": Engine("bash scripts, static", "bash:run", static=True),
    "mpi4py-static": Engine("mpi4py, static", "mpi4py:scatter", "mpi4py", _MPI, _RANKS, static=True),
    "mpi4py": Engine("mpi4py.futures", "mpi4py:futures", "mpi4py", _MPI, (*_MORE, "-m", "mpi4py.futures")),
    "ipyparallel-static": Engine("IPython Parallel, static", "ipyparallel:scattered", "ipyparallel", static=True),
    "ipyparallel": Engine("IPython Parallel", "ipyparallel:load_balanced", "ipyparallel"),
    "celery": Engine(
        "Celery, Redis", "celery:run", "celery[redis]", (("redis-server", "redis-check-rdb", "redis-tools"),)
    ),
    "parsl": Engine("Parsl, HTEX", "parsl:run", "parsl"),
    "dask": Engine("dask.distributed", "dask:run", "distributed"),
    "executorlib": Engine("executorlib", "executorlib:run", "executorlib"),
    "loky": Engine("loky (joblib)", "loky:run", "loky"),
    "parallel": Engine("GNU parallel", "parallel:run", "", (("parallel", "parallel"),)),
    "hyperqueue": Engine("HyperQueue", "hyperqueue:run", "hyperqueue"),
}  # fmt: skip


class Unavailable(Exception):
    """An engine is not to be had here; the text says why."""


def python_of(engine: Engine, cache: Path) -> Path:
    """Return the Python with the engine in it, from an environment below `cache`, which is made if it is not there.

    What Python itself can do is run by the Python that runs this; so is pilotmtc if it is installed there.
    """
    for *names, package in engine.programs:
        if not any(map(shutil.which, names)):
            raise Unavailable(f"there is no {names[0]} on the PATH: install it (on Debian: {package})")
    here = Path(sys.executable)
    if not engine.package or (engine.package == "pilotmtc" and importlib.util.find_spec("pilotmtc")):
        return here
    version = ".".join(map(str, sys.version_info[:2]))
    place = cache.absolute() / f"{_name(engine)}-{version}"
    python, complete = place / "bin" / "python", place / ".complete"
    if not complete.exists():
        wanted = str(_ROOT) if engine.package == "pilotmtc" else engine.package
        for argv in (
            [str(here), "-m", "venv", "--clear", str(place)],
            [str(python), "-m", "pip", "install", "-q", wanted],
        ):
            try:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_S, check=False
                )
            except subprocess.TimeoutExpired:
                raise Unavailable(f"{wanted} was not installed within {_INSTALL_S:g} s") from None
            if done.returncode:
                raise Unavailable(
                    f"{wanted} cannot be installed: {(done.stderr.strip() or 'pip failed').splitlines()[-1]}"
                )
        complete.touch()
    return python


def version_of(engine: Engine, python: Path) -> str:
    """Return the version of what runs the tasks."""
    if engine.package:
        code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        return _first_line([str(python), "-c", code, _name(engine)])
    if engine.programs or engine.driver.startswith("bash"):
        program = engine.programs[0][0] if engine.programs else "bash"
        found = re.search(r"\d[\w.]*", _first_line([program, "--version"]))
        return found[0] if found else ""
    return f"Python {sys.version.split()[0]}"


def _name(engine: Engine) -> str:
    return engine.package.partition("[")[0]


def _first_line(argv: list[str]) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60.0, check=False)
    return (done.stdout.splitlines() or [""])[0]
