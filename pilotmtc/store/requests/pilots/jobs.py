"""Jobs of pilots: which ones to ask schedulers about, and what schedulers report."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import Struct

from pilotmtc.model import BatchId, PilotId
from pilotmtc.protocol.base import Changed, Done
from pilotmtc.protocol.records import Job, JobReport
from pilotmtc.protocol.steward import BeginSubmit, GetJobs, Jobs, ReportJobs
from pilotmtc.states import PILOT_FINAL, JobState, PilotState
from pilotmtc.store.file.pilot_status import move_pilot, pilot_status
from pilotmtc.store.file.sql import IN_LIST, id_list, in_states
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.look.query import decode_pilot
from pilotmtc.store.requests.pilots.pilots import end
from pilotmtc.store.requests.pilots.reconcile import LIVING, NOT_HEARD, judge, why_waiting

# An agent needs a moment to exit after it has ended its pilot; then its job is canceled.
_LEAVES_WITHIN_S = 20.0
_WATCHED = "FROM pilot INDEXED BY pilot_watched WHERE watched = 1"
# All pilots to ask schedulers about, and whether the scheduler must still be told about their end.
_OPEN_JOBS = f"""SELECT scheduler, id, state, kill, reason != ? AND trouble = '' AND coalesce(asked_at, 0) < ended_at
    {_WATCHED}"""
# The pilots to ask a given scheduler about.
_JOBS = f"""SELECT id, key, state, description, directory, batch, submits, submitted_at, kill, seen_at, ended_at, reason
    {_WATCHED} AND scheduler = ? ORDER BY id"""
# Of the pilots with these keys, those that have ended and about which no scheduler is asked any more.
_LEFT_KEYS = f"""SELECT id FROM pilot WHERE key {IN_LIST} AND watched = 0 AND scheduler != ''
    AND state {in_states(PILOT_FINAL)}"""
_WATCH = f"UPDATE pilot SET watched = 1 WHERE id {IN_LIST}"
# Note that a pilot is about to be submitted, unless that has happened or is no longer wanted.
_BEGIN_SUBMIT = f"""UPDATE pilot SET submits = submits + 1, submitted_at = ?
    WHERE id = ? AND submits = ? AND state = {PilotState.NEW:d} AND kill = 0 AND batch IS NULL"""
_SET_TROUBLE = "UPDATE pilot SET trouble = ? WHERE id = ? AND watched = 1"
# Note why a scheduler could not be asked about all pilots except some.
_SET_TROUBLE_OF_OTHERS = f"""UPDATE pilot SET trouble = ? WHERE scheduler = ? AND watched = 1 AND trouble != ?
    AND id NOT {IN_LIST}"""
_LAST_REPORT = "SELECT native_state, batch, submitted_at FROM pilot WHERE id = ?"
_REPORT = """UPDATE pilot SET batch = coalesce(?, batch), native_state = ?, exit_code = ?, job = ?, asked_at = ?,
    trouble = '', watched = ? WHERE id = ?"""
_SET_REASON = "UPDATE pilot SET reason = ? WHERE id = ?"


class OpenJobs(Struct, frozen=True):
    """Why to ask a scheduler: it must still be told something (`untold`), or the agent of a pilot is silent."""

    untold: bool = False
    silent: bool = False


class _OpenJob(NamedTuple):
    """A pilot about which to ask a scheduler; a row of `_OPEN_JOBS`.

    Attributes
    ----------
    unasked
        Whether the scheduler has not been asked since the pilot ended.
    """

    scheduler: str
    pilot: PilotId
    state: int
    kill: int
    unasked: int

    @property
    def untold(self) -> bool:
        """Whether the scheduler must still be told something: to start the job, to cancel it, or to end it."""
        return self.state == PilotState.NEW or bool(self.unasked if self.state in PILOT_FINAL else self.kill)


class _LastReport(NamedTuple):
    """What a scheduler has last reported about a pilot; a row of `_LAST_REPORT`."""

    native_state: str
    batch: str | None
    submitted_at: float | None


def open_jobs(tx: Transaction) -> dict[str, OpenJobs]:
    """Return the schedulers that must be asked about pilots."""
    found: dict[str, OpenJobs] = {}
    for job in map(_OpenJob._make, tx.execute(_OPEN_JOBS, (NOT_HEARD,))):
        before = found.get(job.scheduler, OpenJobs())
        silent = before.silent or tx.leases.is_alarming(job.pilot)
        found[job.scheduler] = OpenJobs(before.untold or job.untold, silent)
    return found


@handles(GetJobs)
def get_jobs(tx: Transaction, request: GetJobs) -> Jobs:
    """Return the pilots to ask a scheduler about, and what to do with their jobs."""
    now = tx.clock.now()
    rows = tx.execute(_JOBS, (request.scheduler,))
    return Jobs(tx.store_path, tuple([_job(row, now) for row in rows]))


def _job(row: tuple[Any, ...], now: float) -> Job:
    """Return the record of a row of `_JOBS`."""
    id_, key, state, description, directory, batch, submits, submitted, kill, seen, ended, reason = row
    has_ended = state in PILOT_FINAL and reason != NOT_HEARD
    return Job(
        PilotId(id_), key, PilotState(state), decode_pilot(description), directory,
        BatchId(batch) if batch is not None else None, submits, now - (submitted or now),
        bool(kill) or (has_ended and now - ended > _LEAVES_WITHIN_S), seen is not None, has_ended,
    )  # fmt: skip


def left_keys(tx: Transaction, keys: Iterable[str]) -> list[PilotId]:
    """Return the pilots with these keys that have ended and about which no scheduler is asked any more."""
    rows = tx.execute(_LEFT_KEYS, (json.dumps(list(keys)),))
    return [PilotId(id_) for (id_,) in rows]


def watch_again(tx: Transaction, pilots: Iterable[PilotId]) -> None:
    """Have schedulers asked about pilots once more, so that a steward removes the keys of those that have ended."""
    tx.execute(_WATCH, (id_list(pilots),))


@handles(BeginSubmit)
def begin_submit(tx: Transaction, request: BeginSubmit) -> Changed:
    """Record that the scheduler may know the pilot from now on."""
    done = tx.execute(_BEGIN_SUBMIT, (tx.clock.now(), request.pilot, request.submits))
    return Changed(done.rowcount)


@handles(ReportJobs)
def report_jobs(tx: Transaction, request: ReportJobs) -> Done:
    """Record a scheduler's report, and end pilots whose jobs have ended."""
    for report in request.reports:
        _report(tx, report)
    if request.trouble:
        tx.execute(
            _SET_TROUBLE_OF_OTHERS,
            (request.trouble, request.scheduler, request.trouble, id_list(one.pilot for one in request.reports)),
        )
    for pilot, trouble in request.troubles.items():
        tx.execute(_SET_TROUBLE, (trouble, pilot))
    return Done()


def _report(tx: Transaction, report: JobReport) -> None:
    status = pilot_status(tx, report.pilot)
    now = tx.clock.now()
    last = _LastReport(*tx.execute(_LAST_REPORT, (report.pilot,)).fetchone())
    decision = judge(status.state, report, kill=status.kill, waited_s=now - (last.submitted_at or now))
    tx.execute(
        _REPORT,
        (
            report.batch,
            report.native_state or last.native_state,
            report.exit_code,
            int(report.state),
            now,
            decision.watch,
            report.pilot,
        ),
    )
    if report.native_state not in ("", last.native_state) or (report.batch or last.batch) != last.batch:
        tx.wakeups.ask_scheduler(status.scheduler, at_once=False)
    if decision.end is not None:
        end(tx, report.pilot, status, decision.end)
        return
    why = status.reason
    if status.state in (PilotState.NEW, PilotState.PENDING):
        if status.state is PilotState.NEW:
            move_pilot(tx, report.pilot, PilotState.NEW, PilotState.PENDING)
        why = why_waiting(report) if report.state is JobState.RUNNING else report.reason
    elif status.state not in PILOT_FINAL and report.state not in LIVING:
        why = report.reason  # how the pilot ends if its agent stays silent
    if why != status.reason:
        tx.execute(_SET_REASON, (why, report.pilot))
