"""IPython Parallel: a direct view deals the tasks out beforehand, a load-balanced one as engines are free."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import Pool, dynamic, static


@contextlib.contextmanager
def balanced(cores: int, directory: Path) -> Iterator[Pool]:
    with _cluster(cores, directory) as client:
        view = client.load_balanced_view()

        def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
            return view.map_sync(function, list(values), chunksize=1)  # type: ignore[no-any-return]

        yield Pool(calls, view.apply_sync)


@contextlib.contextmanager
def direct(cores: int, directory: Path) -> Iterator[Pool]:
    with _cluster(cores, directory) as client:
        view = client[:]
        yield Pool(lambda function, values: view.map_sync(function, list(values)), view.apply_sync)


def _cluster(cores: int, directory: Path) -> Any:
    import ipyparallel as ipp  # type: ignore[import-not-found]

    return ipp.Cluster(n=cores, ipython_dir=str(directory / "ipython"), log_level=40)


load_balanced = dynamic(balanced)
scattered = static(direct)
