"""Loading the adaptors into radical.saga's engine."""

from radical.saga.engine.engine import Engine  # type: ignore[import-untyped]

from pilotmtc.errors import ConfigError

_MODULE = "pilotmtc_adaptors._job"
_KINDS = ("radical.saga.job.Service", "radical.saga.job.Job")


def register() -> None:
    """Load the adaptors, in the place of radical.saga's own for the same schemes, which hang when a connection is lost.

    Its adaptors for those schedulers through SSH go, too; all others stay. Can be repeated.

    Raises
    ------
    ConfigError
        If they are not there afterwards: the engine itself only logs that.
    """
    engine = Engine()
    before = engine._adaptor_registry
    engine._load_adaptors(inject_registry=[_MODULE])
    ours = engine._adaptor_registry
    if not all(ours.get(kind) for kind in _KINDS):
        engine._adaptor_registry = before
        raise ConfigError(f"radical.saga has not loaded {_MODULE}: run with RADICAL_LOG_LVL=DEBUG to see why")
    engine._adaptor_registry = {kind: dict(schemes) for kind, schemes in before.items()}
    for kind in _KINDS:
        others = before.get(kind, {})
        kept = {scheme: found for scheme, found in others.items() if scheme.partition("+")[0] not in ours[kind]}
        engine._adaptor_registry[kind] = kept | ours[kind]
