"""Python's own pool: a worker takes one task at a time. Nothing is recorded."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from functools import partial

from ..workload import Job
from . import Pool, dynamic


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    with multiprocessing.Pool(job.cores) as workers:
        yield Pool(partial(workers.map, chunksize=1), lambda function, value: workers.apply(function, (value,)))


run = dynamic(pool)
