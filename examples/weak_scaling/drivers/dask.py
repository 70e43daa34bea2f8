"""Dask's distributed scheduler with a process for each worker on this machine; for wide tasks one with many cores."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..workload import Job, work
from . import Pool, all_of, by_futures, dynamic


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    from distributed import Client, LocalCluster  # type: ignore[import-not-found]

    shape: dict[str, Any] = {"n_workers": job.cores, "threads_per_worker": 1}
    if any(task.cores > 1 for task in job.tasks):
        shape = {"n_workers": 1, "threads_per_worker": job.cores, "resources": {"cores": job.cores}}

    def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        futures = client.map(function, list(values), pure=False, retries=job.retries)
        return client.gather(futures)  # type: ignore[no-any-return]

    with (
        LocalCluster(dashboard_address=None, local_directory=str(job.directory), **shape) as cluster,
        Client(cluster) as client,
    ):
        submit = partial(client.submit, pure=False)
        yield Pool(
            calls,
            lambda function, value: submit(function, value).result(),
            wide=all_of(lambda task: submit(work, task, resources={"cores": task.cores})),
            graph=by_futures(submit),
            grow=lambda cores: cluster.scale(job.cores + cores),
        )


run = dynamic(pool)
