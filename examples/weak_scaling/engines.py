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
_NETIFACES = _ROOT / "adaptors" / "pilotmtc_adaptors" / "netifaces"
_NUMPY = "numpy"  # of computing tasks
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
    masters
        Processes beside the user's program on which all depends: a name, and a pattern of their command lines.
    cannot
        What it has no way to do, among ``late``, ``mixed``, ``failing`` and ``graph``, and why.
    """

    title: str
    driver: str
    package: str = ""
    programs: tuple[tuple[str, ...], ...] = ()
    ranks: tuple[str, ...] = ()
    static: bool = False
    masters: dict[str, str] = {}
    cannot: dict[str, str] = {}


_MPI = (("mpiexec", "openmpi-bin"),)
_RANKS, _MORE = ("{cores}", "{python}"), ("{more}", "{python}")
_ONE_PROCESS = {"mixed": "a call is one process's, whatever its size"}
_NO_RETRIES = {"failing": "it has no retries"}
_NO_GRAPH = {"graph": "calls cannot wait for others: the program would have to"}
_FUNCTIONS_ONLY = _ONE_PROCESS | _NO_RETRIES | _NO_GRAPH
_DEALT = {"late": "the tasks are dealt out beforehand", "mixed": "each share is for one core"}
_CELERY_PARENT = r"-m celery\b"
ENGINES = {
    "pilotmtc": Engine(
        "pilotmtc, functions", "pilotmtc:functions", "pilotmtc",
        masters={"agent": r"pilotmtc\.agent\b", "store server": r"pilotmtc\.store\.server"},
    ),
    "pilotmtc-commands": Engine(
        "pilotmtc, commands", "pilotmtc:commands", "pilotmtc",
        masters={"agent": r"pilotmtc\.agent\b", "store server": r"pilotmtc\.store\.server"},
    ),
    "multiprocessing": Engine(
        "multiprocessing.Pool", "multiprocessing:run",
        cannot={"late": "the size of a pool is fixed"} | _FUNCTIONS_ONLY,
    ),
    "bash": Engine(
        "bash scripts, static", "bash:run", static=True,
        cannot=_DEALT | {"graph": "a script does not wait for the others"},
    ),
    "mpi4py-static": Engine(
        "mpi4py, static", "mpi4py:scatter", "mpi4py", _MPI, _RANKS, static=True,
        cannot=_DEALT | {"failing": "an exception of one rank ends all", "graph": "ranks do not wait for each other"},
    ),
    "mpi4py": Engine(
        "mpi4py.futures", "mpi4py:futures", "mpi4py", _MPI, (*_MORE, "-m", "mpi4py.futures"),
        cannot={"late": "the number of ranks is that of mpiexec"} | _FUNCTIONS_ONLY,
    ),
    "ipyparallel-static": Engine(
        "IPython Parallel, static", "ipyparallel:scattered", "ipyparallel", static=True,
        masters={"controller": r"ipyparallel\.controller"},
        cannot=_DEALT | {"failing": "its direct view has no retries", "graph": "its direct view has no dependencies"},
    ),
    "ipyparallel": Engine(
        "IPython Parallel", "ipyparallel:load_balanced", "ipyparallel",
        masters={"controller": r"ipyparallel\.controller"}, cannot=_ONE_PROCESS,
    ),
    "celery": Engine(
        "Celery, Redis", "celery:run", "celery[redis]", (("redis-server", "redis-check-rdb", "redis-tools"),),
        masters={"broker": r"redis-server", "worker's parent": _CELERY_PARENT}, cannot=_ONE_PROCESS,
    ),
    "celery-rabbitmq": Engine(
        "Celery, RabbitMQ", "celery:run_rabbitmq", "celery[redis]", (("rabbitmq-server", "rabbitmq-server"),),
        masters={"broker": r"beam\.smp", "worker's parent": _CELERY_PARENT},
        cannot=_ONE_PROCESS | {"graph": "its results through RabbitMQ (rpc) have no chords"},
    ),
    "parsl": Engine(
        "Parsl, HTEX", "parsl:run", "parsl", masters={"interchange": r"interchange"},
        cannot={"mixed": "its HTEX gives each task one worker"},
    ),
    "dask": Engine("dask.distributed", "dask:run", "distributed"),
    "executorlib": Engine("executorlib", "executorlib:run", "executorlib", cannot=_NO_RETRIES),
    "loky": Engine(
        "loky (joblib)", "loky:run", "loky",
        cannot={"late": "a pool is resized only when no call runs"} | _FUNCTIONS_ONLY,
    ),
    "parallel": Engine(
        "GNU parallel", "parallel:run", "", (("parallel", "parallel"),),
        cannot={"mixed": "a line takes one slot", "graph": "lines cannot wait for others"},
    ),
    "hyperqueue": Engine(
        "HyperQueue", "hyperqueue:run", "hyperqueue", cannot={"failing": "a task that fails is not tried again"}
    ),
    "hypershell": Engine(
        "HyperShell", "hypershell:run", "hypershell", masters={"server": r"/hs server\b", "client": r"/hs client\b"}
    ),
    "radical-pilot": Engine(
        "RADICAL-Pilot", "radical_pilot:run", "radical.pilot", masters={"agent": r"radical-pilot-agent_0"},
        cannot={
            "late": "tasks are bound to the pilots that are there when they are submitted",
            "failing": "it has no retries", "graph": "dependencies are those of RADICAL-EnTK",
        },
    ),
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
        # Ours of netifaces, which pilotmtc and RADICAL-Pilot need: PyPI's would have to be compiled.
        wanted = str(_ROOT) if engine.package == "pilotmtc" else engine.package
        beside = [str(_NETIFACES)] if engine.package in ("pilotmtc", "radical.pilot") else []
        for argv in (
            [str(here), "-m", "venv", "--clear", str(place)],
            [str(python), "-m", "pip", "install", "-q", *beside, wanted, _NUMPY],
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
