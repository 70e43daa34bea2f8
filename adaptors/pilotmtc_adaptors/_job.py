"""SAGA's job Service and Job for every dialect: what they say, the one driver does."""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from radical.saga import exceptions as saga  # type: ignore[import-untyped]
from radical.saga import job as api
from radical.saga.adaptors import base, cpi  # type: ignore[import-untyped]
from radical.saga.adaptors.cpi import job as job_cpi  # type: ignore[import-untyped]

from pilotmtc.errors import (
    AdaptorError,
    AnswerLost,
    ConfigError,
    JobUnknown,
    StatusUnavailable,
    SubmitRejected,
    UsageError,
)
from pilotmtc_adaptors import _driver
from pilotmtc_adaptors._dialect import Dialect, JobRecord, JobRequest

_DIALECTS = ("slurm", "pbs", "moab", "condor", "local")
_EXTRAS = {
    "nodes", "gpus_per_node", "memory_per_node_bytes", "qos", "constraint", "reservation", "exclusive", "signal_s",
}  # fmt: skip
_MINUTE_S = 60


def _dialects() -> dict[str, Dialect]:
    """Return the dialects by scheme."""
    found: dict[str, Dialect] = {}
    for name in _DIALECTS:
        if importlib.util.find_spec(f"pilotmtc_adaptors.{name}"):
            dialect: Any = importlib.import_module(f"pilotmtc_adaptors.{name}")
            found |= dict.fromkeys(dialect.schemes, dialect)
    return found


DIALECTS = _dialects()
_NAME = "pilotmtc.adaptors.job"
_INFO = {
    "name": _NAME,
    "version": "v1",
    "schemas": list(DIALECTS),
    "capabilities": {},
    "cpis": [
        {"type": "radical.saga.job.Service", "class": "DialectService"},
        {"type": "radical.saga.job.Job", "class": "DialectJob"},
    ],
}


class Adaptor(base.Base):  # type: ignore[misc]
    """What the engine looks for in this module."""

    def __init__(self) -> None:
        base.Base.__init__(self, _INFO, expand_env=False)

    def sanity_check(self) -> None:
        """Find nothing wrong: whether a scheduler is there shows when it is asked."""


class DialectService(job_cpi.Service):  # type: ignore[misc]
    """A scheduler."""

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def init_instance(self, adaptor_state: Any, rm_url: Any, session: Any) -> Any:
        """Remember which scheduler this is."""
        self._url = rm_url
        self._set_session(session)
        self.dialect = DIALECTS[rm_url.schema]
        return self.get_api()

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Have nothing to close."""

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_url(self) -> Any:
        """Return the URL."""
        return self._url

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def create_job(self, jd: Any) -> Any:
        """Return a job that has not been submitted."""
        return self._job({"job_description": jd})

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_job(self, job_id: str) -> Any:
        """Return a job by its id."""
        return self._job({"job_id": job_id})

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def list(self) -> "list[str]":
        """Return the ids of the user's jobs that are not over."""
        return [self.full_id(batch) for batch in _ask(_driver.jobs, self.dialect)]

    def full_id(self, batch: str) -> str:
        """Return SAGA's id of a job."""
        return f"[{self._url}]-[{batch}]"

    # Besides SAGA's: many jobs in one call, and what SAGA's records have no room for.

    def find(self, name: str) -> "tuple[str, ...]":
        """Return the scheduler's ids of jobs of that name."""
        found: tuple[str, ...] = _ask(_driver.find, self.dialect, name)
        return found

    def records(self, batches: Sequence[str]) -> dict[str, JobRecord | AdaptorError]:
        """Return what the scheduler says of jobs."""
        found: dict[str, JobRecord | AdaptorError] = _ask(_driver.status, self.dialect, batches)
        return found

    def cancel(self, batches: Sequence[str]) -> dict[str, AdaptorError]:
        """End jobs; return errors by id."""
        errors: dict[str, AdaptorError] = _ask(_driver.cancel, self.dialect, batches)
        return errors

    def _job(self, state: dict[str, Any]) -> Any:
        return api.Job(
            _adaptor=self._adaptor,
            _adaptor_state={"job_service": self, "job_schema": self._url.schema, **state},
        )


class DialectJob(job_cpi.Job):  # type: ignore[misc]
    """A job."""

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def init_instance(self, job_info: dict[str, Any]) -> Any:
        """Remember which job this is."""
        self._service: DialectService = job_info["job_service"]
        self._description = job_info.get("job_description")
        id_ = job_info.get("job_id")
        self._batch = None if id_ is None else id_.rpartition("]-[")[2].rstrip("]")
        return self.get_api()

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def run(self) -> None:
        """Submit it."""
        try:
            request = as_request(self._description)
        except UsageError as error:
            raise saga.BadParameter(str(error)) from error
        self._batch = _ask(_driver.submit, self._service.dialect, request)

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def cancel(self, timeout: float | None = None) -> None:
        """End it."""
        for error in self._service.cancel([self._needed()]).values():
            raise _saga_error(error)

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_id(self) -> str | None:
        """Return SAGA's id."""
        return None if self._batch is None else self._service.full_id(self._batch)

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_name(self) -> str | None:
        """Return its name."""
        if self._description is not None:
            return str(self._description.name)
        return self._record().name

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_state(self) -> str:
        """Return its state in SAGA's words."""
        return str(api.NEW) if self._batch is None else self._record().state.value

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_exit_code(self) -> int | None:
        """Return its exit code."""
        return self._record().exit_code

    @cpi.SYNC_CALL  # type: ignore[untyped-decorator]
    def get_description(self) -> Any:
        """Return the description it was made of."""
        return self._description

    def _needed(self) -> str:
        if self._batch is None:
            raise saga.IncorrectState("the job has not been submitted")
        return str(self._batch)

    def _record(self) -> JobRecord:
        batch = self._needed()
        record = self._service.records([batch])[batch]
        if isinstance(record, AdaptorError):
            raise _saga_error(record)
        return record


def as_request(description: Any) -> JobRequest:
    """Return what SAGA's description asks for.

    Raises
    ------
    UsageError
        If it asks for what has no meaning here.
    """
    extras = description.system_architecture or {}
    if odd := sorted(set(extras) - _EXTRAS):
        raise UsageError(f"system_architecture has no {', '.join(odd)}: there are {', '.join(sorted(_EXTRAS))}")
    nodes = int(extras.get("nodes", 1))
    fields: dict[str, Any] = {
        "executable": description.executable or "",
        "arguments": tuple(map(str, description.arguments or ())),
        "environment": {name: str(value) for name, value in (description.environment or {}).items()},
        "pre_exec": tuple(description.pre_exec or ()),
        "name": description.name or "",
        "working_directory": description.working_directory or "",
        "input": description.input or "",
        "output": description.output or "",
        "error": description.error or "",
        "cores_per_node": -(-int(description.total_cpu_count or 0) // nodes),
        "walltime_s": int(description.wall_time_limit or 0) * _MINUTE_S,
        "queue": description.queue or "",
        "account": description.project or "",
        "candidate_hosts": tuple(description.candidate_hosts or ()),
        "file_transfer": tuple(description.file_transfer or ()),
    }
    return JobRequest(**{**fields, **extras})


def _ask(do: Any, *words: Any) -> Any:
    try:
        return do(*words)
    except (AdaptorError, UsageError, ConfigError) as error:
        raise _saga_error(error) from error


def _saga_error(error: Exception) -> Exception:
    """Return SAGA's error for one of ours, which it has as its cause."""
    kind: Any = saga.NoSuccess
    match error:
        case UsageError() | SubmitRejected():
            kind = saga.BadParameter
        case ConfigError():
            kind = saga.NotImplemented
        case JobUnknown():
            kind = saga.DoesNotExist
        case AnswerLost() | StatusUnavailable():
            kind = saga.Timeout
    made: Exception = kind(str(error))
    made.__cause__ = error
    return made
