"""Parsl with its executor of high throughput on this machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from parsl import Config, HighThroughputExecutor  # type: ignore[import-not-found]
    from parsl.concurrent import ParslPoolExecutor  # type: ignore[import-not-found]
    from parsl.providers import LocalProvider  # type: ignore[import-not-found]

    htex = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=cores, cores_per_worker=1e-6, encrypted=False,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )  # fmt: skip
    config = Config([htex], run_dir=str(directory / "parsl"), initialize_logging=False)
    with ParslPoolExecutor(config) as executor:
        yield of_executor(executor)


run = dynamic(pool)
