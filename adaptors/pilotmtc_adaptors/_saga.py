"""The only file that uses private parts of radical.saga.

A new radical.saga may move them: then ``tests/unit/adaptors/test_saga_private.py`` says which, and what to do.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import radical.saga  # type: ignore[import-untyped]
from radical.saga.adaptors.base import Base  # type: ignore[import-untyped]
from radical.saga.adaptors.cpi.decorators import SYNC_CALL  # type: ignore[import-untyped]
from radical.saga.adaptors.cpi.job import Job, Service  # type: ignore[import-untyped]
from radical.saga.engine.engine import Engine  # type: ignore[import-untyped]

from pilotmtc.errors import ConfigError

__all__ = ["Job", "Service", "call", "new_job", "register"]

F = TypeVar("F", bound=Callable[..., Any])


class _Adaptor(Base):  # type: ignore[misc]
    """The one object by which radical.saga knows our classes."""


def call(function: F) -> F:
    """Return a method that radical.saga can call: it passes an additional argument."""
    made: F = SYNC_CALL(function)
    return made


def new_job(service: Service, scheme: str, **state: Any) -> Any:
    """Return a job of a service for SAGA's users; its ``init_instance`` gets the state."""
    return radical.saga.job.Job(
        _adaptor=service._adaptor, _adaptor_state={"job_service": service, "job_schema": scheme, **state}
    )


def register(name: str, schemes: Sequence[str], service: type[Service], job: type[Job]) -> None:
    """Let radical.saga use these classes, and no others, for the schemes, with or without SSH.

    Raises
    ------
    ConfigError
        If radical.saga does not find them then.
    """
    kinds = {"radical.saga.job.Service": service, "radical.saga.job.Job": job}
    cpis = [{"type": kind, "class": made.__name__} for kind, made in kinds.items()]
    info = {"name": name, "version": "v1", "schemas": tuple(schemes), "capabilities": {}, "cpis": cpis}
    adaptor = _Adaptor(info, expand_env=False)
    registry = Engine().loaded_adaptors()
    for kind, made in kinds.items():
        found = registry.setdefault(kind, {})
        for scheme in [each for each in found if each.partition("+")[0] in schemes]:
            del found[scheme]
        entry = {
            "cpi_cname": made.__name__,
            "cpi_class": made,
            "adaptor_name": name,
            "adaptor_instance": adaptor,
        }
        found.update({scheme: [entry] for scheme in schemes})
        if any(Engine().find_adaptors(kind, scheme) != [name] for scheme in schemes):
            raise ConfigError(f"radical.saga {radical.saga.version} does not find pilotmtc's adaptors: install 1.103")
