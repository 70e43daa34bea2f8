"""IPython Parallel: a direct view deals the tasks out beforehand, a load-balanced one as engines are free."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..workload import Job
from . import Pool, by_futures, dynamic, static


@contextlib.contextmanager
def balanced(job: Job) -> Iterator[Pool]:
    cluster = _cluster(job)
    with cluster as client:
        view = client.load_balanced_view()
        view.retries = job.retries

        def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
            return view.map_sync(function, list(values), chunksize=1)  # type: ignore[no-any-return]

        def submit(function: Callable[..., Any], value: Any, *earlier: Any) -> Any:
            with view.temp_flags(after=list(earlier)):
                return view.apply_async(function, value)

        yield Pool(calls, view.apply_sync, graph=by_futures(submit), grow=cluster.start_engines_sync)


@contextlib.contextmanager
def direct(job: Job) -> Iterator[Pool]:
    with _cluster(job) as client:
        view = client[:]
        yield Pool(lambda function, values: view.map_sync(function, list(values)), view.apply_sync)


def _cluster(job: Job) -> Any:
    import ipyparallel as ipp  # type: ignore[import-not-found]

    return ipp.Cluster(n=job.cores, ipython_dir=str(job.directory / "ipython"), log_level=40)


load_balanced = dynamic(balanced)
scattered = static(direct)
