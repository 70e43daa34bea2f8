"""loky, the processes of joblib."""

import contextlib
from collections.abc import Iterator

from ..workload import Job
from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    from loky import ProcessPoolExecutor  # type: ignore[import-not-found]

    with ProcessPoolExecutor(job.cores) as executor:
        yield of_executor(executor)


run = dynamic(pool)
