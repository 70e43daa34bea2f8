"""SAGA adaptors that pilotmtc starts pilots with."""


def register() -> None:
    """Load the adaptors into radical.saga's engine, in the place of its own."""
    from pilotmtc_adaptors import _engine

    _engine.register()
