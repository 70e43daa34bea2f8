"""loky, the processes of joblib."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import Pool, dynamic, of_executor


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from loky import ProcessPoolExecutor  # type: ignore[import-not-found]

    with ProcessPoolExecutor(cores) as executor:
        yield of_executor(executor)


run = dynamic(pool)
