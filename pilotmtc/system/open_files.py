"""How many files may be open: in our own processes as many as the system allows, in others as many as before.

Programs that use `select`, or close all descriptors up to the limit, fail or are slow with a high one.
"""

import contextlib
import resource
from collections.abc import Iterator

_found: list[int] = []  # the soft limit that this process came with, once it has another


def raise_limit() -> None:
    """Let this process have as many open files as it can get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # the system allows fewer by now than the hard limit says: it stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _found[:] = _found or [soft]


@contextlib.contextmanager
def limit_as_found() -> Iterator[None]:
    """Restore the limit from before `raise_limit`, for a process that is started meanwhile: it inherits it.

    Meanwhile other threads may run out of descriptors, as they may at any time.
    """
    if not _found:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_found[0], hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
