"""Limits of open files: our own processes get as many as the system allows, others as many as before.

Programs that use `select`, or that close all descriptors up to the limit, fail or are slow if it is high.
"""

import contextlib
import resource
from collections.abc import Iterator

_found: list[int] = []  # the soft limit from before `raise_limit`


def raise_limit() -> None:
    """Let this process open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # the system no longer allows the hard limit: leave it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _found[:] = _found or [soft]


@contextlib.contextmanager
def limit_as_found() -> Iterator[None]:
    """Restore the limit from before `raise_limit` for a moment, so that a new process inherits it.

    During this time, other threads may run out of descriptors, as they may at any time.
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
