"""SAGA's job Service and Job, for all dialects, on top of the driver."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from radical.saga import exceptions as saga  # type: ignore[import-untyped]
from radical.saga import job as api

from pilotmtc.errors import (
    AdaptorError,
    ConfigError,
    JobUnknown,
    PilotMTCError,
    StatusUnavailable,
    SubmitRejected,
    UsageError,
)
from pilotmtc_adaptors import _driver, _registry, _saga
from pilotmtc_adaptors._dialect import FINAL, JobRecord, JobState, Status
from pilotmtc_adaptors._request import as_request

T = TypeVar("T")

_NAME = "pilotmtc.adaptors.job"  # radical.saga's for these classes
_SHOWN_S = 30.0
_HERE = ("", "localhost")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0  # between two questions about a job


def register() -> None:
    """Let radical.saga use the classes of this file for the schemes of all dialects."""
    _saga.register(_NAME, _registry.schemes(), DialectService, DialectJob)


class DialectService(_saga.Service):  # type: ignore[misc]
    """A scheduler."""

    @_saga.call
    def init_instance(self, adaptor_state: Any, rm_url: Any, session: Any) -> Any:
        """Remember the scheduler."""
        more = [rm_url.port, rm_url.username, rm_url.password, rm_url.query, (rm_url.path or "").strip("/")]
        if rm_url.host not in _HERE or any(more):
            raise saga.BadParameter(
                f"{rm_url}: the scheduler's commands run on this host; use {rm_url.scheme}://localhost/, "
                f"and run this program where they are installed"
            )
        self._url = rm_url
        self.session = session
        self.dialect = _translated(_registry.dialect, str(rm_url.scheme).lower())
        service = self.get_api()
        service.bulk = self  # for pilots: many jobs in one call, and what SAGA's records have no room for
        return service

    @_saga.call
    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    @_saga.call
    def get_url(self) -> Any:
        """Return the URL."""
        return self._url

    @_saga.call
    def create_job(self, jd: Any) -> Any:
        """Return a job that has not been submitted."""
        _translated(as_request, _attributes(jd))
        return _saga.new_job(self, self._url.scheme, job_description=jd)

    @_saga.call
    def get_job(self, job_id: str) -> Any:
        """Return a job by its id, which the scheduler must know."""
        url, _, batch = job_id.rpartition("]-[")
        if url and url.lstrip("[").partition(":")[0] != self._url.scheme:
            raise saga.BadParameter(f"{job_id} is not a job of {self._url}")
        batch = batch.rstrip("]") if url else job_id
        job = _saga.new_job(self, self._url.scheme, job_id=batch)
        job.get_state()
        return job

    @_saga.call
    def list(self) -> "list[str]":
        """Return the ids of the user's jobs that have not ended."""
        return [self.full_id(batch) for batch in _translated(_driver.jobs, self.dialect)]

    def full_id(self, batch: str) -> str:
        """Return SAGA's id of a job."""
        return f"[{self._url}]-[{batch}]"

    # Besides SAGA's, as `service.bulk`:

    @property
    def maps(self) -> frozenset[str]:
        """Names of the fields of `JobRequest` that the dialect can act on."""
        return self.dialect.maps

    def preview(self, jd: Any) -> "tuple[tuple[str, ...], str]":
        """Return the command that would submit a job, and what it would read."""
        return _translated(lambda: _driver.preview(self.dialect, as_request(_attributes(jd))))

    def find(self, name: str) -> "tuple[str, ...]":
        """Return the scheduler's ids of jobs of that name."""
        return _translated(_driver.find, self.dialect, name)

    def records(self, batches: Sequence[str]) -> dict[str, Status]:
        """Return what the scheduler says about jobs."""
        return _translated(_driver.status, self.dialect, batches)

    def cancel(self, batches: Sequence[str]) -> dict[str, AdaptorError]:
        """End jobs; return errors by id."""
        return _translated(_driver.cancel, self.dialect, batches)


class DialectJob(_saga.Job):  # type: ignore[misc]
    """A job. Once it is known to have ended, the scheduler is not asked again, because schedulers forget jobs.

    A job that the scheduler has forgotten has ended as well, in the state ``Unknown``: nobody can say how.
    """

    @_saga.call
    def init_instance(self, job_info: dict[str, Any]) -> Any:
        """Remember the job."""
        self._service: DialectService = job_info["job_service"]
        self._description = job_info.get("job_description")
        self._batch: str | None = job_info.get("job_id")
        self._final: JobRecord | None = None
        self._seen = False  # the scheduler has known it
        self._submitted_at = -math.inf  # when this object submitted it, by the monotonic clock
        return self.get_api()

    @_saga.call
    def run(self) -> None:
        """Submit it."""
        if self._batch is not None:
            raise saga.IncorrectState(f"job {self._batch} has been submitted already")
        request = _translated(as_request, _attributes(self._description))
        self._batch = _translated(_driver.submit, self._service.dialect, request)
        self._submitted_at = time.monotonic()

    @_saga.call
    def cancel(self, timeout: float | None = None) -> None:
        """End it."""
        for error in self._service.cancel([self._needed()]).values():
            raise _saga_error(error)

    @_saga.call
    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; return whether it did so in time. A timeout below zero is for ever."""
        until = time.monotonic() + (timeout if timeout >= 0 else float("inf"))
        pause = _FIRST_PAUSE_S
        while not self._is_over():
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return True

    @_saga.call
    def get_id(self) -> str | None:
        """Return SAGA's id."""
        return None if self._batch is None else self._service.full_id(self._batch)

    @_saga.call
    def get_name(self) -> str | None:
        """Return its name."""
        if self._description is not None:
            name: str | None = self._description.name
            return name
        return self._record().name

    @_saga.call
    def get_state(self) -> str:
        """Return its state in SAGA's words."""
        return str(api.NEW) if self._batch is None else self._record().state.value

    @_saga.call
    def get_exit_code(self) -> int | None:
        """Return its exit code; 128 plus the number of the signal, as in shells, if a signal ended it."""
        if self._batch is None:
            return None
        record = self._record()
        return record.exit_code if record.signal is None else 128 + record.signal

    @_saga.call
    def get_created(self) -> float | None:
        """Return when it was submitted, in seconds since the epoch."""
        return None if self._batch is None else self._record().created_at

    @_saga.call
    def get_started(self) -> float | None:
        """Return when it was started."""
        return None if self._batch is None else self._record().started_at

    @_saga.call
    def get_finished(self) -> float | None:
        """Return when it ended."""
        return None if self._batch is None else self._record().ended_at

    @_saga.call
    def get_execution_hosts(self) -> "list[str] | None":
        """Return its nodes."""
        return None if self._batch is None else list(self._record().nodes)

    @_saga.call
    def get_service_url(self) -> Any:
        """Return the scheduler's URL."""
        return self._service.get_url()

    @_saga.call
    def get_description(self) -> Any:
        """Return the description that it was created from."""
        if self._description is None:
            raise saga.IncorrectState(
                f"job {self._batch} was not submitted by this program: its description is unknown"
            )
        return self._description

    def _needed(self) -> str:
        if self._batch is None:
            raise saga.IncorrectState("the job has not been submitted")
        return self._batch

    def _record(self) -> JobRecord:
        if self._final is not None:
            return self._final
        batch = self._needed()
        record = self._service.records([batch])[batch]
        if isinstance(record, JobUnknown) and (self._seen or self._should_be_shown()):
            # The scheduler keeps no history: the job has ended, and nobody knows how.
            record = self._final = JobRecord(batch_id=batch, state=JobState.UNKNOWN, reason=str(record))
        if isinstance(record, AdaptorError):
            raise _saga_error(record)
        self._seen = True
        if record.state in FINAL:
            self._final = record
        return record

    def _is_over(self) -> bool:
        try:
            return self._record().state in FINAL or self._final is not None
        except saga.DoesNotExist:
            if self._submitted_at == -math.inf:
                raise
            return False  # the scheduler may not show it yet

    def _should_be_shown(self) -> bool:
        """Whether the scheduler has had enough time to show the job that this object submitted."""
        return self._submitted_at != -math.inf and time.monotonic() - self._submitted_at > _SHOWN_S


def _attributes(description: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = description.as_dict()
    return found


def _translated(do: Callable[..., T], *words: Any) -> T:
    try:
        return do(*words)
    except (AdaptorError, UsageError, ConfigError) as error:
        raise _saga_error(error) from error


def _saga_error(error: PilotMTCError) -> Exception:
    """Return SAGA's error for one of ours, with ours as its cause."""
    kind: Any = saga.NoSuccess
    match error:
        case UsageError() | SubmitRejected():
            kind = saga.BadParameter
        case ConfigError():
            kind = saga.NotImplemented
        case JobUnknown():
            kind = saga.DoesNotExist
        case StatusUnavailable():
            kind = saga.Timeout
    made: Exception = kind(str(error))
    made.__cause__ = error
    return made
