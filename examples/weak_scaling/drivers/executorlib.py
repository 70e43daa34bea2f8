"""executorlib on this machine: with workers that stay, but for wide tasks, which each get a process of their own."""

import contextlib
from collections.abc import Iterator

from ..workload import Job, work
from . import Pool, all_of, by_futures, dynamic, of_executor


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    from executorlib import SingleNodeExecutor  # type: ignore[import-not-found]

    if any(task.cores > 1 for task in job.tasks):
        with SingleNodeExecutor(max_cores=job.cores) as executor:
            wide = all_of(
                lambda task: executor.submit(work, task, resource_dict={"cores": 1, "threads_per_core": task.cores})
            )
            yield of_executor(executor, wide=wide)
        return
    with SingleNodeExecutor(max_workers=job.cores, block_allocation=True, restart_limit=job.retries) as executor:

        def grow(cores: int) -> None:
            executor.max_workers = job.cores + cores

        yield of_executor(executor, graph=by_futures(executor.submit), grow=grow)


run = dynamic(pool)
