"""Schedulers, through radical.saga's job API and the adaptors registered with it. The only file that imports it."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any

from msgspec import Struct

from pilotmtc.agent.core.walltime_warning import warning_s
from pilotmtc.errors import AdaptorError, ConfigError, JobUnknown, StatusUnavailable, SubmitRejected
from pilotmtc.model import BatchId, PilotDescription
from pilotmtc.states import JobState
from pilotmtc.store.location import runtime_dir

GROUP = "pilotmtc.adaptors"
_DIALECTS = "pilotmtc.dialects"
_NO_ADAPTOR = "No adaptor found"  # SAGA's words
_STATES = {
    "New": JobState.PENDING,
    "Pending": JobState.PENDING,
    "Running": JobState.RUNNING,
    "Suspended": JobState.RUNNING,
    "Done": JobState.DONE,
    "Failed": JobState.FAILED,
    "Canceled": JobState.CANCELED,
}


class JobStatus(Struct, frozen=True):
    """What the scheduler reports about a job."""

    state: JobState
    native_state: str = ""
    reason: str = ""
    exit_code: int | None = None


class Scheduler:
    """A scheduler, by its SAGA URL; raises `ConfigError` if the URL is wrong.

    All methods raise `StatusUnavailable` if the scheduler cannot be asked, and `ConfigError` without its commands.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._saga = _load()
        try:
            self._service = self._saga.job.Service(url)
        except self._saga.SagaException as error:  # the scheduler has not been asked yet, so the URL is wrong
            words = _words(error)
            if words.startswith(_NO_ADAPTOR):
                words = f"{url} is not a known scheduler: choose one of {', '.join(_dialects())}"
            raise ConfigError(words) from error
        # SAGA's service lacks questions about many jobs, and native states: the adaptor adds both.
        self._bulk: Any = getattr(self._service, "bulk", None)
        if self._bulk is None:
            raise ConfigError(
                f"the adaptor for {url} cannot run pilots: its services have no `bulk` (docs/adaptors.md)"
            )

    def __enter__(self) -> "Scheduler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.close()

    def submit(self, name: str, script: Path, directory: Path, pilot: PilotDescription) -> BatchId:
        """Submit a pilot's job and return its id.

        Raises
        ------
        SubmitRejected
            If the scheduler or its adaptor refuses.
        """
        with self._translated(SubmitRejected):
            job = self._service.create_job(self._describe(name, script, directory, pilot))
            job.run()
            return _batch(job.id)

    def preview(self, name: str, script: Path, directory: Path, pilot: PilotDescription) -> tuple[tuple[str, ...], str]:
        """Return the command that `submit` would run, and what it would read; the command is empty if nobody knows.

        Raises
        ------
        SubmitRejected
            If the adaptor refuses.
        """
        look = getattr(self._bulk, "preview", None)
        if look is None:
            return (), ""
        with self._translated(SubmitRejected):
            command, text = look(self._describe(name, script, directory, pilot))
        return tuple(command), str(text)

    def find(self, name: str) -> list[BatchId]:
        """Return the jobs of this name that the scheduler still knows, oldest first."""
        with self._translated():
            return [BatchId(batch) for batch in self._bulk.find(name)]

    def status(self, batches: Sequence[BatchId]) -> dict[BatchId, JobStatus | AdaptorError]:
        """Ask about all jobs at once; return the status of each, or the error."""
        with self._translated():
            records = self._bulk.records(list(batches))
        return {batch: _job_status(batch, records[batch]) for batch in batches}

    def cancel(self, batches: Sequence[BatchId]) -> dict[BatchId, AdaptorError]:
        """Cancel jobs; return errors by job. Jobs that have ended are left alone."""
        with self._translated():
            errors = self._bulk.cancel(list(batches))
        return {BatchId(batch): error for batch, error in errors.items() if not isinstance(error, JobUnknown)}

    def _describe(self, name: str, script: Path, directory: Path, pilot: PilotDescription) -> Any:
        description = self._saga.job.Description()
        description.name = name
        description.executable = "/bin/sh"
        description.arguments = [str(script)]
        description.working_directory = str(directory)
        description.output = str(directory / "agent.log")
        if pilot.walltime_s:
            description.wall_time_limit = max(1, math.ceil(pilot.walltime_s / 60))
        if pilot.cores:
            description.total_cpu_count = pilot.cores * pilot.nodes
        if pilot.queue:
            description.queue = pilot.queue
        if pilot.account:
            description.project = pilot.account
        # Without a number of cores, ask for whole nodes if the scheduler can give them.
        whole = not pilot.cores and "exclusive" in self._bulk.maps
        extras: dict[str, object] = {"nodes": pilot.nodes}
        extras |= {
            key: value
            for key, value in {
                "gpus_per_node": pilot.gpus,
                "memory_per_node_bytes": pilot.memory_bytes,
                "qos": pilot.qos,
                "constraint": pilot.constraint,
                "reservation": pilot.reservation,
                "exclusive": pilot.exclusive or whole,
                "signal_s": warning_s(pilot),
            }.items()
            if value
        }
        description.system_architecture = extras
        return description

    @contextlib.contextmanager
    def _translated(self, refused: type[AdaptorError] = StatusUnavailable) -> Iterator[None]:
        saga = self._saga
        try:
            yield
        except saga.NotImplemented as error:
            raise ConfigError(_words(error)) from error
        except (saga.Timeout, saga.NoSuccess) as error:
            raise StatusUnavailable(_words(error)) from error
        except saga.SagaException as error:
            raise refused(_words(error)) from error


def _job_status(batch: BatchId, said: Any) -> JobStatus | AdaptorError:
    if isinstance(said, JobUnknown):
        return JobStatus(JobState.GONE)
    if isinstance(said, AdaptorError):
        return said
    state = _STATES.get(said.state)
    if state is None:
        return StatusUnavailable(f"job {batch} is {said.native_state}, which is not understood")
    return JobStatus(state, said.native_state, said.reason, said.exit_code)


def _load() -> Any:
    """Return radical.saga with all adaptors that are installed for pilotmtc."""
    # Otherwise it writes into the home directory and the current one. Stewards may be killed at any time, and the files
    # that they leave must not pile up.
    base = os.path.join(runtime_dir(), "saga")
    os.makedirs(base, mode=0o700, exist_ok=True)
    os.environ |= {"RADICAL_BASE": base, "RADICAL_LOG_LVL": "OFF", "RADICAL_LOG_TGT": "null"}
    # Nothing here forks while it holds locks. Without this, it replaces os.fork and warns about older loggers.
    os.environ["RADICAL_UTILS_NO_ATFORK"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a library that it imports leaves a file open
        from radical import saga  # type: ignore[import-untyped]

    for entry in entry_points(group=GROUP):
        try:
            entry.load()()
        except ImportError as error:
            raise ConfigError(f"the adaptor {entry.name} ({entry.value}) cannot be loaded: {error}") from error
    return saga


def _dialects() -> list[str]:
    return sorted({entry.name for entry in entry_points(group=_DIALECTS)})


def _batch(id_: str) -> BatchId:
    return BatchId(id_.rpartition("]-[")[2].rstrip("]"))


def _words(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
