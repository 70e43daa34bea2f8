"""Turn Moab's XML into records."""

import re
from xml.etree import ElementTree

from pilotmtc.errors import StatusUnavailable
from pilotmtc_adaptors._dialect import JobRecord, JobState
from pilotmtc_adaptors._pbs_endings import ending

_STATES = {
    "Idle": JobState.PENDING, "Hold": JobState.PENDING, "UserHold": JobState.PENDING, "SystemHold": JobState.PENDING,
    "BatchHold": JobState.PENDING, "Deferred": JobState.PENDING, "Migrated": JobState.PENDING,
    "Staged": JobState.PENDING, "Staging": JobState.PENDING, "Blocked": JobState.PENDING,
    "Starting": JobState.RUNNING, "Running": JobState.RUNNING, "Canceling": JobState.RUNNING,
    "Suspended": JobState.SUSPENDED,
}  # fmt: skip
_OVER = ("Completed", "Removed", "Vacated")
_CANCELED = "CNCLD"
_NUMBER = re.compile(r"-?[0-9]{1,12}", re.ASCII)


def moab_records(text: str) -> list[tuple[set[str], JobRecord]]:
    """Return the jobs in what ``showq --xml`` or ``checkjob --xml`` wrote, each with all of its ids.

    Raises
    ------
    StatusUnavailable
        If it cannot be understood.
    """
    try:
        root = ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise StatusUnavailable(f"Moab's answer is not XML: {text[:200]!r}") from error
    found = []
    for job in root.iter("job"):
        # A job keeps Moab's own id when a resource manager gives it another.
        ids = {job.get(name, "") for name in ("JobID", "GJID", "SJID", "DRMJID")} - {""}
        if ids:
            found.append((ids, _record(job)))
    return found


def _record(job: ElementTree.Element) -> JobRecord:
    native = job.get("State", "")
    reason = ": ".join(filter(None, (job.get("BlockReason"), job.get("Description"))))
    state, exit_code, signal = _STATES.get(native, JobState.UNKNOWN), None, None
    if native in _OVER:
        state, exit_code, signal, reason = _ending(job, native, reason)
    return JobRecord(
        batch_id=job.get("JobID", ""), state=state, native_state=native, reason=reason, exit_code=exit_code,
        signal=signal, nodes=_nodes(job), created_at=_time(job, "SubmissionTime"), started_at=_time(job, "StartTime"),
        ended_at=_time(job, "CompletionTime") if native in _OVER else None, name=job.get("JobName", ""),
    )  # fmt: skip


def _ending(job: ElementTree.Element, native: str, reason: str) -> tuple[JobState, int | None, int | None, str]:
    """Return state, exit code, signal and reason of a job that has ended."""
    code, used, wanted = job.get("CompletionCode", ""), _number(job, "AWDuration"), _number(job, "ReqAWDuration")
    if native == "Vacated":
        return JobState.FAILED, None, None, reason or "vacated: its nodes were given to another job"
    if native == "Removed" and used and wanted and used >= wanted:
        # Jobs that Moab ended and jobs that a user canceled have the same code.
        return JobState.FAILED, None, None, "killed: it reached its walltime"
    if code.startswith(_CANCELED) or (native == "Removed" and (code == "0" or not _NUMBER.fullmatch(code))):
        return JobState.CANCELED, None, None, reason or "canceled"
    if not _NUMBER.fullmatch(code):
        return JobState.FAILED, None, None, reason or f"Moab does not say how it ended: {code!r}"
    return ending(int(code), reason, deleted=False, pro=False)


def _nodes(job: ElementTree.Element) -> tuple[str, ...]:
    """Return the names in "n1:12,n2:12" of a job's requirements, or its first node if there are none."""
    lists = (request.get("AllocNodeList", "") for request in job.iter("req"))
    names = [each.partition(":")[0].strip() for text in lists for each in text.split(",")]
    return tuple(dict.fromkeys(filter(None, names or [job.get("MasterHost", "")])))


def _number(job: ElementTree.Element, name: str) -> int:
    value = job.get(name, "")
    return int(value) if _NUMBER.fullmatch(value) else 0


def _time(job: ElementTree.Element, name: str) -> float | None:
    seconds = _number(job, name)
    return float(seconds) if seconds > 0 else None
