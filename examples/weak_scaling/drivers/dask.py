"""Dask's distributed scheduler with a process for each worker on this machine."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import Pool, dynamic


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from distributed import Client, LocalCluster  # type: ignore[import-not-found]

    def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        return client.gather(client.map(function, list(values), pure=False))  # type: ignore[no-any-return]

    with (
        LocalCluster(
            n_workers=cores, threads_per_worker=1, dashboard_address=None, local_directory=str(directory)
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield Pool(calls, lambda function, value: client.submit(function, value, pure=False).result())


run = dynamic(pool)
