"""A steward: a process that deals with one scheduler for the store, once: it submits pilots and asks about their jobs.

The store's server starts it as ``boot.py pilotmtc.pilots.steward URL``, and it is a client of the server over its stdin
and stdout. It may be killed at any time: the store records each submission before it is made, and the next steward
looks for the job by its name before it submits it again.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from pilotmtc.agent.crews.start_workers import HOSTS_VARIABLE
from pilotmtc.agent.guard import sweep
from pilotmtc.agent.leftovers import send_spool
from pilotmtc.agent.node.capture import tail
from pilotmtc.boot import program
from pilotmtc.errors import AdaptorError, ChannelClosed, ConfigError, PilotMTCError, SubmitRejected, UsageError
from pilotmtc.model import BatchId
from pilotmtc.pilots.batch import adopt
from pilotmtc.pilots.scheduler import JobStatus, Scheduler
from pilotmtc.pilots.script import job_script
from pilotmtc.pilots.store_access import give_access
from pilotmtc.protocol.client.maintenance import RevokeKey
from pilotmtc.protocol.records import Job, JobReport
from pilotmtc.protocol.steward import BeginSubmit, GetJobs, ReportJobs
from pilotmtc.sites import LOCAL
from pilotmtc.states import PILOT_FINAL, JobState, PilotState
from pilotmtc.store.access.keys import pilot_key_name
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.interface import Store
from pilotmtc.store.server.stewards import CONTROL_FD
from pilotmtc.system import private_files
from pilotmtc.system.locale import speak_utf8
from pilotmtc.transport.channel import Channel

log = logging.getLogger("pilotmtc.pilots")

# How long an interrupted submission may still take to reach the scheduler.
_SETTLE_S = 10.0
_LOG_BYTES = 1500
_LIVING = frozenset({JobState.PENDING, JobState.RUNNING})


def job_name(key: str) -> str:
    """Return the name of the job of the pilot with this key."""
    return f"pilotmtc-{key}"


class Round:
    """One round with the scheduler at `url`, for the pilots in `store`."""

    def __init__(self, store: Store, url: str, scheduler: Scheduler) -> None:
        self._store = store
        self._url = url
        self._scheduler = scheduler
        self._path = ""

    def run(self) -> None:
        """Run the round."""
        found = self._store.call(GetJobs(self._url))
        self._path = found.path
        adopt(os.environ, [job.description.environ for job in found.jobs])
        try:
            self._ask(found.jobs)
        except (AdaptorError, ConfigError) as error:  # of the scheduler itself; those of one pilot are handled below
            self._store.call(ReportJobs(self._url, trouble=str(error)))
        # Remove the key as soon as the pilot has ended. Its job may take longer, and then there may be no steward.
        still = {job.pilot: job for job in self._store.call(GetJobs(self._url)).jobs}
        for job in found.jobs:
            if job.pilot not in still or still[job.pilot].over:
                self._store.call(RevokeKey(pilot_key_name(job.key)))

    def _ask(self, jobs: Sequence[Job]) -> None:
        known = {job.batch: job for job in jobs if job.batch is not None}
        new = [job for job in jobs if job.batch is None and not job.submits and job.state is PilotState.NEW]
        for job in jobs:
            if job.batch is None and job.submits and job.waited_s >= _SETTLE_S:
                with self._alone(job):
                    if (batch := self._find(job)) is not None:
                        known[batch] = job
                        self._report([JobReport(job.pilot, JobState.PENDING, batch)])
                    elif job.cancel or job.state is not PilotState.NEW:
                        self._report([JobReport(job.pilot, JobState.GONE)])
                    else:
                        new.append(job)
        if known:
            self._look(known)
        for job in new:
            if not job.cancel:
                with self._alone(job):
                    self._submit(job)

    @contextlib.contextmanager
    def _alone(self, job: Job) -> Iterator[None]:
        """Report an error as this pilot's, and continue with the others."""
        try:
            yield
        except AdaptorError as error:
            self._store.call(ReportJobs(self._url, troubles={job.pilot: str(error)}))

    def _find(self, job: Job) -> BatchId | None:
        """Return the job that an earlier steward has submitted; cancel duplicates of it."""
        batches = self._scheduler.find(job_name(job.key))
        if len(batches) > 1:
            log.warning("pilot %d has several jobs: %s; all but the first are canceled", job.pilot, " ".join(batches))
            for error in self._cancel(batches[1:]).values():
                log.warning("%s", error)
        return batches[0] if batches else None

    def _cancel(self, batches: Sequence[BatchId]) -> dict[BatchId, AdaptorError]:
        """Cancel jobs; return the errors by job."""
        try:
            return self._scheduler.cancel(batches)
        except AdaptorError as error:
            return dict.fromkeys(batches, error)

    def _look(self, known: dict[BatchId, Job]) -> None:
        """Ask about all jobs at once, cancel some if requested, and report."""
        seen = self._scheduler.status(list(known))
        doomed = [
            batch
            for batch, job in known.items()
            if job.cancel and isinstance(status := seen[batch], JobStatus) and status.state in _LIVING
        ]
        left: dict[BatchId, AdaptorError] = {}
        if doomed:
            left = self._cancel(doomed)
            seen |= self._scheduler.status(doomed)
        reports, troubles = [], {}
        for batch, job in known.items():
            match seen[batch]:
                case JobStatus() as status:
                    if job.attached and status.state not in _LIVING:
                        send_spool(self._store, job.pilot, Path(job.directory))  # results that its agent could not send
                    reports.append(self._as_report(job, batch, status))
                    if batch in left and status.state in _LIVING:
                        troubles[job.pilot] = str(left[batch])
                case error:
                    troubles[job.pilot] = str(error)
        self._store.call(ReportJobs(self._url, tuple(reports), troubles=troubles))

    def _as_report(self, job: Job, batch: BatchId, seen: JobStatus) -> JobReport:
        unborn = not job.attached and seen.state is not JobState.PENDING and job.state not in PILOT_FINAL
        return JobReport(
            job.pilot, seen.state, batch, seen.native_state, seen.reason, seen.exit_code,
            _end_of_log(Path(job.directory)) if unborn else "",
        )  # fmt: skip

    def _report(self, reports: Sequence[JobReport]) -> None:
        self._store.call(ReportJobs(self._url, tuple(reports)))

    def _submit(self, job: Job) -> None:
        if not self._store.call(BeginSubmit(job.pilot, job.submits)).changed:
            return  # it was canceled in the meantime
        try:
            script = self._prepare(job)
            batch = self._scheduler.submit(job_name(job.key), script, Path(job.directory), job.description)
        except (SubmitRejected, UsageError, ConfigError) as error:
            self._report([JobReport(job.pilot, JobState.REJECTED, native_state="REJECTED", reason=str(error))])
            return
        log.info("pilot %d is job %s of %s", job.pilot, batch, self._url)
        self._report([JobReport(job.pilot, JobState.PENDING, batch)])

    def _prepare(self, job: Job) -> Path:
        """Write the files of the job into its directory; return its script."""
        directory = Path(job.directory)
        script = directory / "job.sh"
        try:
            base = Path(f"{self._path}.d")
            private_files.make_below(base if directory.is_relative_to(base) else directory, directory)
            agent = program(
                "pilotmtc.agent", "--store", give_access(self._path, job), "--pilot", str(job.pilot),
                "--directory", job.directory, "--allocation",
            )  # fmt: skip
            environment = {name: os.environ[name] for name in ("PYTHONPATH",) if os.environ.get(name)}
            if job.description.scheduler.startswith(f"{LOCAL}:"):  # no scheduler sets it
                environment[HOSTS_VARIABLE] = "local:1"
            script.write_text(job_script(agent, setup=job.description.setup, environment=environment))
            script.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"the pilot's directory {directory} cannot be made: {error.strerror}") from error
        return script


def refuse(store: Store, url: str, reason: str) -> None:
    """Reject pilots that have not been submitted, because the scheduler at `url` does not exist; report the reason."""
    new = [job for job in store.call(GetJobs(url)).jobs if job.state is PilotState.NEW and not job.submits]
    store.call(ReportJobs(url, tuple(JobReport(job.pilot, JobState.REJECTED, reason=reason) for job in new), reason))


def _end_of_log(directory: Path) -> str:
    """Return the end of a job's output; with HTCondor, each node has a file of its own."""
    path = directory / "agent.log"
    data, _ = tail(str(path if path.exists() else directory / "agent.log.0"), _LOG_BYTES)
    return data.decode("utf-8", "replace").strip()


class _Stream:
    """Stdin and stdout, which are the same socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))

    def read(self, n: int) -> bytes:
        try:
            return self._socket.recv(n)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ChannelClosed(f"the store's server has gone: {error.strerror}") from error

    def moved(self) -> int:
        return 0  # the server is on this host, and takes data at once

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the server has gone
            return

    def last_words(self) -> str:
        return ""


def _leave(code: int) -> None:
    """Exit at once, and kill all child processes: a hanging scheduler command must not outlive this process."""
    sweep()
    os._exit(code)


def _watch_server(over: threading.Event) -> None:
    select.select([CONTROL_FD], [], [])  # it is never written to, but closes when the server ends
    if not over.is_set():  # otherwise the server closed it because this process has finished
        _leave(1)


def _connect_once() -> "StoreClient":
    streams = [_Stream()]

    def connect() -> Channel:
        if not streams:
            raise ConfigError("the store's server has gone")  # trying again would not help
        return streams.pop()

    return StoreClient(connect, patience_s=30.0)


def main(argv: Sequence[str]) -> int:
    """Ask the scheduler at the URL in `argv`; return the exit code."""
    (url,) = argv
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level=logging.INFO)
    os.set_inheritable(CONTROL_FD, False)

    def terminated(_number: int, _frame: FrameType | None) -> None:
        _leave(1)

    signal.signal(signal.SIGTERM, terminated)
    over = threading.Event()
    threading.Thread(target=_watch_server, args=(over,), name="watch-server", daemon=True).start()
    try:
        with _connect_once() as client:
            try:
                scheduler = Scheduler(url)
            except ConfigError as error:
                refuse(client, url, str(error))
            else:
                with scheduler:
                    Round(client, url, scheduler).run()
            over.set()
    except PilotMTCError as error:
        log.error("asking %s: %s", url, error)
        return 1
    return 0


if __name__ == "__main__":
    speak_utf8()
    sys.exit(main(sys.argv[1:]))
