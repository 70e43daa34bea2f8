"""SAGA adaptors that pilotmtc starts pilots with."""


def register() -> None:
    """Let radical.saga use these adaptors instead of its own for the same schemes; those hang when a connection breaks.

    Its adaptors for other schemes stay. Can be repeated.
    """
    from pilotmtc_adaptors import _job

    _job.register()
