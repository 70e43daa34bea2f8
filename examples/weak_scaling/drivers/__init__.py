"""A module for each engine. A driver is a function that is given a `Job`, and returns what ran.

What has a map is written as a pool, which `dynamic` and `static` make drivers of.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from ..workload import Job, Ran, work, work_all


class Pool(NamedTuple):
    """What calls functions: `map` for many values, `call` for one of them, up to its result."""

    map: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
    call: Callable[[Callable[[Any], Any], Any], Any]


OpenPool = Callable[[int, Path], AbstractContextManager[Pool]]  # of so many workers, with a directory of its own
Driver = Callable[[Job], list[Ran] | None]  # None: of an MPI rank that has nothing to say


def dynamic(open_pool: OpenPool) -> Driver:
    """Return the driver that gives each worker another task when it has done one."""

    def run(job: Job) -> list[Ran]:
        with open_pool(job.cores, job.directory) as pool:
            return list(pool.map(work, job.tasks))

    return run


def static(open_pool: OpenPool) -> Driver:
    """Return the driver that gives each worker its share beforehand."""

    def run(job: Job) -> list[Ran]:
        with open_pool(job.cores, job.directory) as pool:
            return [ran for block in pool.map(work_all, job.blocks) for ran in block]

    return run


def of_executor(executor: Any) -> Pool:
    """Return the pool that an executor as of ``concurrent.futures`` is."""
    return Pool(executor.map, lambda function, value: executor.submit(function, value).result(60))
