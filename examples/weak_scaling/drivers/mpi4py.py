"""MPI: a share of the tasks scattered to each rank, and the pool of mpi4py, which a rank of its own feeds."""

import contextlib
from collections.abc import Iterator

from ..workload import Job, Ran, work_all
from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(job: Job) -> Iterator[Pool]:
    """Rank 0 of ``mpiexec -n CORES+1 python -m mpi4py.futures``."""
    from mpi4py.futures import MPIPoolExecutor  # type: ignore[import-not-found]

    with MPIPoolExecutor() as executor:
        yield of_executor(executor)


futures = dynamic(pool)


def scatter(job: Job) -> list[Ran] | None:
    """All ranks of ``mpiexec -n CORES python``."""
    from mpi4py import MPI  # type: ignore[import-not-found]

    ranks = MPI.COMM_WORLD
    mine = ranks.scatter(job.blocks if ranks.rank == 0 else None)
    found = ranks.gather(work_all(mine))
    return None if found is None else [ran for each in found for ran in each]
