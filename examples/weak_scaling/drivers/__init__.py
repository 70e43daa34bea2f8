"""A module for each engine. A driver is a function that is given a `Job`, and returns what ran.

What has a map is written as a pool, which `dynamic` and `static` make drivers of.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from ..workload import Job, Ran, Task, read_journal, work, work_after, work_all

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Pool(NamedTuple):
    """What calls functions. What an engine cannot do is None.

    Attributes
    ----------
    map, call
        A function for many values; for one of them, up to its result.
    wide
        Run tasks on as many cores as each wants.
    graph
        Run tasks of which some wait for others, which come first.
    grow
        Add so many workers.
    """

    map: Map
    call: Callable[[Callable[[Any], Any], Any], Any]
    wide: Callable[[list[Task]], object] | None = None
    graph: Callable[[list[Task]], object] | None = None
    grow: Callable[[int], object] | None = None


OpenPool = Callable[[Job], AbstractContextManager[Pool]]  # of the job's size, in its directory
Driver = Callable[[Job], list[Ran] | None]  # None: of an MPI rank that has nothing to say


def dynamic(open_pool: OpenPool) -> Driver:
    """Return the driver that gives each worker another task when it has done one."""

    def run(job: Job) -> list[Ran]:
        with open_pool(job) as pool, growing(job, pool.grow):
            if any(task.after for task in job.tasks):
                way = pool.graph
            elif any(task.cores > 1 for task in job.tasks):
                way = pool.wide
            else:
                return list(pool.map(work, job.tasks))
            if way is None:
                raise NotImplementedError("this engine has no way to run such tasks")
            way(job.tasks)
            return []

    return run


def static(open_pool: OpenPool) -> Driver:
    """Return the driver that gives each worker its share beforehand."""

    def run(job: Job) -> list[Ran]:
        with open_pool(job) as pool:
            return [ran for block in pool.map(work_all, job.blocks) for ran in block]

    return run


def of_executor(executor: Any, **more: Any) -> Pool:
    """Return the pool that an executor as of ``concurrent.futures`` is."""
    return Pool(executor.map, lambda function, value: executor.submit(function, value).result(60), **more)


def all_of(submit: Callable[[Task], Any]) -> Callable[[list[Task]], object]:
    """Return what submits each task by itself, and waits for all."""
    return lambda tasks: [future.result() for future in [submit(task) for task in tasks]]


def by_futures(submit: Callable[..., Any]) -> Callable[[list[Task]], object]:
    """Return what submits tasks with the futures of those that they wait for as arguments."""

    def run(tasks: list[Task]) -> object:
        futures: dict[int, Any] = {}
        for task in tasks:
            futures[task.number] = submit(work_after, task, *(futures[number] for number in task.after))
        return [future.result() for future in futures.values()]

    return run


@contextlib.contextmanager
def growing(job: Job, grow: Callable[[int], object] | None) -> Iterator[None]:
    """Add the workers that are to come late, when a third of the tasks have ended."""
    wrong: list[BaseException] = []

    def add() -> None:
        try:
            while sum(note.event == "ended" for note in read_journal(job.directory)) < len(job.tasks) / 3:
                time.sleep(0.02)
            (job.directory / "grown").write_text(f"{time.time()}")
            assert grow is not None
            grow(job.grow)
        except BaseException as error:  # noqa: BLE001  (it is raised below, where the driver waits)
            wrong.append(error)

    if job.grow:
        threading.Thread(target=add, daemon=True).start()
    yield
    if wrong:
        raise RuntimeError(f"workers cannot be added: {wrong[0]}") from wrong[0]
