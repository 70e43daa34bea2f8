"""Parsl with its executor of high throughput on this machine."""

import contextlib
from collections.abc import Iterator

from ..workload import Job
from . import Pool, by_futures, dynamic, of_executor


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    from parsl import Config, HighThroughputExecutor  # type: ignore[import-not-found]
    from parsl.concurrent import ParslPoolExecutor  # type: ignore[import-not-found]
    from parsl.providers import LocalProvider  # type: ignore[import-not-found]

    htex = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=job.cores, cores_per_worker=1e-6, encrypted=False,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=2 if job.grow else 1),
    )  # fmt: skip
    config = Config(
        [htex], run_dir=str(job.directory / "parsl"), initialize_logging=False, retries=job.retries, strategy="none"
    )
    with ParslPoolExecutor(config) as executor:
        # A block has as many workers as the first: it is what Parsl adds.
        yield of_executor(executor, graph=by_futures(executor.submit), grow=lambda cores: htex.scale_out_facade(1))


run = dynamic(pool)
