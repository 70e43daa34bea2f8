"""SAGA's job Service and Job for every dialect: what they say, the one driver does."""

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
_SETTLED_S = 30.0
_HERE = ("", "localhost")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0  # between looks at a job that is waited for


def register() -> None:
    """Let radical.saga use the classes of this file for the schemes of all dialects."""
    _saga.register(_NAME, _registry.schemes(), DialectService, DialectJob)


class DialectService(_saga.Service):  # type: ignore[misc]
    """A scheduler."""

    @_saga.call
    def init_instance(self, adaptor_state: Any, rm_url: Any, session: Any) -> Any:
        """Remember which scheduler this is."""
        more = [rm_url.port, rm_url.username, rm_url.password, rm_url.query, (rm_url.path or "").strip("/")]
        if rm_url.host not in _HERE or any(more):
            raise saga.BadParameter(
                f"{rm_url}: its commands are run on this host; say {rm_url.scheme}://localhost/, and run the program "
                f"where they are"
            )
        self._url = rm_url
        self.session = session
        self.dialect = _asked(_registry.dialect, str(rm_url.scheme).lower())
        service = self.get_api()
        service.bulk = self  # for pilots: many jobs in one call, and what SAGA's records have no room for
        return service

    @_saga.call
    def close(self) -> None:
        """Have nothing to close."""

    @_saga.call
    def get_url(self) -> Any:
        """Return the URL."""
        return self._url

    @_saga.call
    def create_job(self, jd: Any) -> Any:
        """Return a job that has not been submitted."""
        _asked(as_request, _attributes(jd))
        return _saga.new_job(self, self._url.scheme, job_description=jd)

    @_saga.call
    def get_job(self, job_id: str) -> Any:
        """Return a job by its id, which the scheduler must know."""
        url, _, batch = job_id.rpartition("]-[")
        if url and url.lstrip("[").partition(":")[0] != self._url.scheme:
            raise saga.BadParameter(f"{job_id} is no job of {self._url}")
        batch = batch.rstrip("]") if url else job_id
        job = _saga.new_job(self, self._url.scheme, job_id=batch)
        job.get_state()
        return job

    @_saga.call
    def list(self) -> "list[str]":
        """Return the ids of the user's jobs that are not over."""
        return [self.full_id(batch) for batch in _asked(_driver.jobs, self.dialect)]

    def full_id(self, batch: str) -> str:
        """Return SAGA's id of a job."""
        return f"[{self._url}]-[{batch}]"

    # Besides SAGA's, as `service.bulk`:

    @property
    def maps(self) -> frozenset[str]:
        """What the dialect can say of a job: names of `JobRequest`'s fields."""
        return self.dialect.maps

    def find(self, name: str) -> "tuple[str, ...]":
        """Return the scheduler's ids of jobs of that name."""
        return _asked(_driver.find, self.dialect, name)

    def records(self, batches: Sequence[str]) -> dict[str, Status]:
        """Return what the scheduler says of jobs."""
        return _asked(_driver.status, self.dialect, batches)

    def cancel(self, batches: Sequence[str]) -> dict[str, AdaptorError]:
        """End jobs; return errors by id."""
        return _asked(_driver.cancel, self.dialect, batches)


class DialectJob(_saga.Job):  # type: ignore[misc]
    """A job. Once it was seen to be over, the scheduler is not asked for it any more: it would forget.

    One that was there and is not known any more is over, too: its state is ``Unknown``, for nobody knows how it ended.
    """

    @_saga.call
    def init_instance(self, job_info: dict[str, Any]) -> Any:
        """Remember which job this is."""
        self._service: DialectService = job_info["job_service"]
        self._description = job_info.get("job_description")
        self._batch: str | None = job_info.get("job_id")
        self._final: JobRecord | None = None
        self._seen = False  # the scheduler has told of it
        self._taken_at = -math.inf  # when this object submitted it, monotonic
        return self.get_api()

    @_saga.call
    def run(self) -> None:
        """Submit it."""
        if self._batch is not None:
            raise saga.IncorrectState(f"job {self._batch} has been submitted already")
        request = _asked(as_request, _attributes(self._description))
        self._batch = _asked(_driver.submit, self._service.dialect, request)
        self._taken_at = time.monotonic()

    @_saga.call
    def cancel(self, timeout: float | None = None) -> None:
        """End it."""
        for error in self._service.cancel([self._needed()]).values():
            raise _saga_error(error)

    @_saga.call
    def wait(self, timeout: float) -> bool:
        """Return whether it is over, or gets so in time; below zero that is for ever."""
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
        """Return its exit code; 128 and the signal's number, as shells have it, if one ended it."""
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
        """Return the description that it was made of."""
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
        if isinstance(record, JobUnknown) and (self._seen or self._is_settled()):
            # The scheduler keeps no history: it is over, and nobody knows how.
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
            if self._taken_at == -math.inf:
                raise
            return False  # it may not be shown yet

    def _is_settled(self) -> bool:
        """Whether the scheduler has had time enough to show what this object has submitted."""
        return self._taken_at != -math.inf and time.monotonic() - self._taken_at > _SETTLED_S


def _attributes(description: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = description.as_dict()
    return found


def _asked(do: Callable[..., T], *words: Any) -> T:
    try:
        return do(*words)
    except (AdaptorError, UsageError, ConfigError) as error:
        raise _saga_error(error) from error


def _saga_error(error: PilotMTCError) -> Exception:
    """Return SAGA's error for one of ours, which it has as its cause."""
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
