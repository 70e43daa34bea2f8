"""executorlib with workers that stay, on this machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from executorlib import SingleNodeExecutor  # type: ignore[import-not-found]

    with SingleNodeExecutor(max_workers=cores, block_allocation=True) as executor:
        yield of_executor(executor)


run = dynamic(pool)
