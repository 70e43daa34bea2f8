"""Loading the adaptors into radical.saga's engine."""

from radical.saga.engine.engine import Engine  # type: ignore[import-untyped]

from pilotmtc.errors import ConfigError

_MODULE = "pilotmtc_adaptors._job"
_SERVICE = "radical.saga.job.Service"


def register() -> None:
    """Load the adaptors, in the place of radical.saga's own, which hang when a connection is lost.

    Raises
    ------
    ConfigError
        If they are not there afterwards: the engine itself only logs that.
    """
    engine = Engine()
    engine._load_adaptors(inject_registry=[_MODULE])
    if not engine._adaptor_registry.get(_SERVICE):
        raise ConfigError(f"radical.saga has not loaded {_MODULE}: run with RADICAL_LOG_LVL=DEBUG to see why")
