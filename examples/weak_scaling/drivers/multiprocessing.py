"""Python's own pool: a worker takes one task at a time. Nothing is recorded."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from . import Pool, dynamic


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    with multiprocessing.Pool(cores) as workers:
        yield Pool(partial(workers.map, chunksize=1), lambda function, value: workers.apply(function, (value,)))


run = dynamic(pool)
