"""SAGA adaptors that pilotmtc starts pilots with."""


def register() -> None:
    """Let radical.saga use these adaptors in the place of its own for the same schemes, which hang when a link is lost.

    Its adaptors for other schemes stay. Can be repeated.
    """
    from pilotmtc_adaptors import _job

    _job.register()
