"""Limits of open files: our own processes get as many as the system allows, others as many as before.

Programs that use `select`, or that close all descriptors up to the limit, fail or are slow if it is high.
"""

import contextlib
import resource

_found: list[int] = []  # the soft limit from before `raise_limit`


def raise_limit() -> None:
    """Let this process open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # the system no longer allows the hard limit: leave it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _found[:] = _found or [soft]


class limit_as_found:  # noqa: N801 -- used like a function; a generator would take longer than what it does
    """Restore the limit from before `raise_limit` for a moment, so that a new process inherits it.

    During this time, other threads may run out of descriptors, as they may at any time.
    """

    __slots__ = ("_limits",)

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE) if _found else None
        if self._limits is not None:
            hard = self._limits[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(_found[0], hard), hard))

    def __exit__(self, *_: object) -> None:
        if self._limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
