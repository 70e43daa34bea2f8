"""Any pool, driven by lines on stdin: ``python pool.py NAME SLOTS DIRECTORY``.

It says ``ready`` once each worker has begun, and answers each line by a line of JSON:

- ``map N``: the seconds that N calls took, their results checked.
- ``one N PAUSE_S``: a list of N waits for the result of one call, with pauses between.

It is run by the Python of the pool's own environment, and so imports nothing of this project but pools by their names:
those of the weak scaling study.
"""

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tasks import same, wait  # type: ignore[import-not-found]  # beside this file

from examples.weak_scaling.drivers import (
    OpenPool,
    Pool,
    celery,
    dask,
    executorlib,
    ipyparallel,
    mpi4py,
    of_executor,
    parsl,
    pilotmtc,
)
from examples.weak_scaling.workload import Job


@contextlib.contextmanager
def processes(job: Job) -> Iterator[Pool]:
    with ProcessPoolExecutor(job.cores) as pool:
        yield of_executor(pool)


@contextlib.contextmanager
def multiprocessing_pool(job: Job) -> Iterator[Pool]:
    with multiprocessing.Pool(job.cores) as pool:
        yield Pool(pool.map, lambda function, value: pool.apply(function, (value,)))


POOLS: dict[str, OpenPool] = {
    "pilotmtc": pilotmtc.pool, "processes": processes, "multiprocessing_pool": multiprocessing_pool,
    "mpi4py": mpi4py.pool, "executorlib": executorlib.pool, "parsl": parsl.pool, "dask": dask.pool,
    "ipyparallel": ipyparallel.balanced, "celery": celery.pool,
}  # fmt: skip


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Make the pool, and do what lines on stdin ask for."""
    name, slots, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with POOLS[name](Job(slots, directory, [])) as pool:
        list(pool.map(wait, [0.3] * 2 * slots))  # each worker has one of them
        list(pool.map(same, range(200)))
        _say("ready")
        for line in sys.stdin:
            kind, number, *rest = line.split()
            if kind == "map":
                began = time.perf_counter()
                found = list(pool.map(same, range(int(number))))
                took = time.perf_counter() - began
                if found != list(range(int(number))):
                    raise RuntimeError(f"{name} has returned something else")
                _say(took)
            else:
                waits = []
                for x in range(int(number)):
                    time.sleep(float(rest[0]))
                    began = time.perf_counter()
                    pool.call(same, x)
                    waits.append(time.perf_counter() - began)
                _say(waits)


if __name__ == "__main__":
    main()
