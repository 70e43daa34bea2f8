"""Any pool, driven by lines on stdin: ``python pool.py NAME SLOTS DIRECTORY``.

It says ``ready`` once each worker has begun, and answers each line by a line of JSON:

- ``map N``: the seconds that N calls took, their results checked.
- ``one N PAUSE_S``: a list of N waits for the result of one call, with pauses between.

It is run by the Python of the pool's own environment, and so imports nothing of this project but by its name.
"""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tasks import same, wait  # type: ignore[import-not-found]  # beside this file

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Pool = tuple[Map, Callable[[int], Any]]  # map; one call of `same`, to its result
_HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def pilotmtc(slots: int, directory: Path) -> Iterator[Pool]:
    from pilotmtc import PilotExecutor

    with PilotExecutor(slots, store=directory / "store.db", progress=False) as pool:
        yield _of(pool)


@contextlib.contextmanager
def processes(slots: int, directory: Path) -> Iterator[Pool]:
    with ProcessPoolExecutor(slots) as pool:
        yield _of(pool)


@contextlib.contextmanager
def multiprocessing_pool(slots: int, directory: Path) -> Iterator[Pool]:
    with multiprocessing.Pool(slots) as pool:
        yield pool.map, lambda x: pool.apply(same, (x,))


@contextlib.contextmanager
def mpi4py(slots: int, directory: Path) -> Iterator[Pool]:
    """Rank 0 of ``mpiexec -n SLOTS+1 python -m mpi4py.futures``."""
    from mpi4py.futures import MPIPoolExecutor  # type: ignore[import-not-found]

    with MPIPoolExecutor() as pool:
        yield _of(pool)


@contextlib.contextmanager
def executorlib(slots: int, directory: Path) -> Iterator[Pool]:
    from executorlib import SingleNodeExecutor  # type: ignore[import-not-found]

    with SingleNodeExecutor(max_workers=slots, block_allocation=True) as pool:
        yield _of(pool)


@contextlib.contextmanager
def parsl(slots: int, directory: Path) -> Iterator[Pool]:
    from parsl import Config, HighThroughputExecutor  # type: ignore[import-not-found]
    from parsl.concurrent import ParslPoolExecutor  # type: ignore[import-not-found]
    from parsl.providers import LocalProvider  # type: ignore[import-not-found]

    htex = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=slots, cores_per_worker=1e-6, encrypted=False,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )  # fmt: skip
    config = Config([htex], run_dir=str(directory / "parsl"), initialize_logging=False)
    with ParslPoolExecutor(config) as pool:
        yield _of(pool)


@contextlib.contextmanager
def dask(slots: int, directory: Path) -> Iterator[Pool]:
    from distributed import Client, LocalCluster  # type: ignore[import-not-found]

    def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        return client.gather(client.map(function, list(values), pure=False))  # type: ignore[no-any-return]

    with (
        LocalCluster(
            n_workers=slots, threads_per_worker=1, dashboard_address=None, local_directory=str(directory)
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield calls, lambda x: client.submit(same, x, pure=False).result()


@contextlib.contextmanager
def ipyparallel(slots: int, directory: Path) -> Iterator[Pool]:
    import ipyparallel as ipp  # type: ignore[import-not-found]

    with ipp.Cluster(n=slots, ipython_dir=str(directory / "ipython"), log_level=40) as client:
        view = client.load_balanced_view()

        def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
            return view.map_sync(function, list(values), chunksize=1)  # type: ignore[no-any-return]

        yield calls, lambda x: view.apply_sync(same, x)


@contextlib.contextmanager
def celery(slots: int, directory: Path) -> Iterator[Pool]:
    """Workers that fork, broker and results in a redis server of its own."""
    import celery_app  # type: ignore[import-not-found]  # beside this file
    from celery import group  # type: ignore[import-not-found]

    socket = os.environ["BENCH_REDIS"].removeprefix("redis+socket://")
    server = subprocess.Popen(
        [os.environ["BENCH_REDIS_SERVER"], "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory],
        stdout=subprocess.DEVNULL,
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", str(slots), "-l", "critical",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=_HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        task = celery_app.tasks[function.__name__]
        return group(task.s(value) for value in values).apply_async().get(timeout=600)  # type: ignore[no-any-return]

    try:
        yield calls, lambda x: celery_app.tasks["same"].delay(x).get(timeout=60)
    finally:
        for process in (worker, server):
            process.terminate()
            process.wait(60)


POOLS = {
    pool.__name__: pool
    for pool in (pilotmtc, processes, multiprocessing_pool, mpi4py, executorlib, parsl, dask, ipyparallel, celery)
}


def _of(pool: Executor) -> Pool:
    return pool.map, lambda x: pool.submit(same, x).result(60)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Make the pool, and do what lines on stdin ask for."""
    name, slots, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with POOLS[name](slots, directory) as (calls, one):
        list(calls(wait, [0.3] * 2 * slots))  # each worker has one of them
        list(calls(same, range(200)))
        _say("ready")
        for line in sys.stdin:
            kind, number, *rest = line.split()
            if kind == "map":
                began = time.perf_counter()
                found = list(calls(same, range(int(number))))
                took = time.perf_counter() - began
                if found != list(range(int(number))):
                    raise RuntimeError(f"{name} has returned something else")
                _say(took)
            else:
                waits = []
                for x in range(int(number)):
                    time.sleep(float(rest[0]))
                    began = time.perf_counter()
                    one(x)
                    waits.append(time.perf_counter() - began)
                _say(waits)


if __name__ == "__main__":
    main()
